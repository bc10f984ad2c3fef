//! Descriptors in memory that others write: one file per kind of ring.
//!
//! - [`split`]: the split virtqueue, device side: indexes, descriptors, used entries, notifications
//! - [`chain`]: a descriptor chain, walked once, into pieces of guest memory

pub mod chain;
pub mod split;

pub use split::{QueueSpec, SplitRing};
