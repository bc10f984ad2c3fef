//! VMs with their NICs and limits, shared by control threads: sampled by the supervisor, read for
//! operators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flowtable::PortId;
use hashbrown::HashMap;
use pmd::Cores;
use pmd::limit::{LimitOptions, VmLimits};
use pmd::time::Nanos;

use crate::base::lock::lock;
use crate::plan::limits::VmSpec;
use crate::plan::ports::PortSpec;

/// All VMs, in the topology's order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vms(Vec<Arc<Vm>>);

/// A VM.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) name: String,
    /// Its NICs.
    pub(crate) ports: Vec<PortId>,
    pub(crate) limits: Arc<VmLimits>,
    pub(crate) labels: BTreeMap<String, String>,
    /// What the topology says of the limits.
    options: [LimitOptions; 2],
    throttled: Mutex<Throttled>,
}

/// How long it was throttled, as of the last sample.
#[derive(Clone, Copy, Debug, Default)]
struct Throttled {
    at: Nanos,
    ns: u64,
    /// Part of the time between the last two samples.
    part: f64,
}

impl Vms {
    /// The VMs whose NICs are among `ports`.
    pub(crate) fn new(ports: &[PortSpec]) -> Self {
        let mut vms: Vec<Vm> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for port in ports {
            let Some(VmSpec {
                name,
                labels,
                from_vm,
                to_vm,
            }) = &port.vm
            else {
                continue;
            };
            let place = *places.entry(name).or_insert(vms.len());
            match vms.get_mut(place) {
                Some(vm) => vm.ports.push(port.id()),
                None => vms.push(Vm {
                    name: name.clone(),
                    ports: vec![port.id()],
                    limits: Arc::new(VmLimits::new(*from_vm, *to_vm)),
                    labels: labels.clone(),
                    options: [*from_vm, *to_vm],
                    throttled: Mutex::default(),
                }),
            }
        }
        Self(vms.into_iter().map(Arc::new).collect())
    }

    /// What takes the place of these when the topology changes: VMs that stay go on with what they
    /// have used of their limits. Hands changed ones to the cores.
    pub(crate) fn following(&self, ports: &[PortSpec], cores: &Cores, now: Nanos) -> Self {
        let before: HashMap<_, _> = self.0.iter().map(|vm| (&vm.name, vm)).collect();
        let next = |vm: Arc<Vm>| match before.get(&vm.name) {
            Some(old) if old.is_as(&vm) => Arc::clone(old),
            Some(old) => {
                let vm = old.followed_by(&vm);
                let [from_vm, to_vm] = vm.options;
                cores.change_limits(&vm.ports, &vm.limits, (from_vm, to_vm), now);
                vm
            }
            None => {
                cores.limit(&vm.ports, &vm.limits);
                vm
            }
        };
        Self(Self::new(ports).0.into_iter().map(next).collect())
    }

    /// Hands the limits to the cores. Called before any of the ports comes up.
    pub(crate) fn limit(&self, cores: &Cores) {
        for vm in self.0.iter().filter(|vm| vm.limits.is_limited()) {
            cores.limit(&vm.ports, &vm.limits);
        }
    }

    /// Every VM, in the topology's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vm> {
        self.0.iter().map(Arc::as_ref)
    }

    /// Samples all VMs, once a second.
    pub(crate) fn sample(&self, now: Nanos) {
        for vm in &self.0 {
            vm.limits.refresh(now);
            let mut last = lock(&vm.throttled);
            let ns = vm.limits.throttled_ns();
            *last = Throttled {
                at: now,
                ns,
                part: part(ns.saturating_sub(last.ns), now.saturating_sub(last.at)),
            };
        }
    }
}

impl Vm {
    fn is_as(&self, other: &Self) -> bool {
        (&self.ports, &self.labels, &self.options) == (&other.ports, &other.labels, &other.options)
    }

    /// The VM as `next` has it, which goes on with what it has used.
    fn followed_by(&self, next: &Self) -> Arc<Self> {
        Arc::new(Self {
            name: next.name.clone(),
            ports: next.ports.clone(),
            limits: self.limits.clone(),
            labels: next.labels.clone(),
            options: next.options,
            throttled: Mutex::new(*lock(&self.throttled)),
        })
    }

    /// Part of the last second for which its `from-vm` limit throttled it, 0 to 1.
    pub(crate) fn throttled(&self) -> f64 {
        lock(&self.throttled).part
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn part(ns: u64, of: Nanos) -> f64 {
    if of == 0 {
        0.0
    } else {
        (ns as f64 / of as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ports::tests::planned;

    #[test]
    fn vm_has_all_its_nics_and_no_uplink() {
        let text = r"cores: [0]
uplinks: { up0: { device: eth1 }, up1: { device: eth2 } }
networks: { a: { uplink: up0 } }
vms:
  v:
    nics:
      n0: { network: a, vhost-user: { path: /a } }
      n1: { network: a, vhost-user: { path: /b } }
  w:
    nics:
      n0: { network: a, vhost-user: { path: /c } }
";
        let topology = config::parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
        let vms = Vms::new(&planned(&topology));
        let vms: Vec<_> = vms
            .iter()
            .map(|vm| (vm.name.as_str(), vm.ports.clone()))
            .collect();
        assert_eq!(vms, [("v", vec![0, 1]), ("w", vec![2])]);
    }
}
