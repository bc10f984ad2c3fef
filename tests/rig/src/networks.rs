//! Networks, as control would make them from a topology.

use std::sync::Arc;

use flowtable::{Exit, Network, Networks, PortId, Trunk};

/// Networks by their members; MTU 9,000; tags pass.
pub fn networks(members: &[&[PortId]]) -> Arc<Networks> {
    let network = |members: &&[PortId]| Network {
        members: members.to_vec(),
        frame_max: 9014,
        passes_tags: true,
        ..Network::default()
    };
    Arc::new(Networks {
        networks: members.iter().map(network).collect(),
        ..Networks::default()
    })
}

/// Networks that reach the wire by one uplink, the first trunk: by their members besides it, which
/// come before it, and their VLAN there. Frames of `frame_max` bytes at most; tags don't pass.
pub fn behind_uplink(
    uplink: PortId,
    frame_max: u32,
    networks: &[(&[PortId], Option<u16>)],
) -> Networks {
    let network = |&(members, vlan): &(&[PortId], Option<u16>)| Network {
        members: members.iter().copied().chain([uplink]).collect(),
        frame_max,
        uplink: Some(Exit { port: uplink, vlan }),
        ..Network::default()
    };
    let vlans = (0..)
        .zip(networks)
        .map(|(network, (_, vlan))| (*vlan, network));
    Networks {
        networks: networks.iter().map(network).collect(),
        trunks: vec![Trunk::new(vlans)],
        ..Networks::default()
    }
}
