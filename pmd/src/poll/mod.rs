//! What one core does, turn after turn.
//!
//! - `turn`: the loop; `outcome`: what a turn came to
//! - `core`: a core, and what it is made of
//! - `wait`: queues that are not looked at before their receiver has room; `scan`: the look at what
//!   is behind the burst of one that is blocked
//! - `release`: frames that wait at limits
//! - `commands`: what control wants; [`mailbox`]: how that travels
//! - `replace`: a port that changes while it is up; `forget`: one that is gone
//! - `parcel`: a receive queue on its way to another core; `end`: how a core ends
//! - [`idle`]: how a core that finds nothing goes to sleep

mod commands;
mod core;
mod end;
mod forget;
pub mod idle;
pub mod mailbox;
mod outcome;
pub(crate) mod parcel;
mod release;
mod replace;
mod scan;
mod turn;
mod wait;

pub use self::core::Core;
pub use outcome::Turn;
