//! VMs as all of control shares them: their NICs, and the limits on what they send and get.

use std::sync::{Arc, Mutex};

use config::{Limit, Topology};
use flowtable::PortId;
use pmd::Fleet;
use pmd::limits::{LimitOptions, QueueOptions, VmLimits};
use pmd::stats::Counters;
use pmd::time::Nanos;
use serde::{Deserialize, Serialize};

use super::ports::{DropReport, RateReport, Sources, State, report_drops};
use crate::api::uplink as report;
use crate::base::lock::lock;

/// Bytes that wait for one VM at most at the limit on what it gets: 20 ms of 3.3 Gbit/s, 6.7 ms of 10.
const QUEUE_BYTES_MAX: u64 = 8 << 20;
/// The same for all VMs together.
const QUEUES_BYTES_MAX: u64 = 256 << 20;

/// All VMs, in the topology's order.
#[derive(Debug)]
pub(crate) struct Vms(Vec<Vm>);

#[derive(Debug)]
struct Vm {
    name: String,
    ports: Vec<PortId>,
    limits: Arc<VmLimits>,
    throttled: Mutex<Throttled>,
}

/// For how long it was held back, as of the supervisor's last look.
#[derive(Clone, Copy, Debug, Default)]
struct Throttled {
    at: Nanos,
    ns: u64,
    /// Part of the time between the last two looks.
    part: f64,
}

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

/// How a limit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LimitReport {
    pub(crate) bits_per_sec: Option<u64>,
    pub(crate) packets_per_sec: Option<u64>,
    pub(crate) burst_bytes: Option<u64>,
    pub(crate) burst_packets: Option<u64>,
    /// What may pass at this moment; below zero: a debt.
    pub(crate) left_bytes: Option<i64>,
    pub(crate) left_packets: Option<i64>,
    /// What waits in the switch; none: what is over the limit is dropped, or waits in the VM's own rings.
    pub(crate) queue: Option<QueueReport>,
}

/// What waits at the limit on what a VM gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueReport {
    /// Bytes that wait in the switch, and that may.
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
    /// The time in which these pass.
    pub(crate) delay_ns: u64,
    /// The time in which a ring of 256 full frames passes, of another VM, which waits there.
    pub(crate) ring_delay_ns: u64,
}

impl Vms {
    /// Those of the topology; ports have the numbers of its NICs, in order.
    pub(crate) fn new(topology: &Topology) -> Self {
        let mut ids = 0..PortId::MAX;
        let n_queues =
            topology.vms.iter().filter(|vm| vm.limit.to_vm.is_some_and(|limit| limit.queue.is_some())).count();
        let bytes_max = (QUEUES_BYTES_MAX / n_queues.max(1) as u64).min(QUEUE_BYTES_MAX);
        let vm = |vm: &config::Vm| {
            let ports = ids.by_ref().take(vm.nics.len()).collect();
            let [from_vm, to_vm] = [vm.limit.from_vm, vm.limit.to_vm].map(|limit| options(limit, bytes_max));
            let limits = VmLimits::new(from_vm, to_vm);
            Vm { name: vm.name.clone(), ports, limits: Arc::new(limits), throttled: Mutex::default() }
        };
        Self(topology.vms.iter().map(vm).collect())
    }

    /// Tells the cores, before any of the ports comes up.
    pub(crate) fn limit(&self, fleet: &Fleet) {
        for vm in self.0.iter().filter(|vm| vm.limits.from_vm.is_some() || vm.limits.to_vm.is_some()) {
            fleet.limit(&vm.ports, &vm.limits);
        }
    }

    /// Looks at all of them, once a second.
    pub(crate) fn sample(&self, now: Nanos) {
        for vm in &self.0 {
            vm.limits.refresh(now);
            let mut last = lock(&vm.throttled);
            let ns = vm.limits.throttled_ns();
            *last = Throttled { at: now, ns, part: part(ns.saturating_sub(last.ns), now.saturating_sub(last.at)) };
        }
    }

    /// How they stand.
    pub(crate) fn report(&self, sources: &Sources) -> Vec<VmReport> {
        self.0.iter().map(|vm| vm.report(sources)).collect()
    }
}

impl Vm {
    fn report(&self, sources: &Sources) -> VmReport {
        let now = sources.clock.now();
        let counters = self.ports.iter().map(|&port| sources.fleet.counters(port)).fold(Counters::default(), sum);
        let rates =
            self.ports.iter().map(|&port| sources.rates.of(port)).fold(RateReport::default(), |all, one| RateReport {
                rx_pps: all.rx_pps + one.rx_pps,
                rx_bps: all.rx_bps + one.rx_bps,
                tx_pps: all.tx_pps + one.tx_pps,
                tx_bps: all.tx_bps + one.tx_bps,
            });
        let is_up = |port: &&PortId| super::ports::state(sources, **port) == Some(State::Up);
        let mut drops = report_drops(&counters);
        drops.retain(|drop| drop.frames > 0);
        VmReport {
            name: self.name.clone(),
            nics_up: self.ports.iter().filter(is_up).count(),
            nics: self.ports.len(),
            rates,
            from_vm: self.limits.from_report(now).map(LimitReport::from),
            to_vm: self.limits.to_report(now).map(LimitReport::from),
            throttled_ns: self.limits.throttled_ns(),
            throttled: lock(&self.throttled).part,
            missed: counters.missed,
            limited: counters.limited,
            lost: report::n_lost(
                sources.devices.iter().map(Arc::as_ref).filter(|port| self.ports.contains(&port.id())),
            ),
            drops,
        }
    }
}

impl From<pmd::limits::LimitReport> for LimitReport {
    fn from(report: pmd::limits::LimitReport) -> Self {
        let pmd::limits::LimitReport {
            bits_per_sec,
            packets_per_sec,
            burst_bytes,
            burst_packets,
            left_bytes,
            left_packets,
            queue,
        } = report;
        let queue = queue.map(|queue| QueueReport {
            bytes: queue.n_bytes,
            bytes_max: queue.bytes_max,
            delay_ns: queue.delay,
            ring_delay_ns: queue.ring_delay,
        });
        Self { bits_per_sec, packets_per_sec, burst_bytes, burst_packets, left_bytes, left_packets, queue }
    }
}

/// A core never sees the file's values.
fn options(limit: Option<Limit>, bytes_max: u64) -> LimitOptions {
    limit.map_or_else(LimitOptions::default, |limit| LimitOptions {
        bits_per_sec: limit.rate.map(config::BitsPerSec::value),
        packets_per_sec: limit.packets.map(config::PacketsPerSec::value),
        burst_bytes: limit.burst.map(config::Bytes::value),
        queue: limit.queue.map(|time| QueueOptions { time: time.value() * 1000, bytes_max }),
    })
}

fn sum(mut all: Counters, one: Counters) -> Counters {
    all.missed += one.missed;
    all.limited += one.limited;
    all.drops.iter_mut().zip(one.drops).for_each(|(all, one)| *all += one);
    all
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn part(ns: u64, of: Nanos) -> f64 {
    if of == 0 { 0.0 } else { (ns as f64 / of as f64).min(1.0) }
}
