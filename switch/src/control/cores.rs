//! Polling cores, as operators see them.

use super::sources::Sources;
use crate::api::core::CoreReport;

/// Every polling core, in the topology's order.
pub(crate) fn cores(sources: &Sources) -> Vec<CoreReport> {
    let report = |(core, (report, &cpu)): (usize, (pmd::stats::CoreReport, &usize))| CoreReport {
        cpu,
        load: sources.loads.of(core),
        rx_queues: report.n_rxqs,
        turns: report.turns,
        busy_cycles: report.busy_cycles,
        held_cycles: report.held_cycles,
        rx_frames: report.rx_frames,
        bursts: report.bursts,
        sleeps: report.sleeps,
        cpu_ns: report.cpu_ns,
    };
    sources
        .fleet
        .cores()
        .into_iter()
        .zip(&sources.cpus)
        .enumerate()
        .map(report)
        .collect()
}
