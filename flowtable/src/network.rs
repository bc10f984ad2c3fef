//! Broadcast domains, and what a port may send into one. Immutable values: control builds new ones and hands them over.

/// A port of the switch: its place in every per-port table.
pub type PortId = u16;
/// A network: its place in [`Networks`].
pub type NetworkId = u16;

/// One broadcast domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Every port configured into it, connected or not.
    pub members: Vec<PortId>,
    /// Longest Ethernet frame without FCS and without tag, in bytes: MTU and 14.
    pub frame_max: u32,
    /// Whether guests' own VLAN tags pass. They do where no wire carries a tag that could be imitated.
    pub passes_tags: bool,
}

/// All networks, by [`NetworkId`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The networks, in the order of their ids.
    pub networks: Vec<Network>,
}

impl Networks {
    /// The network with this id; an unknown one is empty, so nothing leaves it.
    pub fn network(&self, id: NetworkId) -> &Network {
        const NOWHERE: &Network = &Network { members: Vec::new(), frame_max: 0, passes_tags: false };
        self.networks.get(usize::from(id)).unwrap_or(NOWHERE)
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
    /// The network it belongs to.
    pub network: NetworkId,
    /// Which addresses it may send from.
    pub source: SourcePolicy,
    /// Changes whenever anything above does, so that remembered decisions of before are stale.
    pub generation: u32,
}
