//! A guest's port: its transmit virtqueues are received from, its receive virtqueues are
//! transmitted to.
//!
//! - [`rx`]: chains of a transmit virtqueue to frames of a burst
//! - [`tx`]: a receive virtqueue, and its room for frames; `stash`, `buffers`: its buffers, read
//!   ahead; `deliver`: frames of a burst into them
//! - `ahead`: chains that are looked at before their turn
//! - `features`: those that are offered
//! - [`scatter`]: the same for frames and buffers in several parts

mod ahead;
mod buffers;
mod deliver;
mod features;
pub mod rx;
pub mod scatter;
mod stash;
pub mod tx;

pub(crate) use buffers::FEW_DESCRIPTORS;
pub use features::{FEATURES, Features};
pub use rx::VhostRx;
pub use tx::VhostTx;
