//! Broadcast domains, and what a port may send into one. Immutable values: control builds new ones
//! and hands them over.

use std::sync::Arc;

use crate::action::{Action, DropReason};
use crate::ids::{NetworkId, PortId, TrunkId};
use crate::rules::policy::Policy;
use crate::rules::rule::{Direction, Verdict};
use crate::wire::tuple::{KeyFields, Tuple};

/// Entries of a trunk: one per VLAN id; 0 means untagged.
const VLANS: usize = 1 << 12;
/// No network.
const NOWHERE: NetworkId = NetworkId::MAX;

/// One broadcast domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Every port configured into it, connected or not, in the order of their ids.
    pub members: Vec<PortId>,
    /// Longest Ethernet frame without FCS and without tag, in bytes: MTU and 14.
    pub frame_max: u32,
    /// Whether guests' own VLAN tags pass: where there is no wire, whose tags a guest could
    /// imitate.
    pub passes_tags: bool,
    /// What the `to-vm` rules of its members depend on; see [`Networks::with_policies`].
    pub fields: KeyFields,
    /// Number of the last change of its members or their rules; decisions from before it are stale.
    pub generation: u32,
    /// The way to the wire, if there is one: the only member that can be a trunk.
    pub uplink: Option<Exit>,
}

impl Network {
    /// Whether what frames' decisions depend on besides addresses and rules is the same. Members
    /// are looked up when a frame is flooded, and lengths before each decision.
    fn has_settings_of(&self, other: &Network) -> bool {
        let settings = |network: &Network| (network.passes_tags, network.fields, network.uplink);
        settings(self) == settings(other)
    }
}

/// How a network's frames leave for a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The uplink, which is among the network's members too.
    pub port: PortId,
    /// The tag that they carry on the wire; it is removed from received ones.
    pub vlan: Option<u16>,
}

/// An uplink's networks: which network a frame from the wire belongs to, by its outer tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Trunk {
    places: Box<[NetworkId; VLANS]>,
    /// Number of the last change; decisions from before it are stale.
    generation: u32,
}

impl Trunk {
    /// From all networks of an uplink and the VLAN id (1 to 4094) of each; `None` for the one whose
    /// frames carry no tag.
    pub fn new(networks: impl IntoIterator<Item = (Option<u16>, NetworkId)>) -> Self {
        let mut places = Box::new([NOWHERE; VLANS]);
        for (vlan, network) in networks {
            places[usize::from(vlan.unwrap_or(0)) % VLANS] = network;
        }
        Self {
            places,
            generation: 0,
        }
    }

    /// The network of a frame whose outer tag has this VLAN id. 0: it has no tag, or a priority
    /// tag.
    #[inline(always)]
    pub fn network(&self, vlan: u16) -> Option<NetworkId> {
        let network = self.places[usize::from(vlan) % VLANS];
        (network != NOWHERE).then_some(network)
    }
}

impl std::fmt::Debug for Trunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let carried = (0..)
            .zip(self.places.iter())
            .filter(|&(_, &network)| network != NOWHERE);
        f.debug_map()
            .entries(carried.map(|(vlan, network): (u16, _)| (vlan, network)))
            .finish()
    }
}

/// All networks, by [`NetworkId`], and the rules of all ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// The networks, in the order of their ids.
    pub networks: Vec<Network>,
    /// Rules by port; a port beyond the list has none.
    pub policies: Vec<Option<Arc<Policy>>>,
    /// Each uplink's networks, in the order of their ids.
    pub trunks: Vec<Trunk>,
}

impl Networks {
    /// The network with this id; an unknown one is empty, so nothing leaves it.
    pub fn network(&self, id: NetworkId) -> &Network {
        const EMPTY: &Network = &Network {
            members: Vec::new(),
            frame_max: 0,
            passes_tags: false,
            uplink: None,
            fields: KeyFields::NONE,
            generation: 0,
        };
        self.networks.get(usize::from(id)).unwrap_or(EMPTY)
    }

    /// The network of a frame that came in by a trunk with this VLAN id; see [`Trunk::network`].
    #[inline(always)]
    pub fn of_vlan(&self, trunk: TrunkId, vlan: u16) -> Option<NetworkId> {
        self.trunks.get(usize::from(trunk))?.network(vlan)
    }

