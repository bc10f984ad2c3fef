//! From a topology to ports that are devices: their ids, networks and trunks.

use std::sync::Arc;

use config::{Nic, PortKind, Topology};
use flowtable::{Exit, Ingress, NetworkId, PortId, SourcePolicy, Trunk, TrunkId};

use crate::base::log::Notes;
use crate::device::port::{DeviceLink, DevicePort};
use crate::device::probe::{nic_wish, uplink_wish};

/// Addresses that are learned from behind one uplink at most; frames of others are forwarded like theirs.
pub(crate) const UPLINK_MACS: u32 = 1 << 16;

/// The port of the uplink with this index: uplinks come behind all NICs.
pub(crate) fn uplink_port(topology: &Topology, uplink_idx: usize) -> PortId {
    // There are as many ports as fit: see `new_fleet`.
    PortId::try_from(topology.nics().count() + uplink_idx).unwrap_or(PortId::MAX)
}

/// The way to the wire of a network.
pub(crate) fn exit(topology: &Topology, network: &config::Network) -> Option<Exit> {
    let port = uplink_port(topology, network.uplink_idx?);
    Some(Exit { port, vlan: network.vlan })
}

/// What each uplink carries.
pub(crate) fn trunks(topology: &Topology) -> Vec<Trunk> {
    let carried = |uplink_idx: usize| {
        let networks = topology.networks_on(uplink_idx);
        networks.map(|(network_idx, network)| (network.vlan, network_id(network_idx))).collect::<Vec<_>>()
    };
    (0..topology.uplinks.len()).map(|uplink_idx| Trunk::new(carried(uplink_idx))).collect()
}

/// Every port that is a device, by id. `ingress`: how a NIC's frames are to be decided.
pub(crate) fn device_ports(topology: &Topology, ingress: impl Fn(PortId, &Nic) -> Ingress) -> Vec<Arc<DevicePort>> {
    let nics = (0..).zip(topology.nics()).filter(|(_, (_, nic))| !matches!(nic.port, PortKind::VhostUser { .. }));
    let nics = nics.filter_map(|(id, (vm, nic))| {
        let name = config::port_name(vm, nic);
        Some(Arc::new(DevicePort {
            networks: vec![topology.network_of(nic).name.clone()],
            ingress: ingress(id, nic),
            rules: nic.rules.iter().map(ToString::to_string).collect(),
            is_uplink: false,
            wish: nic_wish(topology, nic)?,
            link: DeviceLink::default(),
            notes: Notes::new(&name),
            name,
        }))
    });
    let uplinks = topology.uplinks.iter().enumerate().map(|(idx, uplink)| {
        Arc::new(DevicePort {
            name: uplink.name.clone(),
            networks: topology.networks_on(idx).map(|(_, network)| network.name.clone()).collect(),
            ingress: uplink_ingress(topology, idx),
            rules: Vec::new(),
            is_uplink: true,
            wish: uplink_wish(topology, idx, uplink),
            link: DeviceLink::default(),
            notes: Notes::new(&uplink.name),
        })
    });
    nics.chain(uplinks).collect()
}

fn uplink_ingress(topology: &Topology, uplink_idx: usize) -> Ingress {
    Ingress {
        port: uplink_port(topology, uplink_idx),
        // Its frames say themselves.
        network: NetworkId::MAX,
        trunk: TrunkId::try_from(uplink_idx).ok(),
        source: SourcePolicy::Any(UPLINK_MACS),
        generation: 1,
    }
}

fn network_id(network_idx: usize) -> NetworkId {
    // There are as many networks as fit: see `new_fleet`.
    NetworkId::try_from(network_idx).unwrap_or(NetworkId::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let text = "cores: [0]\nuplinks: { up0: { device: eth1 }, up1: { device: eth2, queues: 2 } }\n\
             networks: { a: { uplink: up1, vlan: 7, mtu: 2000 }, b: {}, c: { uplink: up1 }, d: { uplink: up0 } }\n\
             vms:\n  v:\n    nics:\n      n0: { network: b, vhost-user: { path: /s } }\n      \
             n1: { network: a, afxdp: { device: veth0 } }\n";
        config::parse(text, "weir.yaml").unwrap()
    }

    fn sticky(port: PortId, nic: &Nic) -> Ingress {
        let network = network_id(nic.network_idx);
        Ingress { port, network, trunk: None, source: SourcePolicy::Sticky, generation: 1 }
    }

    #[test]
    fn uplinks_are_ports_behind_the_nics() {
        let ports = device_ports(&topology(), sticky);
        let ids: Vec<_> = ports.iter().map(|port| (port.name.as_str(), port.id(), port.ingress.trunk)).collect();
        assert_eq!(ids, [("v/n1", 1, None), ("up0", 2, Some(0)), ("up1", 3, Some(1))]);
        assert_eq!(ports[2].networks, ["a", "c"]);
        assert_eq!((ports[2].wish.queues, ports[2].wish.mtu.clone()), (Some(2), Some((2000, "a".into()))));
    }

    #[test]
    fn networks_leave_by_their_uplink_and_come_back_by_its_trunk() {
        let topology = topology();
        let exits: Vec<_> = topology.networks.iter().map(|network| exit(&topology, network)).collect();
        let leaves = |port, vlan| Some(Exit { port, vlan });
        assert_eq!(exits, [leaves(3, Some(7)), None, leaves(3, None), leaves(2, None)]);
        let trunks = trunks(&topology);
        assert_eq!([trunks[1].network(7), trunks[1].network(0), trunks[1].network(8)], [Some(0), Some(2), None]);
        assert_eq!([trunks[0].network(0), trunks[0].network(7)], [Some(3), None]);
    }
}
