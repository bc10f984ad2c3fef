//! VMs and their limits: `/v1/vms`, `/v1/limits`.

use serde::{Deserialize, Serialize};

use super::counters::{DropReport, RateReport};

/// A VM: what it sends and gets, and what it may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VmReport {
    pub(crate) name: String,
    /// How many of its NICs are up, and how many it has.
    pub(crate) nics_up: usize,
    pub(crate) nics: usize,
    /// Over all its NICs.
    pub(crate) rates: RateReport,
    /// What it may send; none: anything.
    pub(crate) from_vm: Option<LimitReport>,
    /// What it may get; none: anything.
    pub(crate) to_vm: Option<LimitReport>,
    /// Nanoseconds during which its limit held frames back, since the start.
    pub(crate) throttled_ns: u64,
    /// The part of the last second that was, 0 to 1.
    pub(crate) throttled: f64,
    /// Frames for it that were dropped at its door, and of these, those over its limit.
    pub(crate) missed: u64,
    pub(crate) limited: u64,
    /// Frames that the kernel lost between its devices and the switch.
    pub(crate) lost: u64,
    /// Frames of its that were dropped, by reason; reasons with none are left out.
    pub(crate) drops: Vec<DropReport>,
}

/// The state of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LimitReport {
    pub(crate) bits_per_sec: Option<u64>,
    pub(crate) packets_per_sec: Option<u64>,
    pub(crate) burst_bytes: Option<u64>,
    pub(crate) burst_packets: Option<u64>,
    /// What may pass at this moment; below zero: a debt.
    pub(crate) left_bytes: Option<i64>,
    pub(crate) left_packets: Option<i64>,
    /// What waits in the switch; none: what is over the limit is dropped, or waits in the VM's own
    /// rings.
    pub(crate) queue: Option<LimitQueueReport>,
}

/// What waits at the limit on what a VM gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LimitQueueReport {
    /// Bytes that wait in the switch, and that may.
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
    /// The time in which these pass.
    pub(crate) delay_ns: u64,
    /// The time in which a ring of 256 full frames passes, of another VM, which waits there.
    pub(crate) ring_delay_ns: u64,
}
