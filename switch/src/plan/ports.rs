//! Ports, as the topology describes them: built once, the only source for everything else.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use config::{Listens, MacPolicy, Nic, Topology};
use flowtable::rules::rule::Rule;
use flowtable::{Ingress, NetworkId, PortId, SourcePolicy};

use super::addresses::{UPLINK_MACS, any_max};
use super::devices::{DeviceSpec, uplink_device};
use super::ids::Ids;
use super::limits::{VmSpec, vms};
use crate::base::lock::lock;

/// A port: a NIC of a VM, or an uplink. Two of the same port are equal if nothing of it has
/// changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSpec {
    /// `vm/nic`, or the uplink's name.
    pub(crate) name: String,
    /// Whose NIC it is, with the limits that all of that VM's NICs share. None: it is an uplink.
    pub(crate) vm: Option<VmSpec>,
    /// Whether a guest can connect, or its device is attached.
    pub(crate) enabled: bool,
    /// Names of its networks: one for a NIC, all that it carries for an uplink.
    pub(crate) networks: Vec<String>,
    /// For the cores: its id, its network or trunk, the addresses it may send from.
    pub(crate) ingress: Ingress,
    /// Its rules, in the order in which they are checked; an uplink has none.
    pub(crate) rules: Vec<Rule>,
    pub(crate) kind: PortKind,
}

/// What the topology says of a port at present: another topology may change all of it but the id,
/// the name and the kind.
#[derive(Debug)]
pub(crate) struct CurrentSpec(Mutex<Arc<PortSpec>>);

impl CurrentSpec {
    /// As `spec`.
    pub(crate) fn new(spec: &PortSpec) -> Self {
        Self(Mutex::new(Arc::new(spec.clone())))
    }

    /// As of now.
    pub(crate) fn get(&self) -> Arc<PortSpec> {
        lock(&self.0).clone()
    }

    /// Does `work` with it, and lets nothing change it meanwhile.
    pub(crate) fn hold<T>(&self, work: impl FnOnce(&PortSpec) -> T) -> T {
        work(&lock(&self.0))
    }
    /// Replaces it; `then` is done before anything else is done with it.
    pub(crate) fn replace(&self, spec: &PortSpec, then: impl FnOnce()) {
        let mut current = lock(&self.0);
        *current = Arc::new(spec.clone());
        then();
    }
}

/// Kind of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortKind {
    /// A vhost-user socket.
    Socket(SocketSpec),
    /// A device of this host.
    Device(DeviceSpec),
}

/// A vhost-user socket, and what the guest behind it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketSpec {
    pub(crate) path: PathBuf,
    /// Which side creates it.
    pub(crate) listens: Listens,
    /// Name or number of the group that it is given to; none: the daemon's own.
    pub(crate) group: Option<String>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Queue pairs that the guest may enable.
    pub(crate) n_pairs: u16,
}

impl PortSpec {
    /// Its place in every per-port table.
    pub(crate) fn id(&self) -> PortId {
        self.ingress.port
    }

    /// The same with the running port's part of what all ports share: its number of addresses with
    /// `macs: any`, its room for frames at a `to-vm` limit. Those depend on how many others there
    /// are, and what a port has is not taken away because another comes.
    pub(crate) fn keeping_parts(mut self, running: &PortSpec) -> Self {
        if let (SourcePolicy::Any(part), SourcePolicy::Any(running)) =
            (&mut self.ingress.source, running.ingress.source)
        {
            *part = running;
        }
        let queue = self.vm.as_mut().and_then(|vm| vm.to_vm.queue.as_mut());
        let running = running.vm.as_ref().and_then(|vm| vm.to_vm.queue);
        if let (Some(queue), Some(running)) = (queue, running) {
            queue.bytes_max = running.bytes_max;
        }
        self
    }

    /// Its name, and how many addresses it may have, if it may have any.
    pub(super) fn part(&self) -> Option<(&str, u32)> {
        match self.ingress.source {
            SourcePolicy::Any(part) => Some((&self.name, part)),
            _ => None,
        }
    }

