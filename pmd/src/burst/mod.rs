//! Frames on their way.
//!
//! - [`frames`]: what one receive queue had, up to [`BURST_MAX`]
//! - `writer`: how a queue fills it
//! - [`checksum`]: partial ones of senders on this machine

pub mod checksum;
pub mod frames;
mod writer;

pub use frames::{BURST_BYTES_MAX, BURST_MAX, Burst, COPIED_BYTES_MAX, COPIES_MAX};
pub(crate) use writer::BurstWriter;
