//! Front-ends, and what tells them apart.

/// Acknowledgements.
pub(super) const REPLY_ACK: u64 = 8;
/// Memory region by region.
pub(super) const MEM_SLOTS: u64 = 0x8000;
/// Queue pairs.
pub(super) const MQ: u64 = 1;

/// What tells front-ends apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Protocol features that it takes.
    pub(super) protocol: u64,
    /// Everything about the device is said once for each queue pair, not just what is about its
    /// queues.
    pub(super) by_pair: bool,
    /// Memory regions too, one message each, as they come and go.
    pub(super) regions_by_pair: bool,
    /// Rings are enabled before they are set up as well as after.
    pub(super) enables_first: bool,
    /// Which messages ask for an acknowledgement.
    pub(super) asks: Asks,
    /// How its rings are stopped.
    pub(super) stops: Stops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// Those about memory.
    Memory,
    /// Those, and the enabling of rings.
    MemoryAndEnable,
    /// All.
    Everything,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stops {
    /// GET_VRING_BASE, pair by pair.
    Base,
    /// All rings disabled, then GET_VRING_BASE of each.
    DisableAndBase,
    /// All rings disabled, then RESET_OWNER.
    DisableAndResetOwner,
}

pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "QEMU 7.2",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: true,
        regions_by_pair: true,
        enables_first: true,
        asks: Asks::Memory,
        stops: Stops::Base,
    },
    Kind {
        name: "QEMU 8.0, memory once",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: true,
        regions_by_pair: false,
        enables_first: true,
        asks: Asks::Memory,
        stops: Stops::Base,
    },
    Kind {
        name: "QEMU 9 and 10",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: true,
        regions_by_pair: false,
        enables_first: true,
        asks: Asks::MemoryAndEnable,
        stops: Stops::Base,
    },
    Kind {
        name: "QEMU 4.2, memory as one table",
        protocol: MQ | REPLY_ACK,
        by_pair: true,
        regions_by_pair: false,
        enables_first: true,
        asks: Asks::Memory,
        stops: Stops::Base,
    },
    Kind {
        name: "DPDK virtio-user",
        protocol: MQ | REPLY_ACK,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Memory,
        stops: Stops::DisableAndBase,
    },
    Kind {
        name: "cloud-hypervisor",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Everything,
        stops: Stops::DisableAndBase,
    },
    Kind {
        name: "cloud-hypervisor of old",
        protocol: MQ | REPLY_ACK,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Everything,
        stops: Stops::DisableAndResetOwner,
    },
    Kind {
        name: "crosvm",
        protocol: MQ,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Nothing,
        stops: Stops::DisableAndBase,
    },
];
