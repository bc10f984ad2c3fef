//! A virtqueue as the front-end describes it.

use std::sync::Arc;

use crate::sys::EventFd;

/// The longest ring the specification allows.
pub const SIZE_MAX: u16 = 32768;

/// A virtqueue as the front-end describes it.
#[derive(Clone, Debug)]
pub struct QueueSpec {
    /// Virtqueue index: even ones the guest receives from, odd ones it transmits to.
    pub index: u16,
    /// Entries: a power of two, [`SIZE_MAX`] at most.
    pub size: u16,
    /// Front-end address of the descriptor table.
    pub desc: u64,
    /// Front-end address of the available ring.
    pub avail: u64,
    /// Front-end address of the used ring.
    pub used: u64,
    /// Position the front-end asks to start at. The used index in memory wins; see
    /// [`super::SplitRing::base`].
    pub base: Option<u16>,
    /// Where the guest wants to be called.
    pub call: Option<Arc<EventFd>>,
    /// Where the guest kicks.
    pub kick: Option<Arc<EventFd>>,
    /// Where the front-end wants to hear of a queue that stopped.
    pub err: Option<Arc<EventFd>>,
    /// The front-end has disabled it after it had run: what the guest sends by it is taken and
    /// dropped.
    pub discards: bool,
}

/// What was negotiated about rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingOptions {
    /// VIRTIO_F_EVENT_IDX.
    pub event_idx: bool,
    /// VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
}
