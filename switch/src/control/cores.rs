//! Polling cores, as operators see them.

use pmd::stats::CoreCounters;

use super::sources::Sources;
use crate::api::core::{CoreReport, Load};

/// Every polling core, in the topology's order.
pub(crate) fn cores(sources: &Sources) -> Vec<CoreReport> {
    let (present, all) = (sources.present(), sources.cores.core_counters());
    let cores = present.cores.now().iter();
    let report = |polled: &super::polled::PolledCpu| {
        let load = sources.loads.of(polled.cpu);
        report((polled.cpu, polled.counters(&all)), load, false)
    };
    cores.map(report).collect()
}

/// The same, and behind them CPUs that are not polled on any more.
pub(crate) fn cores_and_gone(sources: &Sources) -> Vec<CoreReport> {
    let mut cores = cores(sources);
    let present = sources.present();
    let is_there = |cpu: usize| cores.iter().any(|core| core.cpu == cpu);
    let past = present.cores.past().filter(|&(cpu, _)| !is_there(cpu));
    let past: Vec<_> = past
        .map(|gone| report(gone, Load::default(), true))
        .collect();
    cores.extend(past);
    cores
}

fn report((cpu, counters): (usize, CoreCounters), load: Load, is_gone: bool) -> CoreReport {
    let CoreCounters {
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
        load,
        rx_queues: n_rxqs,
        turns,
        busy_cycles,
        held_cycles,
        rx_frames,
        bursts,
        sleeps,
        cpu_nanoseconds,
        is_gone,
    }
}
