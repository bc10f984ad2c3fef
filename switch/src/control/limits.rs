//! VMs as all of control shares them: their NICs, and the limits on what they send and get. Sampled by the supervisor, read by
//! operators.

use std::sync::{Arc, Mutex};

use config::{Limit, Topology};
use flowtable::PortId;
use pmd::Fleet;
use pmd::limits::{LimitOptions, QueueOptions, VmLimits};
use pmd::time::Nanos;

use crate::base::lock::lock;

/// Bytes that wait for one VM at most at the limit on what it gets: 20 ms of 3.3 Gbit/s, 6.7 ms of 10.
const QUEUE_BYTES_MAX: u64 = 8 << 20;
/// The same for all VMs together.
const QUEUES_BYTES_MAX: u64 = 256 << 20;

/// All VMs, in the topology's order.
#[derive(Debug)]
pub(crate) struct Vms(Vec<Vm>);

/// A VM.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    /// Its NICs.
    pub(crate) ports: Vec<PortId>,
    pub(crate) limits: Arc<VmLimits>,
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

    /// Every VM, in the topology's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vm> {
        self.0.iter()
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
}

impl Vm {
    /// The part of the last second during which its limit held frames back, 0 to 1.
    pub(crate) fn throttled(&self) -> f64 {
        lock(&self.throttled).part
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

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn part(ns: u64, of: Nanos) -> f64 {
    if of == 0 { 0.0 } else { (ns as f64 / of as f64).min(1.0) }
}
