//! VMs and their limits, as operators see them.

use std::sync::Arc;

use flowtable::PortId;
use pmd::stats::Counters;

use super::limits::Vm;
use super::ports::{ports, report_counters, report_drops, state};
use super::sources::{Present, Sources};
use crate::api::counters::RateReport;
use crate::api::state::State;
use crate::api::vm::{LimitQueueReport, LimitReport, LimitsReport, VmDetail, VmReport};
use crate::device::health::n_lost;

/// Every VM, in the topology's order.
pub(crate) fn vms(sources: &Sources) -> Vec<VmReport> {
    let present = sources.present();
    let vms = present.vms.iter();
    vms.map(|vm| report(vm, sources, &present)).collect()
}

/// The VM of this name, with its NICs.
pub(crate) fn vm(sources: &Sources, name: &str) -> Option<VmDetail> {
    let present = sources.present();
    let vm = present.vms.iter().find(|vm| vm.name == name)?;
    let mut nics = ports(sources);
    nics.retain(|port| port.vm.as_deref() == Some(name));
    Some(VmDetail {
        vm: report(vm, sources, &present),
        nics,
    })
}

fn report(vm: &Vm, sources: &Sources, present: &Present) -> VmReport {
    let now = sources.clock.now();
    let counters = vm
        .ports
        .iter()
        .map(|&port| sources.cores.counters(port))
        .fold(Counters::default(), sum);
    let rates = vm.ports.iter().map(|&port| sources.rates.of(port));
    let is_up = |port: &&PortId| state(sources, present, **port) == Some(State::Up);
    let devices = present.devices.iter().map(Arc::as_ref);
    VmReport {
        name: vm.name.clone(),
        labels: vm.labels.clone(),
        nics_up: vm.ports.iter().filter(is_up).count(),
        nics_total: vm.ports.len(),
        rates: rates.fold(RateReport::default(), sum_rates),
        at_nanoseconds: now,
        counters: report_counters(&counters),
        lost_frames: n_lost(devices.filter(|port| vm.ports.contains(&port.id()))),
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
