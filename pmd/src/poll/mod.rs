//! What one core does, turn after turn.
//!
//! - `turn`: the loop
//! - [`idle`]: how a core that finds nothing goes to sleep
//! - [`mailbox`]: how values travel between control and a core

pub mod idle;
pub mod mailbox;
mod turn;

pub use turn::{Core, Turn};
pub(crate) use turn::{earliest, next_burst};
