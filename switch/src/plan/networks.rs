//! Networks, as the cores use them: members, uplink, and trunks.

use config::Topology;
use flowtable::{Exit, Network, Networks, PortId, Trunk};

use super::ids::Ids;
use super::ports::PortSpec;
use super::rules::policies;

/// The topology's networks and trunks by their ids, with the rules of all `ports`, which are the
/// topology's. A network that has left is empty, so that nothing leaves it, and so is a trunk.
pub(crate) fn networks(topology: &Topology, ids: &Ids, ports: &[PortSpec]) -> Networks {
    let mut networks = vec![Network::default(); ids.n_network_ids()];
    for network in &topology.networks {
        let id = ids.network_of(&network.name);
        let uplink = exit(topology, ids, network);
        let is_member = |port: &&PortSpec| port.vm.is_some() && port.ingress.network == id;
        let nics = ports.iter().filter(is_member).map(PortSpec::id);
        let mut members: Vec<PortId> = nics.chain(uplink.map(|exit| exit.port)).collect();
        members.sort_unstable();
        if let Some(place) = networks.get_mut(usize::from(id)) {
            *place = Network {
                members,
                // The MTU leaves out the Ethernet header.
                frame_max: u32::from(network.mtu) + 14,
                // A network with a VLAN is an access network, where guests' own tags don't pass.
                passes_tags: network.vlan.is_none() && network.uplink_idx.is_none(),
                uplink,
                ..Network::default()
            };
        }
    }
    let networks = Networks {
        networks,
        trunks: trunks(topology, ids),
        ..Networks::default()
    };
    networks.with_policies(policies(ports), 1)
}

/// The uplink of a network.
fn exit(topology: &Topology, ids: &Ids, network: &config::Network) -> Option<Exit> {
    let uplink = topology.uplinks.get(network.uplink_idx?)?;
    Some(Exit {
        port: ids.port_of(&uplink.name),
        vlan: network.vlan,
    })
}

/// What each uplink carries.
fn trunks(topology: &Topology, ids: &Ids) -> Vec<Trunk> {
    let mut trunks = vec![Trunk::new([]); ids.n_trunk_ids()];
    for (uplink_idx, uplink) in topology.uplinks.iter().enumerate() {
        let carried = topology
            .networks_on(uplink_idx)
            .map(|(_, network)| (network.vlan, ids.network_of(&network.name)));
        let id = ids.trunk(&uplink.name).map(usize::from);
        if let Some(place) = id.and_then(|id| trunks.get_mut(id)) {
            *place = Trunk::new(carried);
        }
    }
    trunks
}

#[cfg(test)]
mod tests {
    use super::super::ports::ports;
    use super::super::ports::tests::topology;
    use super::*;

    #[test]
    fn networks_leave_by_their_uplink_and_come_back_by_its_trunk() {
        let topology = topology();
        let ids = Ids::of(&topology).unwrap();
        let exits: Vec<_> = topology
            .networks
            .iter()
            .map(|network| exit(&topology, &ids, network))
            .collect();
        let leaves = |port, vlan| Some(Exit { port, vlan });
        assert_eq!(
            exits,
            [leaves(3, Some(7)), None, leaves(3, None), leaves(2, None)]
        );
        let trunks = trunks(&topology, &ids);
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
        let ids = Ids::of(&topology).unwrap();
        let members: Vec<_> = networks(&topology, &ids, &ports(&topology, &ids))
            .networks
            .into_iter()
            .map(|network| network.members)
            .collect();
        assert_eq!(members, [vec![1, 3], vec![0], vec![3], vec![2]]);
    }

    #[test]
    fn what_has_left_is_empty_and_what_stays_has_its_place() {
        let mut ids = Ids::of(&topology()).unwrap();
        let text = r"cores: [0]
uplinks: { up1: { device: eth2 } }
networks: { e: { mtu: 900 }, c: { uplink: up1, vlan: 9 } }
vms:
  w: { nics: { n: { network: c, vhost-user: { path: /w } } } }
  v:
    nics:
      n1:
        network: c
        vhost-user: { path: /v }
        rules: [ { deny: { to-vm: { proto: arp } } } ]
";
        let next = config::parse(text, "weir.yaml").unwrap();
        ids.assign(&next).unwrap();
        for _ in 0..2 {
            let networks = networks(&next, &ids, &ports(&next, &ids));
            let empty = Network::default();
            assert_eq!(networks.networks.len(), 5);
            assert_eq!([0, 1, 3].map(|id| &networks.networks[id]), [&empty; 3]);
            // The uplink came before the second VM, and members come in the order of ids.
            assert_eq!(networks.networks[2].members, [1, 3, 4]);
            assert_eq!(networks.networks[4].frame_max, 914);
            assert_eq!(networks.trunks.len(), 2);
            assert_eq!(networks.trunks[0], Trunk::new([]));
            assert_eq!(
                [
                    networks.of_vlan(1, 9),
                    networks.of_vlan(1, 7),
                    networks.of_vlan(1, 0)
                ],
                [Some(2), None, None]
            );
            assert!(networks.policy(1).is_some() && networks.policy(4).is_none());
            // Whether what has left is released yet or not.
            ids.release(&ids.departed(&next));
        }
    }
}