    /// Its rules as operators read them.
    pub(crate) fn rule_texts(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }
}

/// Every port of the topology, in the order of ids; `ids`: those that were assigned to it. A daemon
/// that starts has the NICs in the topology's order, then the uplinks.
pub(crate) fn ports(topology: &Topology, ids: &Ids) -> Vec<PortSpec> {
    let any_max = any_max(topology);
    let vms = vms(topology);
    let nics = topology
        .vms
        .iter()
        .zip(&vms)
        .flat_map(|(vm, spec)| vm.nics.iter().map(move |nic| (vm, spec, nic)));
    let uplinks = topology.uplinks.iter().enumerate();
    let mut ports: Vec<_> = nics
        .map(|(vm, spec, nic)| PortSpec {
            name: config::port_name(vm, nic),
            vm: Some(spec.clone()),
            enabled: nic.enabled,
            networks: vec![topology.network_of(nic).name.clone()],
            ingress: Ingress {
                port: ids.port_of(&config::port_name(vm, nic)),
                network: ids.network_of(&topology.network_of(nic).name),
                trunk: None,
                source: source(nic, any_max),
                generation: 1,
            },
            rules: nic.rules.clone(),
            kind: nic_kind(topology, nic),
        })
        .collect();
    ports.extend(uplinks.map(|(idx, uplink)| {
        PortSpec {
            name: uplink.name.clone(),
            vm: None,
            enabled: true,
            networks: topology
                .networks_on(idx)
                .map(|(_, network)| network.name.clone())
                .collect(),
            ingress: Ingress {
                port: ids.port_of(&uplink.name),
                // Its frames' tags name their networks.
                network: NetworkId::MAX,
                trunk: ids.trunk(&uplink.name),
                source: SourcePolicy::Any(UPLINK_MACS),
                generation: 1,
            },
            rules: Vec::new(),
            kind: PortKind::Device(uplink_device(topology, idx, uplink)),
        }
    }));
    ports.sort_by_key(PortSpec::id);
    ports
}

fn nic_kind(topology: &Topology, nic: &Nic) -> PortKind {
    let network = topology.network_of(nic);
    let mtu = (network.mtu, network.name.clone());
    match &nic.port {
        config::PortKind::VhostUser {
            path,
            listens,
            group,
            mode,
        } => PortKind::Socket(SocketSpec {
            path: path.clone(),
            listens: *listens,
            group: group.clone(),
            mode: *mode,
            n_pairs: nic.queues,
        }),
        config::PortKind::Tap { name } => PortKind::Device(DeviceSpec::tap(name, mtu)),
        config::PortKind::AfXdp {
            device,
            mode,
            ring,
            queues,
        } => PortKind::Device(DeviceSpec::af_xdp(device, *mode, *queues, *ring, mtu)),
    }
}

