//! Descriptors in memory that others write: one file per kind of ring.
//!
//! - [`split`]: the split virtqueue, device side: indexes, descriptors, used entries; `notify`: its
//!   notifications
//! - [`spec`]: a virtqueue as the front-end describes it; `descriptor`: one of its descriptors
//! - [`chain`]: a descriptor chain, walked once, into pieces of guest memory
//! - [`xsk`]: the four rings of an AF_XDP socket

pub mod chain;
pub(crate) mod descriptor;
mod notify;
pub mod spec;
pub mod split;
pub mod xsk;

pub use spec::{QueueSpec, RingOptions};
pub use split::SplitRing;

/// Descriptors that are taken off a ring, or put on it, together: frames in a burst.
pub const BURST_MAX: usize = 32;
/// Pieces that one burst or one chain may have.
pub const PIECES_MAX: usize = 1024;
