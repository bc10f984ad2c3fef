//! VMs and their limits, as operators see them.

use flowtable::PortId;
use hashbrown::HashMap;
use pmd::stats::Counters;

use super::limits::Vm;
use super::ports::{Brief, briefs, nics, report_counters, report_drops};
use super::sources::Sources;
use crate::api::counters::RateReport;
use crate::api::state::State;
use crate::api::vm::{LimitQueueReport, LimitReport, LimitsReport, VmDetail, VmReport};

/// Every VM, in the topology's order.
pub(crate) fn vms(sources: &Sources) -> Vec<VmReport> {
    let present = sources.present();
    let briefs = briefs(sources, &present);
    let vms = present.vms.iter();
    vms.map(|vm| report(vm, sources, &briefs)).collect()
}

/// The VM of this name, with its NICs.
pub(crate) fn vm(sources: &Sources, name: &str) -> Option<VmDetail> {
    let present = sources.present();
    let vm = present.vms.iter().find(|vm| vm.name == name)?;
    Some(VmDetail {
        vm: report(vm, sources, &briefs(sources, &present)),
        nics: nics(sources, &present, name),
    })
}

fn report(vm: &Vm, sources: &Sources, briefs: &HashMap<PortId, Brief>) -> VmReport {
    let now = sources.clock.now();
    let counters = vm
        .ports
        .iter()
        .map(|&port| sources.cores.counters(port))
        .fold(Counters::default(), sum);
    let rates = vm.ports.iter().map(|&port| sources.rates.of(port));
    let nics = || vm.ports.iter().filter_map(|port| briefs.get(port));
    VmReport {
        name: vm.name.clone(),
        labels: vm.labels.clone(),
        nics_up: nics().filter(|nic| nic.state == State::Up).count(),
        nics_total: vm.ports.len(),
        rates: rates.fold(RateReport::default(), sum_rates),
        at_nanoseconds: now,
        counters: report_counters(&counters),
        lost_frames: nics().map(|nic| nic.lost_frames).sum(),
        drops: report_drops(&counters),
        limit: LimitsReport {
            from_vm: vm.limits.from_report(now).map(LimitReport::from),
            to_vm: vm.limits.to_report(now).map(LimitReport::from),
        },
        throttled_nanoseconds: vm.limits.throttled_ns(),
        throttled_ratio: vm.throttled(),
    }
}

fn sum_rates(all: RateReport, one: RateReport) -> RateReport {
    RateReport {
        rx_frames_per_second: all.rx_frames_per_second + one.rx_frames_per_second,
        rx_bits_per_second: all.rx_bits_per_second + one.rx_bits_per_second,
        tx_frames_per_second: all.tx_frames_per_second + one.tx_frames_per_second,
        tx_bits_per_second: all.tx_bits_per_second + one.tx_bits_per_second,
    }
}

fn sum(all: Counters, one: Counters) -> Counters {
    let mut drops = all.drops;
    (drops.iter_mut().zip(one.drops)).for_each(|(all, one)| *all += one);
    Counters {
        rx_frames: all.rx_frames + one.rx_frames,
        rx_bytes: all.rx_bytes + one.rx_bytes,
        copies: all.copies + one.copies,
        forwarded: all.forwarded + one.forwarded,
        tx_frames: all.tx_frames + one.tx_frames,
        tx_bytes: all.tx_bytes + one.tx_bytes,
        missed: all.missed + one.missed,
        refused: all.refused + one.refused,
        limited: all.limited + one.limited,
        queued: all.queued + one.queued,
        held: all.held + one.held,
        held_turns: all.held_turns + one.held_turns,
        faults: all.faults + one.faults,
        drops,
    }
}

impl From<pmd::limit::LimitReport> for LimitReport {
    fn from(report: pmd::limit::LimitReport) -> Self {
        let pmd::limit::LimitReport {
            bits_per_sec: bits_per_second,
            packets_per_sec: packets_per_second,
            burst_bytes,
            burst_packets,
            left_bytes: allowance_bytes,
            left_packets: allowance_packets,
            queue,
        } = report;
        let queue = queue.map(|queue| LimitQueueReport {
            queued_bytes: queue.n_bytes,
            max_bytes: queue.bytes_max,
            delay_nanoseconds: queue.delay,
            ring_delay_nanoseconds: queue.ring_delay,
        });
        Self {
            bits_per_second,
            packets_per_second,
            burst_bytes,
            burst_packets,
            allowance_bytes,
            allowance_packets,
            queue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::looks::looks_of;
    use crate::control::fixture::{sources, two_nics_each};
    use crate::control::networks::networks;
    use crate::control::ports::ports;

    #[test]
    fn report_of_more_vms_costs_no_more_for_each() {
        for n_vms in [10, 200] {
            let (sources, n_ports) = (sources(&two_nics_each(n_vms)), 2 * n_vms + 1);
            let name = format!("vm{}", n_vms - 1);
            // Each port's state is copied, and its id read for its faults and for its place.
            for (what, looks) in [
                ("vms", looks_of(|| vms(&sources))),
                ("vm", looks_of(|| vm(&sources, &name))),
                ("ports", looks_of(|| ports(&sources))),
                ("networks", looks_of(|| networks(&sources))),
            ] {
                assert!(looks >= n_ports, "{what} looks at ports {looks} times");
                assert!(
                    looks <= 4 * n_ports,
                    "{what} looks {looks} times at {n_ports}"
                );
            }
        }
    }

    #[test]
    #[ignore = "measures time"]
    fn measured_reports_of_a_thousand_vms() {
        let sources = sources(&two_nics_each(1000));
        let measure = |what, work: &dyn Fn() -> usize| {
            let mut took: Vec<_> = (0..21)
                .map(|_| {
                    let begin = std::time::Instant::now();
                    assert!(work() > 0);
                    begin.elapsed()
                })
                .collect();
            took.sort();
            println!(
                "{what}: min {:?}, median {:?}, max {:?}",
                took[0], took[10], took[20]
            );
        };
        measure("vms", &|| vms(&sources).len());
        measure("vms as JSON", &|| {
            serde_json::to_vec(&vms(&sources)).unwrap().len()
        });
        measure("one VM", &|| vm(&sources, "vm999").unwrap().nics.len());
        measure("ports", &|| ports(&sources).len());
        measure("ports as JSON", &|| {
            serde_json::to_vec(&ports(&sources)).unwrap().len()
        });
    }
}