    /// The same networks with these rules, by port. Networks where a member's rules have changed
    /// get `generation`: a number that no change had before.
    #[must_use]
    pub fn with_policies(mut self, policies: Vec<Option<Arc<Policy>>>, generation: u32) -> Self {
        let before = std::mem::replace(&mut self.policies, policies);
        let policies = &self.policies;
        for network in &mut self.networks {
            network.fields = KeyFields::NONE;
            for &port in &network.members {
                let policy = policy_of(policies, port);
                network.fields =
                    network.fields | policy.map_or(KeyFields::NONE, |p| p.fields(Direction::ToVm));
                if policy != policy_of(&before, port) {
                    network.generation = generation;
                }
            }
        }
        self
    }

    /// The number of the last change of a trunk.
    #[inline(always)]
    pub(crate) fn trunk_generation(&self, trunk: TrunkId) -> u32 {
        self.trunks
            .get(usize::from(trunk))
            .map_or(0, |trunk| trunk.generation)
    }

    /// The same networks, as those that come after `before`: what decides otherwise than before
    /// gets `generation`, a number that no change had before; what does not keeps its own, and
    /// decisions that were cached by it.
    #[must_use]
    pub fn following(mut self, before: &Networks, generation: u32) -> Self {
        for network in &mut self.networks {
            network.members.sort_unstable();
            network.members.dedup();
        }
        let decides_as = |id: usize, network: &Network| {
            let was = before.networks.get(id)?;
            let has_rules_as_before = |&port: &PortId| {
                !was.members.contains(&port) || self.policy(port) == before.policy(port)
            };
            (network.has_settings_of(was) && network.members.iter().all(has_rules_as_before))
                .then_some(was.generation.max(network.generation))
        };
        let generations: Vec<_> = (0..)
            .zip(&self.networks)
            .map(|(id, network)| decides_as(id, network).unwrap_or(generation))
            .collect();
        for (network, generation) in self.networks.iter_mut().zip(generations) {
            network.generation = generation;
        }
        for (id, trunk) in self.trunks.iter_mut().enumerate() {
            let was = before.trunks.get(id);
            trunk.generation = was
                .filter(|was| was.places == trunk.places)
                .map_or(generation, |was| was.generation);
        }
        self
    }

    /// The greatest number that a change of these had.
    pub fn generation(&self) -> u32 {
        let of_networks = self.networks.iter().map(|network| network.generation);
        let of_trunks = self.trunks.iter().map(|trunk| trunk.generation);
        of_networks.chain(of_trunks).max().unwrap_or(0)
    }

    /// The same networks without this port; `None`: it is in none of them.
    pub fn without(&self, port: PortId) -> Option<Self> {
        let is_in = |network: &Network| {
            network.members.contains(&port) || network.uplink.is_some_and(|exit| exit.port == port)
        };
        let has_rules = self.policy(port).is_some();
        if !has_rules && !self.networks.iter().any(is_in) {
            return None;
        }
        let mut others = self.clone();
        for network in &mut others.networks {
            network.members.retain(|&member| member != port);
            network.uplink = network.uplink.filter(|exit| exit.port != port);
        }
        if let Some(policy) = others.policies.get_mut(usize::from(port)) {
            *policy = None;
        }
        Some(others)
    }

    /// A port's rules; none: all frames pass.
    #[inline(always)]
    pub fn policy(&self, port: PortId) -> Option<&Policy> {
        policy_of(&self.policies, port)
    }

    /// What the rules for a frame of this port can depend on: its own and its destination's.
    #[inline(always)]
    pub fn key_fields(&self, from: PortId, network: NetworkId) -> KeyFields {
        let own = self
            .policy(from)
            .map_or(KeyFields::NONE, |policy| policy.fields(Direction::FromVm));
        own | self.network(network).fields
    }

    /// Applies rules to a frame that would be sent on: the sender's, then the destination's. For a
    /// flood only the sender's: each copy is checked by [`Networks::may_reach`].
    pub fn judge(&self, from: PortId, action: Action, tuple: &Tuple) -> Action {
        if matches!(action, Action::Drop(_) | Action::Refused(_)) {
            return action;
        }
        let denies = |policy: &Policy| policy.decide(Direction::FromVm, tuple) == Verdict::Deny;
        match action {
            _ if self.policy(from).is_some_and(denies) => Action::Drop(DropReason::Denied),
            Action::Unicast(to) if !self.may_reach(to, tuple) => Action::Refused(to),
            action => action,
        }
    }

