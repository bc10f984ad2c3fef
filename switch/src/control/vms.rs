//! VMs and their limits, as operators see them.

use std::sync::Arc;

use flowtable::PortId;
use pmd::stats::Counters;

use super::limits::Vm;
use super::ports::{report_drops, state};
use super::sources::{Present, Sources};
use crate::api::counters::RateReport;
use crate::api::state::State;
use crate::api::vm::{LimitQueueReport, LimitReport, VmReport};
use crate::device::health::n_lost;

/// Every VM, in the topology's order.
pub(crate) fn vms(sources: &Sources) -> Vec<VmReport> {
    let present = sources.present();
    let vms = present.vms.iter();
    vms.map(|vm| report(vm, sources, &present)).collect()
}

/// Every VM that has a limit.
pub(crate) fn limits(sources: &Sources) -> Vec<VmReport> {
    let mut vms = vms(sources);
    vms.retain(|vm| vm.from_vm.is_some() || vm.to_vm.is_some());
    vms
}

fn report(vm: &Vm, sources: &Sources, present: &Present) -> VmReport {
    let now = sources.clock.now();
    let counters = vm
        .ports
        .iter()
        .map(|&port| sources.cores.counters(port))
        .fold(Counters::default(), sum);
    let rates = vm.ports.iter().map(|&port| sources.rates.of(port)).fold(
        RateReport::default(),
        |all, one| RateReport {
            rx_pps: all.rx_pps + one.rx_pps,
            rx_bps: all.rx_bps + one.rx_bps,
            tx_pps: all.tx_pps + one.tx_pps,
            tx_bps: all.tx_bps + one.tx_bps,
        },
    );
    let is_up = |port: &&PortId| state(sources, present, **port) == Some(State::Up);
    let mut drops = report_drops(&counters);
    drops.retain(|drop| drop.frames > 0);
    VmReport {
        name: vm.name.clone(),
        nics_up: vm.ports.iter().filter(is_up).count(),
        nics: vm.ports.len(),
        rates,
        from_vm: vm.limits.from_report(now).map(LimitReport::from),
        to_vm: vm.limits.to_report(now).map(LimitReport::from),
        throttled_ns: vm.limits.throttled_ns(),
        throttled: vm.throttled(),
        missed: counters.missed,
        limited: counters.limited,
        lost: n_lost(
            present
                .devices
                .iter()
                .map(Arc::as_ref)
                .filter(|port| vm.ports.contains(&port.id())),
        ),
        drops,
    }
}

impl From<pmd::limit::LimitReport> for LimitReport {
    fn from(report: pmd::limit::LimitReport) -> Self {
        let pmd::limit::LimitReport {
            bits_per_sec,
            packets_per_sec,
            burst_bytes,
            burst_packets,
            left_bytes,
            left_packets,
            queue,
        } = report;
        let queue = queue.map(|queue| LimitQueueReport {
            bytes: queue.n_bytes,
            bytes_max: queue.bytes_max,
            delay_ns: queue.delay,
            ring_delay_ns: queue.ring_delay,
        });
        Self {
            bits_per_sec,
            packets_per_sec,
            burst_bytes,
            burst_packets,
            left_bytes,
            left_packets,
            queue,
        }
    }
}

fn sum(mut all: Counters, one: Counters) -> Counters {
    all.missed += one.missed;
    all.limited += one.limited;
    all.drops
        .iter_mut()
        .zip(one.drops)
        .for_each(|(all, one)| *all += one);
    all
}
