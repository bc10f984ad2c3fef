//! VMs and their limits: `/v1/vms`, `/v1/limits`.

use serde::{Deserialize, Serialize};

use super::counters::{DropReport, RateReport};

/// A VM: its rates and limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VmReport {
    pub(crate) name: String,
    /// How many of its NICs are up, and how many it has.
    pub(crate) nics_up: usize,
    pub(crate) nics: usize,
    /// Over all its NICs.
    pub(crate) rates: RateReport,
    /// Limit on what it sends; none: unlimited.
    pub(crate) from_vm: Option<LimitReport>,
    /// Limit on what it receives; none: unlimited.
    pub(crate) to_vm: Option<LimitReport>,
    /// Nanoseconds for which its `from-vm` limit throttled it, since the start.
    pub(crate) throttled_ns: u64,
    /// Part of the last second for which it was throttled, 0 to 1.
    pub(crate) throttled: f64,
    /// Frames dropped before delivery to it, and those of them over its limit.
    pub(crate) missed: u64,
    pub(crate) limited: u64,
    /// Frames that the kernel lost between its devices and the switch.
    pub(crate) lost: u64,
    /// Frames from it that were dropped, by reason; reasons with none are left out.
    pub(crate) drops: Vec<DropReport>,
}

/// The state of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LimitReport {
    pub(crate) bits_per_sec: Option<u64>,
    pub(crate) packets_per_sec: Option<u64>,
    pub(crate) burst_bytes: Option<u64>,
    pub(crate) burst_packets: Option<u64>,
    /// What may pass now; below zero: a debt.
    pub(crate) left_bytes: Option<i64>,
    pub(crate) left_packets: Option<i64>,
    /// The queue in the switch; none: frames over the limit are dropped, or stay in the VM's own
    /// rings.
    pub(crate) queue: Option<LimitQueueReport>,
}

/// The queue at a VM's `to-vm` limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LimitQueueReport {
    /// Bytes queued in the switch, and the most there may be.
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
    /// The time in which the queued bytes pass.
    pub(crate) delay_ns: u64,
    /// The time in which a ring of 256 full frames of another VM passes, which waits there.
    pub(crate) ring_delay_ns: u64,
}
