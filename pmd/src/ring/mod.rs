//! Descriptors in memory that others write: one file per kind of ring.
//!
//! - [`split`]: the split virtqueue, device side: indexes, descriptors, used entries, notifications
//! - [`chain`]: a descriptor chain, walked once, into pieces of guest memory
//! - [`xsk`]: the four rings of an AF_XDP socket, and who owns its frames; [`xsk_peer`]: the kernel's half of them, in memory

pub mod chain;
pub mod split;
pub mod xsk;
pub mod xsk_peer;

pub use split::{QueueSpec, SplitRing};
