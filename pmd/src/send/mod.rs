//! From decisions to destinations.
//!
//! - `sender`: reserve for each frame in order, then copy and publish, one visit to each destination
//! - `flood`: the copies of a flooded frame
//! - `blocked`: what becomes of frames that can't go now: for how long they wait, and when they are
//!   dropped
//! - `over_limit`: what waits for a VM at its limit
//! - `reserved`: how a turn is given back that its queue has no use for any more

pub(crate) mod blocked;
pub(crate) mod flood;
mod over_limit;
#[cfg(test)]
mod pause_tests;
pub(crate) mod reserved;
mod sender;

pub(crate) use blocked::{Block, Wait, destination, lock_at, slot_of};
pub(crate) use over_limit::Over;
pub(crate) use sender::{OUTS_MAX, Out, Sender, TXQS_MAX, Views, Way, alike, queue_of};
