//! From decisions to destinations.
//!
//! - `dispatch`: a burst, frame after frame
//! - `sender`: what that needs, and the destinations that a burst has locked
//! - `reserve`, `commit`: places at a destination, and the copy into them
//! - `outcome`: what becomes of frames
//! - `blocked`: what becomes of those that can't go now: for how long they wait, and when they are
//!   dropped; `give_back`: reservations that are of no use any more
//! - `flood`: the copies of a flooded frame
//! - `over_limit`: which frames wait where for a VM at its limit; `held`: what has waited there

mod blocked;
mod commit;
mod dispatch;
mod flood;
mod give_back;
mod held;
mod outcome;
mod over_limit;
#[cfg(test)]
mod pause_tests;
mod reserve;
mod sender;

pub(crate) use give_back::give_back;
pub(crate) use outcome::{Block, Sent};
pub(crate) use sender::Sender;
