//! Metrics of polling cores.

use super::metric::{Metric, Subject, Value, seconds, whole};
use crate::api::core::CoreReport;

/// A polling core, when it was asked.
#[derive(Debug)]
pub(super) struct Core {
    /// Number of its CPU.
    cpu: String,
    seconds_per_cycle: f64,
    report: CoreReport,
}

impl Core {
    /// `seconds_per_cycle` is always the same: the clock is corrected as time goes on, and what
    /// counts cycles in seconds would else go back now and then.
    pub(super) fn new(report: CoreReport, seconds_per_cycle: f64) -> Self {
        Self {
            cpu: report.cpu.to_string(),
            seconds_per_cycle,
            report,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "exact up to a month")]
    fn seconds(&self, cycles: u64) -> Value {
        Value::Real(cycles as f64 * self.seconds_per_cycle)
    }
}

impl Subject for Core {
    const LABELS: &'static [&'static str] = &["cpu"];

    fn label_values(&self) -> [&str; 2] {
        [&self.cpu, ""]
    }
}

pub(super) const METRICS: &[Metric<Core>] = &[
    Metric::counter(
        "weir_core_cpu_seconds",
        "Time for which the core's thread had its CPU; brought up to date about once a second, and \
        when it goes to sleep.",
        |core, sample| sample(&[], seconds(core.report.cpu_nanoseconds)),
    ),
    Metric::counter(
        "weir_core_busy_seconds",
        "Time spent in turns that had frames.",
        |core, sample| sample(&[], core.seconds(core.report.busy_cycles)),
    ),
    Metric::counter(
        "weir_core_held_seconds",
        "Time spent on frames none of which could go.",
        |core, sample| sample(&[], core.seconds(core.report.held_cycles)),
    ),
    Metric::counter(
        "weir_core_rx_frames",
        "Frames that the core received.",
        |core, sample| sample(&[], whole(core.report.rx_frames)),
    ),
    Metric::counter(
        "weir_core_bursts",
        "Bursts of frames that the core received.",
        |core, sample| sample(&[], whole(core.report.bursts)),
    ),
    Metric::counter(
        "weir_core_turns",
        "Turns of the core's loop.",
        |core, sample| sample(&[], whole(core.report.turns)),
    ),
    Metric::counter(
        "weir_core_sleeps",
        "Times that the core went to sleep, since there was nothing to do.",
        |core, sample| sample(&[], whole(core.report.sleeps)),
    ),
    Metric::gauge(
        "weir_core_rx_queues",
        "Receive queues that the core polls.",
        |core, sample| sample(&[], whole(core.report.rx_queues)),
    ),
];
