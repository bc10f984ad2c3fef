//! Networks, as operators see them.

use hashbrown::HashMap;

use super::ports::ports;
use super::sources::Sources;
use crate::api::network::NetworkReport;
use crate::api::state::State;

/// Every network, in the topology's order.
pub(crate) fn networks(sources: &Sources) -> Vec<NetworkReport> {
    let (present, ports) = (sources.present(), ports(sources));
    let topology = &present.topology;
    // NICs that are up, and all, by network.
    let mut nics: HashMap<&str, (usize, usize)> = HashMap::new();
    for port in ports.iter().filter(|port| port.vm.is_some()) {
        for network in &port.networks {
            let (n_up, n_total) = nics.entry(network).or_default();
            *n_up += usize::from(port.state == State::Up);
            *n_total += 1;
        }
    }
    let report = |network: &config::Network| {
        let uplink = network
            .uplink_idx
            .and_then(|uplink_idx| topology.uplinks.get(uplink_idx));
        let (nics_up, nics_total) = nics.get(&*network.name).copied().unwrap_or_default();
        NetworkReport {
            name: network.name.clone(),
            uplink: uplink.map(|uplink| uplink.name.clone()),
            vlan: network.vlan,
            mtu_bytes: network.mtu,
            nics_up,
            nics_total,
        }
    };
    topology.networks.iter().map(report).collect()
}
