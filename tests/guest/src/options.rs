//! What kind of guest to be: ring sizes, features, shapes of buffers, where memory lies. A plain
//! value, written by tests and by the command line.

use crate::header::{HEADER_BYTES, LEGACY_HEADER_BYTES};

/// Device and driver feature bits of VIRTIO 1.2 (5.1.3 and 6) that this guest knows.
pub mod feature {
    /// The device handles frames with a partial checksum.
    pub const CSUM: u64 = 1 << 0;
    /// The driver handles frames with a partial checksum.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// The driver receives TSO over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// The driver receives TSO over IPv6.
    pub const GUEST_TSO6: u64 = 1 << 8;
    /// The device takes TSO over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// The device takes TSO over IPv6.
    pub const HOST_TSO6: u64 = 1 << 12;
    /// The driver can merge receive buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// Several queue pairs.
    pub const MQ: u64 = 1 << 22;
    /// Dirty pages are logged (vhost).
    pub const LOG_ALL: u64 = 1 << 26;
    /// Tables of descriptors in buffers.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// `used_event` and `avail_event`.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// vhost-user: there are protocol features.
    pub const PROTOCOL_FEATURES: u64 = 1 << 30;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
    /// Packed ring.
    pub const PACKED: u64 = 1 << 34;
    /// Buffers are used in the order they were made available.
    pub const IN_ORDER: u64 = 1 << 35;
    /// Bits by which a driver allows the device to put something but zeros into a receive header.
    pub const GUEST_OFFLOADS: u64 = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6;
}

/// When chains are put into indirect tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indirect {
    /// Never; the feature isn't asked for.
    Off,
    /// Every chain of more than one descriptor, as Linux does.
    Always,
    /// Every second chain, one of a single descriptor too.
    Alternate,
}

/// What memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The heap: for tests in one process; works under Miri.
    Heap,
    /// One memfd, mapped shared, so that it can be handed over by fd.
    Memfd,
    /// The same of large pages ([`HUGE_PAGE_BYTES`](crate::memory::HUGE_PAGE_BYTES)), which have to
    /// be reserved (`vm.nr_hugepages`).
    Huge,
}

/// Where memory lies. Guest-physical, user and host addresses all differ, so that mixing them up
/// doesn't go unnoticed.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Heap or memfd.
    pub backing: Backing,
    /// Guest-physical address of the first region.
    pub gpa: u64,
    /// Lowest user address of a region; later regions lie *below* earlier ones.
    pub uva: u64,
    /// None: one region for all. Else the rings have a region of their own, and buffers lie in as
    /// many regions of this length (a multiple of 4,096) as they need.
    pub region_bytes: Option<u64>,
    /// Zero: regions are adjacent in guest-physical space and buffers cross their edges. Else so
    /// many bytes lie between two regions (a multiple of 4,096), and no buffer crosses.
    pub hole_bytes: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            backing: Backing::Heap,
            gpa: 0x4000_0000,
            uva: 0x5a00_0000_0000,
            region_bytes: None,
            hole_bytes: 0,
        }
    }
}

