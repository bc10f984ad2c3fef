//! Control's side of all cores.
//!
//! - [`cores`]: all of them, and what they report
//! - [`exist`]: which ports and networks there are; [`change`]: how they change while they are up
//! - `up_down`: how ports come up and go down; `books`: what control remembers of them
//! - `port`: what a switch is made of, and a port as it comes up and goes down
//! - `spaced`: work of control that holds up cores

mod books;
pub mod change;
pub mod cores;
pub mod exist;
mod port;
mod spaced;
mod up_down;

pub use cores::Cores;
pub use port::{CoresOptions, PortDown, PortUp};
