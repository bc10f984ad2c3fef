//! VMs and their limits: from the file's values to those of the cores.

use std::collections::BTreeMap;

use config::{Limit, Topology};
use pmd::limit::{LimitOptions, QueueOptions};

/// Most bytes queued for one VM at its `to-vm` limit: 20 ms at 3.3 Gbit/s, 6.7 ms at 10.
const QUEUE_BYTES_MAX: u64 = 8 << 20;

/// The same for all VMs together.
const QUEUES_BYTES_MAX: u64 = 256 << 20;

/// A VM, with the limits over all its NICs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VmSpec {
    /// Unique among VMs.
    pub(crate) name: String,
    /// Words for people and metrics, by name.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) from_vm: LimitOptions,
    pub(crate) to_vm: LimitOptions,
}

/// Every VM, in the topology's order.
pub(crate) fn vms(topology: &Topology) -> Vec<VmSpec> {
    let n_queues = topology
        .vms
        .iter()
        .filter(|vm| vm.limit.to_vm.is_some_and(|limit| limit.queue.is_some()))
        .count();
    let bytes_max = (QUEUES_BYTES_MAX / n_queues.max(1) as u64).min(QUEUE_BYTES_MAX);
    let vm = |vm: &config::Vm| {
        let [from_vm, to_vm] =
            [vm.limit.from_vm, vm.limit.to_vm].map(|limit| options(limit, bytes_max));
        VmSpec {
            name: vm.name.clone(),
            labels: vm.labels.clone(),
            from_vm,
            to_vm,
        }
    };
    topology.vms.iter().map(vm).collect()
}

/// A limit in the cores' units, which never see the file's.
fn options(limit: Option<Limit>, bytes_max: u64) -> LimitOptions {
    limit.map_or_else(LimitOptions::default, |limit| LimitOptions {
        bits_per_sec: limit.rate.map(config::BitsPerSec::value),
        packets_per_sec: limit.packets.map(config::PacketsPerSec::value),
        burst_bytes: limit.burst.map(config::Bytes::value),
        queue: limit.queue.map(|time| QueueOptions {
            time: time.value() * 1000,
            bytes_max,
        }),
    })
}