/// A guest's properties. Everything has a default: one queue pair, rings of 256, 2 KiB buffers,
/// VIRTIO 1 header, mergeable, on the heap, with every check on.
#[derive(Clone, Debug)]
pub struct Options {
    /// 1 to 128.
    pub n_queue_pairs: u16,
    /// Entries of each receive virtqueue, a power of two from 1 to 32,768.
    pub rx_ring: u16,
    /// Entries of each transmit virtqueue, a power of two from 1 to 32,768.
    pub tx_ring: u16,
    /// VIRTIO 1: little-endian 12-byte header. Off: a legacy driver, 10 bytes unless `mergeable`.
    pub version_1: bool,
    /// A frame may be spread over several receive buffers.
    pub mergeable: bool,
    /// Use of indirect descriptor tables.
    pub indirect: Indirect,
    /// Event index in place of flags.
    pub event_idx: bool,
    /// Ask for `IN_ORDER`; descriptors and buffers are then taken in ring order.
    pub in_order: bool,
    /// Take freed descriptors and buffers first in, first out (as DPDK, and always with
    /// `in_order`), else last in, first out (as Linux).
    pub fifo: bool,
    /// Panic when a chain comes back out of ring order, whether or not `in_order` was negotiated:
    /// what weir promises.
    pub require_order: bool,
    /// Further feature bits to ask for, such as [`feature::CSUM`].
    pub more_features: u64,
    /// Lengths of a receive chain's descriptors, header included.
    pub rx_shape: Vec<u32>,
    /// A transmit chain's header has a descriptor of its own.
    pub tx_header_apart: bool,
    /// Descriptors that a transmit chain's payload is spread over, at least one.
    pub tx_parts: usize,
    /// Longest frame that `send` takes.
    pub tx_frame_bytes: usize,
    /// Where in a cache line (of 64 bytes) a buffer begins: 52 puts the frame behind a 12-byte
    /// header at the start of the next (as DPDK), 0 lets header and frame share one (as Linux).
    pub line_offset: u32,
    /// Fill buffers with a pattern and check it afterwards: guards, bytes past the used length,
    /// transmit buffers. Costs a pass over each buffer.
    pub checked: bool,
    /// Bytes of memory beside the rings that nothing uses but tests: for tables and frames of
    /// hostile chains.
    pub scratch_bytes: u64,
    /// Where memory lies.
    pub layout: Layout,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            n_queue_pairs: 1,
            rx_ring: 256,
            tx_ring: 256,
            version_1: true,
            mergeable: true,
            indirect: Indirect::Off,
            event_idx: false,
            in_order: false,
            fifo: true,
            require_order: true,
            more_features: 0,
            rx_shape: vec![2048],
            tx_header_apart: false,
            tx_parts: 1,
            tx_frame_bytes: 2048,
            line_offset: 52,
            checked: true,
            scratch_bytes: 128 << 10,
            layout: Layout::default(),
        }
    }
}

impl Options {
    /// The feature bits that this guest wants (without vhost-user's own
    /// [`feature::PROTOCOL_FEATURES`]).
    pub fn features(&self) -> u64 {
        let mut bits = self.more_features;
        let mut want = |on: bool, bit: u64| bits |= if on { bit } else { 0 };
        want(self.version_1, feature::VERSION_1);
        want(self.mergeable, feature::MRG_RXBUF);
        want(self.indirect != Indirect::Off, feature::INDIRECT_DESC);
        want(self.event_idx, feature::EVENT_IDX);
        want(self.in_order, feature::IN_ORDER);
        want(self.n_queue_pairs > 1, feature::MQ);
        bits
    }

    /// The same guest with only those features that a device offers.
    #[must_use]
    pub fn limited_to(mut self, offered: u64) -> Self {
        let has = |bit: u64| offered & bit == bit;
        self.version_1 &= has(feature::VERSION_1);
        self.mergeable &= has(feature::MRG_RXBUF);
        self.event_idx &= has(feature::EVENT_IDX);
        self.in_order &= has(feature::IN_ORDER);
        self.more_features &= offered;
        if !has(feature::INDIRECT_DESC) {
            self.indirect = Indirect::Off;
        }
        if !has(feature::MQ) {
            self.n_queue_pairs = 1;
        }
        self
    }

    /// Bytes before each frame: 12, or 10 for a legacy driver without mergeable buffers.
    pub fn header_bytes(&self) -> usize {
        if self.version_1 || self.mergeable {
            HEADER_BYTES
        } else {
            LEGACY_HEADER_BYTES
        }
    }

    /// Whether freed things are taken first in, first out.
    pub fn is_fifo(&self) -> bool {
        self.fifo || self.in_order
    }

    /// Panics where a value makes no guest at all; what the device has to refuse isn't refused
    /// here.
    pub(crate) fn assert_sane(&self) {
        for size in [self.rx_ring, self.tx_ring] {
            assert!(
                size.is_power_of_two() && size <= 32768,
                "ring of {size}: a power of two up to 32768 is needed"
            );
        }
        assert!(
            (1..=128).contains(&self.n_queue_pairs),
            "{} queue pairs",
            self.n_queue_pairs
        );
        assert!(
            !self.rx_shape.is_empty() && !self.rx_shape.contains(&0),
            "rx_shape {:?}",
            self.rx_shape
        );
        assert!(self.tx_parts >= 1 && self.line_offset < 64);
        let pages = |bytes: u64| bytes.is_multiple_of(4096);
        assert!(
            self.layout.region_bytes.is_none_or(|b| b > 0 && pages(b))
                && pages(self.layout.hole_bytes)
        );
    }
}