fn source(nic: &Nic, any_max: u32) -> SourcePolicy {
    match nic.mac {
        MacPolicy::Fixed(mac) => SourcePolicy::Fixed(mac.octets()),
        MacPolicy::Sticky => SourcePolicy::Sticky,
        MacPolicy::Learn(n) => SourcePolicy::Learn(n),
        MacPolicy::Any => SourcePolicy::Any(any_max),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two networks behind the second of two uplinks, one behind the first, and one without any.
    pub(crate) fn topology() -> Topology {
        let text = r"cores: [0]
uplinks: { up0: { device: eth1 }, up1: { device: eth2, queues: 2 } }
networks: { a: { uplink: up1, vlan: 7, mtu: 2000 }, b: {}, c: { uplink: up1 }, d: { uplink: up0 } }
vms:
  v:
    nics:
      n0: { network: b, vhost-user: { path: /s } }
      n1: { network: a, afxdp: { device: veth0 } }
";
        config::parse(text, "weir.yaml").unwrap()
    }

    /// The ports of a daemon that starts with this topology.
    pub(crate) fn planned(topology: &Topology) -> Vec<PortSpec> {
        ports(topology, &Ids::of(topology).unwrap())
    }

    fn device(port: &PortSpec) -> &DeviceSpec {
        let PortKind::Device(device) = &port.kind else {
            panic!("{port:?}")
        };
        device
    }

    #[test]
    fn uplinks_are_ports_behind_the_nics() {
        let ports = planned(&topology());
        let ids: Vec<_> = ports
            .iter()
            .map(|port| (port.name.as_str(), port.id(), port.ingress.trunk))
            .collect();
        assert_eq!(
            ids,
            [
                ("v/n0", 0, None),
                ("v/n1", 1, None),
                ("up0", 2, Some(0)),
                ("up1", 3, Some(1))
            ]
        );
        assert_eq!(
            ports
                .iter()
                .map(|port| port.ingress.network)
                .collect::<Vec<_>>(),
            [1, 0, NetworkId::MAX, NetworkId::MAX]
        );
        assert_eq!(ports[3].networks, ["a", "c"]);
        assert_eq!(
            (device(&ports[3]).queues, device(&ports[3]).mtu.clone()),
            (Some(2), Some((2000, "a".into())))
        );
    }

    #[test]
    fn part_of_a_running_port_stays_when_others_come() {
        let text = |n: usize, more: &str| {
            let vm = |n| {
                format!(
                    "  v{n}: {{ limit: {{ to-vm: {{ rate: 1gbit{more} }} }}, nics: {{ n: {{ \
                    network: b, macs: any, vhost-user: {{ path: /{n} }} }} }} }}\n"
                )
            };
            let vms: String = (0..n).map(vm).collect();
            let text = format!("cores: [0]\nnetworks: {{ b: {{}} }}\nvms:\n{vms}");
            config::parse(&text, "weir.yaml").unwrap()
        };
        let (old, new) = (planned(&text(33, "")), planned(&text(40, "")));
        for (old, new) in old.iter().zip(new) {
            assert_ne!(new, *old, "there is a part that depends on the others");
            assert_eq!(new.keeping_parts(old), *old);
        }
        // What was written is taken over.
        let changed = planned(&text(40, ", queue: 5ms")).swap_remove(0);
        let kept = changed.clone().keeping_parts(&old[0]);
        let queue = |port: &PortSpec| port.vm.as_ref().unwrap().to_vm.queue.unwrap();
        assert_eq!(queue(&kept).time, 5_000_000);
        assert_eq!(queue(&kept).bytes_max, queue(&old[0]).bytes_max);
        let none = planned(&text(40, ", queue: none")).swap_remove(0);
        assert_eq!(none.clone().keeping_parts(&old[0]).vm, none.vm);
    }

    #[test]
    fn ports_keep_their_ids_and_come_in_their_order() {
        let mut ids = Ids::of(&topology()).unwrap();
        let text = r"cores: [0]
uplinks: { up1: { device: eth2 } }
networks: { e: {}, b: {} }
vms:
  w: { nics: { n: { network: e, vhost-user: { path: /w } } } }
  v:
    nics:
      n2: { network: b, vhost-user: { path: /2 } }
      n0: { network: b, tap: { name: t } }
";
        let next = config::parse(text, "weir.yaml").unwrap();
        ids.assign(&next).unwrap();
        let places = |ids: &Ids| {
            ports(&next, ids)
                .iter()
                .map(|port| {
                    let of = port.ingress;
                    (port.name.clone(), of.port, of.network, of.trunk)
                })
                .collect::<Vec<_>>()
        };
        let expected = [
            ("v/n0", 0, 1, None),
            ("up1", 3, NetworkId::MAX, Some(1)),
            ("w/n", 4, 4, None),
            ("v/n2", 5, 1, None),
        ]
        .map(|(name, port, network, trunk)| (name.to_owned(), port, network, trunk));
        assert_eq!(places(&ids), expected);
        // To release what is gone changes nothing for those that stay.
        ids.release(&ids.departed(&next));
        assert_eq!(places(&ids), expected);
    }
}
