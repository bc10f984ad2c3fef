//! VMs and their limits: `/v1/vms`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::counters::{CounterReport, DropReport, RateReport};
use super::port::PortRow;

/// A VM: its rates, counters and limits, over all its NICs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Vm)]
pub(crate) struct VmReport {
    pub(crate) name: String,
    /// From the topology; nothing depends on them.
    pub(crate) labels: BTreeMap<String, String>,
    /// How many of its NICs are up, and how many it has.
    pub(crate) nics_up: usize,
    pub(crate) nics_total: usize,
    /// rx: what the VM sends.
    pub(crate) rates: RateReport,
    /// Since the daemon's start, by the cores' clock, when the counters were read.
    pub(crate) at_nanoseconds: u64,
    pub(crate) counters: CounterReport,
    /// Frames that the kernel lost between its devices and the switch.
    pub(crate) lost_frames: u64,
    /// Frames from it that were dropped, by reason; reasons without any are left out.
    pub(crate) drops: Vec<DropReport>,
    pub(crate) limit: LimitsReport,
    /// Time for which its `from_vm` limit throttled it, since the start.
    pub(crate) throttled_nanoseconds: u64,
    /// Part of the last second for which it was throttled, 0 to 1.
    pub(crate) throttled_ratio: f64,
}

/// A VM, with its NICs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct VmDetail {
    #[serde(flatten)]
    pub(crate) vm: VmReport,
    pub(crate) nics: Vec<PortRow>,
}

/// A VM's limits. Absent: unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Limits)]
pub(crate) struct LimitsReport {
    /// On what it sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) from_vm: Option<LimitReport>,
    /// On what it receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) to_vm: Option<LimitReport>,
}

impl LimitsReport {
    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        self.from_vm.is_some() || self.to_vm.is_some()
    }
}

/// A limit, and its state. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Limit)]
pub(crate) struct LimitReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) bits_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) packets_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) burst_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) burst_packets: Option<u64>,
    /// What may pass now; below zero: a debt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) allowance_bytes: Option<i64>,
    /// What may pass now; below zero: a debt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) allowance_packets: Option<i64>,
    /// The queue in the switch. Absent: frames over the limit are dropped, or stay in the VM's own
    /// rings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) queue: Option<LimitQueueReport>,
}

/// The queue at a VM's `to_vm` limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LimitQueue)]
pub(crate) struct LimitQueueReport {
    /// What is queued in the switch now.
    pub(crate) queued_bytes: u64,
    /// The most that may be.
    pub(crate) max_bytes: u64,
    /// The time in which the queued bytes pass.
    pub(crate) delay_nanoseconds: u64,
    /// The time in which a ring of 256 full frames of another VM passes, which waits there.
    pub(crate) ring_delay_nanoseconds: u64,
}
