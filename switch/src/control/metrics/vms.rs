//! Metrics of VMs and of their limits.

use std::collections::BTreeMap;

use super::metric::{Metric, Subject, Value, seconds, whole};
use crate::api::vm::LimitReport;

/// A VM, when it was asked.
#[derive(Debug)]
pub(super) struct Vm {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) throttled_ns: u64,
}

/// A limit of a VM, when it was asked.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) vm: String,
    /// `from-vm` or `to-vm`, as in the topology.
    pub(super) direction: &'static str,
    pub(super) report: LimitReport,
}

impl Subject for Vm {
    const LABELS: &'static [&'static str] = &["vm"];

    fn label_values(&self) -> [&str; 2] {
        [&self.name, ""]
    }
}

impl Subject for Limit {
    const LABELS: &'static [&'static str] = &["vm", "direction"];

    fn label_values(&self) -> [&str; 2] {
        [&self.vm, self.direction]
    }
}

pub(super) const METRICS: &[Metric<Vm>] = &[
    Metric::gauge(
        "weir_vm_info",
        "1. The VM's labels from the topology, each with `label_` in front of its name.",
        |vm: &Vm, sample| {
            let names: Vec<_> = vm
                .labels
                .keys()
                .map(|name| format!("label_{name}"))
                .collect();
            let names = names.iter().map(String::as_str);
            let labels: Vec<_> = names.zip(vm.labels.values().map(String::as_str)).collect();
            sample(&labels, Value::Whole(1));
        },
    )
    .by(&["label_NAME"]),
    Metric::counter(
        "weir_vm_throttled_seconds",
        "Time for which the limit on what it sends held its frames back.",
        |vm, sample| sample(&[], seconds(vm.throttled_ns)),
    ),
];

/// One value, if there is such a limit.
macro_rules! limit {
    ($field:ident, $value:expr) => {
        |limit, sample| {
            if let Some(n) = limit.report.$field {
                sample(&[], $value(n));
            }
        }
    };
}

/// One value of the queue at the limit, if it has one.
macro_rules! queue {
    ($field:ident, $value:expr) => {
        |limit, sample| {
            if let Some(queue) = limit.report.queue {
                sample(&[], $value(queue.$field));
            }
        }
    };
}

pub(super) const LIMITS: &[Metric<Limit>] = &[
    Metric::gauge(
        "weir_vm_limit_bytes_per_second",
        "The limit, an eighth of the topology's bits a second.",
        limit!(bits_per_second, bytes),
    ),
    Metric::gauge(
        "weir_vm_limit_packets_per_second",
        "The limit.",
        limit!(packets_per_second, whole),
    ),
    Metric::gauge(
        "weir_vm_limit_burst_bytes",
        "What may pass at once after a pause.",
        limit!(burst_bytes, whole),
    ),
    Metric::gauge(
        "weir_vm_limit_burst_packets",
        "What may pass at once after a pause.",
        limit!(burst_packets, whole),
    ),
    Metric::gauge(
        "weir_vm_limit_allowance_bytes",
        "What may pass now; below zero: a debt.",
        limit!(allowance_bytes, signed),
    ),
    Metric::gauge(
        "weir_vm_limit_allowance_packets",
        "What may pass now; below zero: a debt.",
        limit!(allowance_packets, signed),
    ),
    Metric::gauge(
        "weir_vm_limit_queued_bytes",
        "What is queued in the switch at the limit now.",
        queue!(queued_bytes, whole),
    ),
    Metric::gauge(
        "weir_vm_limit_queued_bytes_max",
        "The most that may be queued in the switch at the limit.",
        queue!(max_bytes, whole),
    ),
    Metric::gauge(
        "weir_vm_limit_queue_delay_seconds",
        "The time in which what is queued at the limit passes.",
        queue!(delay_nanoseconds, seconds),
    ),
    Metric::gauge(
        "weir_vm_limit_ring_delay_seconds",
        "The time in which a ring of 256 full frames of another VM passes, which waits there.",
        queue!(ring_delay_nanoseconds, seconds),
    ),
];

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn bytes(bits: u64) -> Value {
    Value::Real(bits as f64 / 8.0)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn signed(n: i64) -> Value {
    Value::Real(n as f64)
}