    /// Whether a port's rules let a frame pass to it.
    pub fn may_reach(&self, to: PortId, tuple: &Tuple) -> bool {
        self.policy(to)
            .is_none_or(|policy| policy.decide(Direction::ToVm, tuple) == Verdict::Allow)
    }
}

fn policy_of(policies: &[Option<Arc<Policy>>], port: PortId) -> Option<&Policy> {
    policies.get(usize::from(port))?.as_deref()
}

/// Which source addresses a port may send from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePolicy {
    /// This one alone, from the topology.
    Fixed([u8; 6]),
    /// The first one seen, until another guest comes.
    Sticky,
    /// Up to this many, learned and aged.
    Learn(u32),
    /// Any; up to this many are learned and aged.
    Any(u32),
}

impl SourcePolicy {
    /// How many addresses the MAC table keeps for such a port at most.
    pub fn address_max(self) -> u32 {
        match self {
            SourcePolicy::Fixed(_) | SourcePolicy::Sticky => 1,
            SourcePolicy::Learn(n) | SourcePolicy::Any(n) => n,
        }
    }
}

/// The ingress port of a frame, for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// The port.
    pub port: PortId,
    /// Its network. Unused for a trunk, whose frames' tags name it.
    pub network: NetworkId,
    /// An uplink's networks; `None`: a port of one network.
    pub trunk: Option<TrunkId>,
    /// Which source addresses it may send from.
    pub source: SourcePolicy,
    /// Changes whenever anything above or the trunk does: cached decisions from before are stale.
    pub generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::rule::{Proto, Rule};

    fn deny(direction: Direction) -> Option<Arc<Policy>> {
        let rule = Rule {
            direction,
            verdict: Verdict::Deny,
            proto: Proto::Arp,
            cidr: None,
            numbers: Vec::new(),
        };
        Some(Arc::new(Policy::new(&[rule])))
    }

    fn networks() -> Networks {
        let network = |members: &[PortId]| Network {
            members: members.to_vec(),
            ..Network::default()
        };
        Networks {
            networks: vec![network(&[0, 1]), network(&[2, 3])],
            ..Networks::default()
        }
    }

    #[test]
    fn keys_hold_what_rules_of_the_sender_and_of_all_it_may_reach_ask_for() {
        let networks = networks().with_policies(
            vec![deny(Direction::FromVm), None, None, deny(Direction::ToVm)],
            1,
        );
        let is_needed = |from, network| !networks.key_fields(from, network).is_none();
        assert_eq!(
            [
                is_needed(0, 0),
                is_needed(1, 0),
                is_needed(2, 1),
                is_needed(9, 1)
            ],
            [true, false, true, true]
        );
    }

    #[test]
    fn change_of_rules_is_noted_where_it_counts_and_nowhere_else() {
        let first = networks().with_policies(vec![deny(Direction::ToVm)], 1);
        let generations = |networks: &Networks| {
            [
                networks.networks[0].generation,
                networks.networks[1].generation,
            ]
        };
        assert_eq!(generations(&first), [1, 0]);
        let same = first
            .clone()
            .with_policies(vec![deny(Direction::ToVm), None], 2);
        assert_eq!(
            generations(&same),
            [1, 0],
            "the same rules, though another value"
        );
        let other = same.with_policies(
            vec![deny(Direction::ToVm), None, deny(Direction::FromVm)],
            3,
        );
        assert_eq!(generations(&other), [1, 3]);
        assert_eq!(generations(&other.with_policies(Vec::new(), 4)), [4, 4]);
    }

    #[test]
    fn trunk_leads_each_vlan_to_its_network_and_others_nowhere() {
        let networks = Networks {
            trunks: vec![Trunk::new([(Some(100), 3), (None, 0), (Some(4094), 7)])],
            ..Networks::default()
        };
        assert_eq!(networks.of_vlan(0, 100), Some(3));
        assert_eq!(networks.of_vlan(0, 0), Some(0));
        assert_eq!(networks.of_vlan(0, 4094), Some(7));
        assert_eq!(networks.of_vlan(0, 99), None);
        assert_eq!(networks.of_vlan(1, 100), None, "there is no such trunk");
        assert_eq!(
            format!("{:?}", networks.trunks[0]),
            "{0: 0, 100: 3, 4094: 7}"
        );
    }
}
