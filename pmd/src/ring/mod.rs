//! Descriptors in memory that others write: one file per kind of ring.
//!
//! - [`split`]: the split virtqueue, device side: indexes, descriptors, used entries, notifications
//! - [`chain`]: a descriptor chain, walked once, into pieces of guest memory
//! - [`xsk`]: AF_XDP sockets

pub mod chain;
pub mod split;
pub mod xsk;

/// Descriptors that are taken off a ring, or put on it, together: frames in a burst.
pub const BURST_MAX: usize = 32;

pub use xsk::{halves as frames, peer as xsk_peer};

pub use split::{QueueSpec, SplitRing};
