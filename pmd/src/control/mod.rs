//! Control's side of all cores.
//!
//! - [`cores`]: ports come up and go down here
//! - `spaced`: work of control that holds up cores

pub mod cores;
pub(crate) mod spaced;

pub use cores::Fleet;
