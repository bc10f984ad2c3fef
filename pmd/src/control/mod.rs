//! Control's side of all cores.
//!
//! - [`cores`]: all of them, and what they report; `slots`: what control shares with each
//! - [`exist`]: which ports and networks there are; [`change`]: how they change while they are up
//! - `up_down`: how ports come up and go down; `books`: what control remembers of them
//! - `moves`: how receive queues move from core to core; `completed`: what they wait for; `spread`:
//!   which should be where
//! - `add_remove`: how cores come and go
//! - `watch`: which core a queue's kicks wake
//! - `load`: what each receive queue takes of its core
//! - `port`: what a switch is made of, and a port as it comes up and goes down
//! - `spaced`: work of control that holds up cores

mod add_remove;
mod books;
pub mod change;
mod completed;
pub mod cores;
pub mod exist;
mod load;
mod moves;
mod port;
mod slots;
mod spaced;
mod spread;
mod up_down;
mod watch;

pub use add_remove::RemoveError;
pub use cores::Cores;
pub use load::QueueLoad;
pub use moves::MoveError;
pub use port::{CoresOptions, PortDown, PortUp};
