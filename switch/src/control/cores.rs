//! Polling cores, as operators see them.

use super::sources::Sources;
use crate::api::core::CoreReport;

/// Every polling core, in the topology's order.
pub(crate) fn cores(sources: &Sources) -> Vec<CoreReport> {
    let report = |(core, (counters, &cpu)): (usize, (pmd::stats::CoreCounters, &usize))| {
        let pmd::stats::CoreCounters {
            n_rxqs,
            turns,
            busy_cycles,
            held_cycles,
            rx_frames,
            bursts,
            sleeps,
            cpu_ns: cpu_nanoseconds,
            // For load averages and for measurements.
            cpu_at: _,
            scan_cycles: _,
            scanned_frames: _,
        } = counters;
        CoreReport {
            cpu,
            load: sources.loads.of(core),
            rx_queues: n_rxqs,
            turns,
            busy_cycles,
            held_cycles,
            rx_frames,
            bursts,
            sleeps,
            cpu_nanoseconds,
        }
    };
    sources
        .cores
        .core_counters()
        .into_iter()
        .zip(&sources.present().cpus)
        .enumerate()
        .map(report)
        .collect()
}
