//! Descriptors in memory that others write: one file per kind of ring.
//!
//! - [`split`]: the split virtqueue, device side: indexes, descriptors, used entries, notifications
//! - [`chain`]: a descriptor chain, walked once, into pieces of guest memory
//! - [`xsk`]: the four rings of an AF_XDP socket; [`frames`]: who owns what is in them; [`xsk_peer`]:
//!   the kernel's half, in memory

pub mod chain;
pub mod frames;
pub mod split;
pub mod xsk;
pub mod xsk_peer;

/// Descriptors that are taken off a ring, or put on it, together: frames in a burst.
pub const BURST_MAX: usize = 32;

pub use split::{QueueSpec, SplitRing};
