//! Warnings about a topology that has no mistakes.

use flowtable::rules::rule::without_effect;

use crate::topology::{MacPolicy, Nic, Topology, Vm, VmLimit, port_name};
use crate::units::Micros;

/// NICs that a warning names at most.
const NAMES_SHOWN: usize = 3;
/// Frames in a guest's transmit ring, as drivers set it up by default.
const RING_FRAMES: u64 = 256;
/// A ring that takes longer than this to drain is worth a warning, in microseconds.
const RING_TIME_MAX: u64 = 200_000;

impl Topology {
    /// Warnings about rules, limits and metrics, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        let of_nic = |(vm, nic): (&Vm, &Nic)| {
            let port = port_name(vm, nic);
            let remark = |rule| {
                format!(
                    "rule `{rule}` of {port} has no effect: no rule below it denies what it allows"
                )
            };
            without_effect(&nic.rules).map(remark).collect::<Vec<_>>()
        };
        self.nics()
            .flat_map(of_nic)
            .chain(self.vms.iter().filter_map(|vm| self.slow_rings(vm)))
            .chain(self.open_metrics())
            .collect()
    }

    /// A warning about metrics that other hosts can read.
    fn open_metrics(&self) -> Option<String> {
        let listen = self.metrics?.listen;
        // `::ffff:127.0.0.1` is a loopback address, too.
        (!listen.ip().to_canonical().is_loopback()).then(|| {
            format!(
                "`metrics` listens on {listen}, which other hosts may reach: whoever does can read \
                names, labels and counters of all VMs, unencrypted and without a password"
            )
        })
    }

    /// A warning about a limit that keeps other VMs' rings full for long.
    fn slow_rings(&self, vm: &Vm) -> Option<String> {
        let networks: Vec<usize> = vm.nics.iter().map(|nic| nic.network_idx).collect();
        let is_sender = |(other, nic): (&Vm, &Nic)| {
            other.name != vm.name && networks.contains(&nic.network_idx)
        };
        self.nics().any(is_sender).then_some(())?;
        let mtu = networks.iter().map(|&idx| self.networks[idx].mtu).max()?;
        let frame = u64::from(mtu) + 14;
        let time = ring_time(&vm.limit, frame)?;
        let name = &vm.name;
        Some(format!(
            "what other VMs send to {name} waits in their rings at its `to-vm` limit: 256 frames \
            of {frame} bytes take {} ms there (a shorter ring, or `queue: none` and drops, take \
            less)",
            time.value() / 1000
        ))
    }

    /// Advice on NICs that have no `mac`, whose first address sticks. None: there are none.
    pub fn advice_on_macs(&self) -> Option<String> {
        let names = self
            .nics()
            .filter(|(_, nic)| nic.mac == MacPolicy::Sticky)
            .map(|(vm, nic)| port_name(vm, nic));
        let names: Vec<_> = names.collect();
        let (shown, more) = names.split_at(names.len().min(NAMES_SHOWN));
        let more = if more.is_empty() {
            String::new()
        } else {
            format!(" and {} more", more.len())
        };
        (!shown.is_empty()).then(|| {
            format!(
                "no `mac` is given for {}{more}: the first address a guest sends from becomes its \
                own, whichever that is; `mac: \"52:54:…\"` says which, and keeps it from the wire",
                shown.join(", ")
            )
        })
    }
}

/// How long a ring full of frames to the VM takes to drain, where that is worth a warning. VMs on
/// this host queue in their own rings. `frame`: bytes of each.
fn ring_time(limit: &VmLimit, frame: u64) -> Option<Micros> {
    let limit = limit.to_vm.filter(|limit| limit.queue.is_some())?;
    let by_bits = limit
        .rate
        .map_or(0, |rate| RING_FRAMES * frame * 8 * 1_000_000 / rate.value());
    let by_packets = limit
        .packets
        .map_or(0, |packets| RING_FRAMES * 1_000_000 / packets.value());
    Micros::new(by_bits.max(by_packets)).filter(|time| time.value() > RING_TIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::topology;

    #[test]
    fn mac_is_advised_where_none_is_given() {
        let mut topology = topology();
        let advice = topology.advice_on_macs().unwrap();
        assert!(
            advice.starts_with("no `mac` is given for web/net0: "),
            "{advice}"
        );
        let nic = topology.vms[0].nics[0].clone();
        topology.vms[0].nics.extend((1..6).map(|n| Nic {
            name: format!("net{n}"),
            ..nic.clone()
        }));
        let advice = topology.advice_on_macs().unwrap();
        assert!(
            advice.starts_with("no `mac` is given for web/net0, web/net1, web/net2 and 3 more: "),
            "{advice}"
        );
        topology.vms[0]
            .nics
            .iter_mut()
            .for_each(|nic| nic.mac = MacPolicy::Learn(4));
        assert_eq!(topology.advice_on_macs(), None);
    }
}
