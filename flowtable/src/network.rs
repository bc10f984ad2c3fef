//! Broadcast domains, and what a port may send into one. Immutable values: control builds new ones and hands them over.

/// A port of the switch: its place in every per-port table.
pub type PortId = u16;
/// A network: its place in [`Networks`].
pub type NetworkId = u16;
/// What an uplink carries: its place in [`Networks`].
pub type TrunkId = u16;

/// Places of a trunk: one for each VLAN id, the first of which, 0, means none.
const VLANS: usize = 1 << 12;
/// No network.
const NOWHERE: NetworkId = NetworkId::MAX;

/// One broadcast domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Every port configured into it, connected or not.
    pub members: Vec<PortId>,
    /// Longest Ethernet frame without FCS and without tag, in bytes: MTU and 14.
    pub frame_max: u32,
    /// Whether guests' own VLAN tags pass. They do where no wire carries a tag that could be imitated.
    pub passes_tags: bool,
    /// The way to the wire, if there is one: the only member that may be a trunk.
    pub uplink: Option<Exit>,
}

/// Where a network's frames leave for a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The uplink, which is among the network's members too.
    pub port: PortId,
    /// The tag that they carry out there; those that come in by the uplink's trunk have it taken off.
    pub vlan: Option<u16>,
}

/// What an uplink carries: to which network a frame from the wire belongs, by its outer tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Trunk(Box<[NetworkId; VLANS]>);

impl Trunk {
    /// From all networks of an uplink and the VLAN id (1 to 4094) of each; `None` for the one whose frames carry no tag.
    pub fn new(networks: impl IntoIterator<Item = (Option<u16>, NetworkId)>) -> Self {
        let mut places = Box::new([NOWHERE; VLANS]);
        for (vlan, network) in networks {
            places[usize::from(vlan.unwrap_or(0)) % VLANS] = network;
        }
        Self(places)
    }

    /// The network of a frame whose outer tag has this VLAN id. 0: it has no tag, or one that says its priority alone.
    #[inline(always)]
    pub fn network(&self, vlan: u16) -> Option<NetworkId> {
        let network = self.0[usize::from(vlan) % VLANS];
        (network != NOWHERE).then_some(network)
    }
}

impl std::fmt::Debug for Trunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let carried = (0..).zip(self.0.iter()).filter(|&(_, &network)| network != NOWHERE);
        f.debug_map().entries(carried.map(|(vlan, network): (u16, _)| (vlan, network))).finish()
    }
}

/// All networks, by [`NetworkId`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The networks, in the order of their ids.
    pub networks: Vec<Network>,
    /// What each uplink carries, in the order of their ids.
    pub trunks: Vec<Trunk>,
}

impl Networks {
    /// The network with this id; an unknown one is empty, so nothing leaves it.
    pub fn network(&self, id: NetworkId) -> &Network {
        const EMPTY: &Network = &Network { members: Vec::new(), frame_max: 0, passes_tags: false, uplink: None };
        self.networks.get(usize::from(id)).unwrap_or(EMPTY)
    }

    /// The network of a frame that came in by a trunk with this VLAN id; see [`Trunk::network`].
    #[inline(always)]
    pub fn of_vlan(&self, trunk: TrunkId, vlan: u16) -> Option<NetworkId> {
        self.trunks.get(usize::from(trunk))?.network(vlan)
    }
}

/// Which source addresses a port may send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePolicy {
    /// This one alone, from the topology.
    Fixed([u8; 6]),
    /// The first that is seen, until the guest disconnects.
    Sticky,
    /// As many as this, learned and aged.
    Learn(u32),
}

impl SourcePolicy {
    /// How many addresses the MAC table keeps for such a port at most.
    pub fn address_max(self) -> u32 {
        match self {
            SourcePolicy::Fixed(_) | SourcePolicy::Sticky => 1,
            SourcePolicy::Learn(n) => n,
        }
    }
}

/// What a decision needs to know of the port that a frame came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// The port.
    pub port: PortId,
    /// The network it belongs to. Of an uplink with a trunk: nothing, its frames say themselves.
    pub network: NetworkId,
    /// What an uplink carries; `None` for a port of one network.
    pub trunk: Option<TrunkId>,
    /// Which addresses it may send from.
    pub source: SourcePolicy,
    /// Changes whenever anything above does, or what the trunk carries, so that remembered decisions of before are stale.
    pub generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trunk_leads_each_vlan_to_its_network_and_others_nowhere() {
        let networks =
            Networks { networks: Vec::new(), trunks: vec![Trunk::new([(Some(100), 3), (None, 0), (Some(4094), 7)])] };
        assert_eq!(networks.of_vlan(0, 100), Some(3));
        assert_eq!(networks.of_vlan(0, 0), Some(0));
        assert_eq!(networks.of_vlan(0, 4094), Some(7));
        assert_eq!(networks.of_vlan(0, 99), None);
        assert_eq!(networks.of_vlan(1, 100), None, "there is no such trunk");
        assert_eq!(format!("{:?}", networks.trunks[0]), "{0: 0, 100: 3, 4094: 7}");
    }
}
