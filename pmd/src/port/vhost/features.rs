//! The features that are offered to guests, and what one took of them.

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
    pub(super) ring: RingOptions,
    /// Frames to the guest may fill several buffers.
    pub(super) mergeable: bool,
    /// Frames to the guest may leave their checksum to it.
    pub(super) guest_csum: bool,
    /// 12, or 10 for a legacy guest.
    pub(super) header_len: u32,
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
