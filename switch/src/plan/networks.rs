//! Networks, as the cores use them: members, uplink, and trunks.

use config::Topology;
use flowtable::{Exit, Network, Networks, PortId, Trunk};

use super::ports::{PortSpec, network_id};
use super::rules::policies;

/// The topology's networks, with the rules of all `ports`.
pub(crate) fn networks(topology: &Topology, ports: &[PortSpec]) -> Networks {
    let network = |(network_idx, network): (usize, &config::Network)| {
        let uplink = exit(network, ports);
        let is_member =
            |port: &&PortSpec| port.vm.is_some() && port.ingress.network == network_id(network_idx);
        let nics = ports.iter().filter(is_member).map(PortSpec::id);
        Network {
            members: nics.chain(uplink.map(|exit| exit.port)).collect(),
            // The MTU leaves out the Ethernet header.
            frame_max: u32::from(network.mtu) + 14,
            // A network with a VLAN is an access network, where guests' own tags don't pass.
            passes_tags: network.vlan.is_none() && network.uplink_idx.is_none(),
            uplink,
            ..Network::default()
        }
    };
    let networks = topology.networks.iter().enumerate().map(network).collect();
    let networks = Networks {
        networks,
        trunks: trunks(topology),
        ..Networks::default()
    };
    networks.with_policies(policies(ports), 1)
}

/// The networks' names, by number.
pub(crate) fn network_names(topology: &Topology) -> Vec<String> {
    topology
        .networks
        .iter()
        .map(|network| network.name.clone())
        .collect()
}

/// The uplink of a network.
fn exit(network: &config::Network, ports: &[PortSpec]) -> Option<Exit> {
    let uplink_idx = network.uplink_idx?;
    let port: PortId = ports
        .iter()
        .filter(|port| port.vm.is_none())
        .nth(uplink_idx)?
        .id();
    Some(Exit {
        port,
        vlan: network.vlan,
    })
}

/// What each uplink carries.
fn trunks(topology: &Topology) -> Vec<Trunk> {
    let carried = |uplink_idx: usize| {
        let networks = topology.networks_on(uplink_idx);
        networks
            .map(|(network_idx, network)| (network.vlan, network_id(network_idx)))
            .collect::<Vec<_>>()
    };
    (0..topology.uplinks.len())
        .map(|uplink_idx| Trunk::new(carried(uplink_idx)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::ports::{ports, tests::topology};
    use super::*;

    #[test]
    fn networks_leave_by_their_uplink_and_come_back_by_its_trunk() {
        let topology = topology();
        let ports = ports(&topology);
        let exits: Vec<_> = topology
            .networks
            .iter()
            .map(|network| exit(network, &ports))
            .collect();
        let leaves = |port, vlan| Some(Exit { port, vlan });
        assert_eq!(
            exits,
            [leaves(3, Some(7)), None, leaves(3, None), leaves(2, None)]
        );
        let trunks = trunks(&topology);
        assert_eq!(
            [
                trunks[1].network(7),
                trunks[1].network(0),
                trunks[1].network(8)
            ],
            [Some(0), Some(2), None]
        );
        assert_eq!(
            [trunks[0].network(0), trunks[0].network(7)],
            [Some(3), None]
        );
    }

    #[test]
    fn members_are_the_nics_in_order_and_then_the_uplink() {
        let topology = topology();
        let members: Vec<_> = networks(&topology, &ports(&topology))
            .networks
            .into_iter()
            .map(|network| network.members)
            .collect();
        assert_eq!(members, [vec![1, 3], vec![0], vec![3], vec![2]]);
    }
}
