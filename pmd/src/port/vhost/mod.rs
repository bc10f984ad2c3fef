//! A guest's port: its transmit virtqueues are received from, its receive virtqueues are
//! transmitted to.
//!
//! - [`rx`]: chains of a transmit virtqueue to frames of a burst
//! - [`tx`]: a receive virtqueue, and its room for frames; `stash`, `buffers`: its buffers, read
//!   ahead; `deliver`: frames of a burst into them
//! - `ahead`: chains that are looked at before their turn
//! - [`scatter`]: the same for frames and buffers in several parts

mod ahead;
mod buffers;
mod deliver;
pub mod rx;
pub mod scatter;
mod stash;
pub mod tx;

pub(crate) use buffers::FEW_DESCRIPTORS;
pub use rx::VhostRx;
pub use tx::VhostTx;

use crate::ring::RingOptions;
use crate::virtio_net::{HEADER_LEN, HEADER_LEN_LEGACY};

const GUEST_CSUM: u64 = 1 << 1;
const MRG_RXBUF: u64 = 1 << 15;
const MQ: u64 = 1 << 22;
const ANY_LAYOUT: u64 = 1 << 27;
const INDIRECT_DESC: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;

/// Features that are offered to every guest.
pub const FEATURES: u64 = GUEST_CSUM
    | MRG_RXBUF
    | MQ
    | ANY_LAYOUT
    | INDIRECT_DESC
    | EVENT_IDX
    | PROTOCOL_FEATURES
    | VERSION_1;

/// What a guest's driver took of [`FEATURES`], as the queues need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    ring: RingOptions,
    /// Frames to the guest may fill several buffers.
    mergeable: bool,
    /// Frames to the guest may leave their checksum to it.
    guest_csum: bool,
    /// 12, or 10 for a legacy guest.
    header_len: u32,
}

impl Features {
    /// From the bits that were negotiated.
    pub fn from_bits(bits: u64) -> Self {
        let has = |bit: u64| bits & bit != 0;
        Self {
            ring: RingOptions {
                event_idx: has(EVENT_IDX),
                indirect: has(INDIRECT_DESC),
            },
            mergeable: has(MRG_RXBUF),
            guest_csum: has(GUEST_CSUM),
            header_len: if has(MRG_RXBUF) || has(VERSION_1) {
                HEADER_LEN
            } else {
                HEADER_LEN_LEGACY
            },
        }
    }
}
