//! Which id each port, network and uplink has: kept by name from one topology to the next.
//!
//! Cores index their tables by id, and whoever has an id sees what belongs to it. So an id goes to
//! another name only after [`Ids::release_port`] and its like, which are called when every core has
//! confirmed that nothing of the former owner is left.

use std::collections::{BTreeMap, BTreeSet};

use config::Topology;
use flowtable::{NetworkId, PortId, TrunkId};

/// Ids of trunks: twice as many as there may be uplinks, so that all of them can be exchanged at
/// once.
const TRUNKS_MAX: usize = 128;
/// Ids of networks: all but the last, which is no network.
const NETWORKS_MAX: usize = NetworkId::MAX as usize;

/// The ids in use, by name.
///
/// A change is made on a clone, which takes the place of the original when the change has been
/// applied, and is dropped when it was rolled back.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    /// NICs as `vm/nic`, and uplinks.
    ports: Table,
    networks: Table,
    /// Uplinks.
    trunks: Table,
}

/// Names that have an id and are not in a topology any more, each with its id; in the order of
/// their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Departed {
    pub(crate) ports: Vec<(String, PortId)>,
    pub(crate) networks: Vec<(String, NetworkId)>,
    pub(crate) trunks: Vec<(String, TrunkId)>,
}

impl Ids {
    /// No id is in use; `ports`: how many ids of ports there are, all below that number.
    pub(crate) fn new(ports: usize) -> Self {
        Self {
            ports: Table::new(ports),
            networks: Table::new(NETWORKS_MAX),
            trunks: Table::new(TRUNKS_MAX),
        }
    }

    /// The ids of a daemon that starts with this topology: NICs in its order, then uplinks, without
    /// a gap; networks in its order.
    ///
    /// # Errors
    /// As [`Ids::assign`].
    pub(crate) fn of(topology: &Topology) -> Result<Self, String> {
        let mut ids = Self::new(topology.ports);
        ids.assign(topology)?;
        Ok(ids)
    }

    /// Gives an id to each port, network and uplink that has none: the least that is free, in the
    /// topology's order. Names that the topology doesn't have keep theirs.
    ///
    /// # Errors
    /// A sentence, if there are not enough ids; then nothing is changed.
    pub(crate) fn assign(&mut self, topology: &Topology) -> Result<(), String> {
        let mut next = self.clone();
        let is_full = |free: usize, wanted: usize| {
            format!(
                "no room for all NICs and uplinks: {wanted} are new, and {free} of {} places are \
                free, since those that are removed keep theirs until the change is done; remove \
                them first and add the others by a second change, or raise `ports` and restart \
                the daemon",
                topology.ports
            )
        };
        next.ports
            .assign(port_names(topology))
            .map_err(|(free, wanted)| is_full(free, wanted))?;
        next.networks
            .assign(network_names(topology))
            .map_err(|(free, wanted)| too_many("networks", free, wanted))?;
        next.trunks
            .assign(uplink_names(topology))
            .map_err(|(free, wanted)| too_many("uplinks", free, wanted))?;
        *self = next;
        Ok(())
    }

    /// The id of a NIC, `vm/nic`, or of an uplink as a port.
    pub(crate) fn port(&self, name: &str) -> Option<PortId> {
        self.ports.id(name)
    }

    /// The id of a network.
    pub(crate) fn network(&self, name: &str) -> Option<NetworkId> {
        self.networks.id(name)
    }

    /// The id of what an uplink carries.
    pub(crate) fn trunk(&self, uplink: &str) -> Option<TrunkId> {
        self.trunks.id(uplink)
    }

    /// The id of a port of a topology that ids were assigned to.
    pub(super) fn port_of(&self, name: &str) -> PortId {
        let id = self.port(name);
        debug_assert!(id.is_some(), "{name} has no id");
        id.unwrap_or(PortId::MAX)
    }

    /// The id of a network of such a topology.
    pub(super) fn network_of(&self, name: &str) -> NetworkId {
        let id = self.network(name);
        debug_assert!(id.is_some(), "network {name} has no id");
        id.unwrap_or(NetworkId::MAX)
    }

    /// Names of the ports by id, up to the last one; empty where an id is free.
    pub(crate) fn port_names(&self) -> Vec<String> {
        self.ports.names()
    }

    /// Names of the networks by id, up to the last one; empty where an id is free.
    pub(crate) fn network_names(&self) -> Vec<String> {
        self.networks.names()
    }

    /// Ids of networks up to the last one that is in use.
    pub(crate) fn n_network_ids(&self) -> usize {
        self.networks.n_ids()
    }

    /// Ids of trunks up to the last one that is in use.
    pub(crate) fn n_trunk_ids(&self) -> usize {
        self.trunks.n_ids()
    }
}

impl Ids {
    /// What has an id and is not in the topology: to be removed from the cores, then released.
    pub(crate) fn departed(&self, topology: &Topology) -> Departed {
        Departed {
            ports: self.ports.without(port_names(topology)),
            networks: self.networks.without(network_names(topology)),
            trunks: self.trunks.without(uplink_names(topology)),
        }
    }

    /// Frees the id of a port. Only after all cores have confirmed that nothing of it is left.
    pub(crate) fn release_port(&mut self, name: &str) {
        self.ports.release(name);
    }

    /// Frees the id of a network, as [`Ids::release_port`].
    pub(crate) fn release_network(&mut self, name: &str) {
        self.networks.release(name);
    }

    /// Frees the id of what an uplink carried, as [`Ids::release_port`].
    pub(crate) fn release_trunk(&mut self, uplink: &str) {
        self.trunks.release(uplink);
    }

    /// Frees all of these, as [`Ids::release_port`].
    pub(crate) fn release(&mut self, departed: &Departed) {
        let names = |list: &[(String, u16)]| list.iter().map(|(name, _)| name.clone()).collect();
        let (ports, networks, trunks): (Vec<_>, Vec<_>, Vec<_>) = (
            names(&departed.ports),
            names(&departed.networks),
            names(&departed.trunks),
        );
        ports.iter().for_each(|name| self.release_port(name));
        networks.iter().for_each(|name| self.release_network(name));
        trunks.iter().for_each(|name| self.release_trunk(name));
    }
}

fn port_names(topology: &Topology) -> impl Iterator<Item = String> {
    let nics = topology.nics().map(|(vm, nic)| config::port_name(vm, nic));
    nics.chain(uplink_names(topology))
}

fn network_names(topology: &Topology) -> impl Iterator<Item = String> {
    topology.networks.iter().map(|network| network.name.clone())
}

fn uplink_names(topology: &Topology) -> impl Iterator<Item = String> {
    topology.uplinks.iter().map(|uplink| uplink.name.clone())
}

fn too_many(what: &str, free: usize, wanted: usize) -> String {
    format!(
        "no room for all {what}: {wanted} are new, and {free} places are free; remove some first, \
        and add the others by a second change"
    )
}

/// Ids of one kind.
#[derive(Clone, Debug)]
struct Table {
    by_name: BTreeMap<String, u16>,
    /// Ids below `n_ever` that nobody has.
    free: BTreeSet<u16>,
    /// Ids that were ever in use, all below this number.
    n_ever: usize,
    /// Ids that there are.
    max: usize,
}

impl Table {
    fn new(max: usize) -> Self {
        Self {
            by_name: BTreeMap::new(),
            free: BTreeSet::new(),
            n_ever: 0,
            max: max.min(usize::from(u16::MAX)),
        }
    }

    /// Gives an id to each name that has none. Error: how many are free, and how many were wanted.
    fn assign(&mut self, names: impl Iterator<Item = String>) -> Result<(), (usize, usize)> {
        let new: Vec<_> = names
            .filter(|name| !self.by_name.contains_key(name))
            .collect();
        let n_free = self.free.len() + (self.max - self.n_ever);
        for name in &new {
            let id = self.free.pop_first().or_else(|| self.never_used());
            self.by_name
                .insert(name.clone(), id.ok_or((n_free, new.len()))?);
        }
        Ok(())
    }

    fn never_used(&mut self) -> Option<u16> {
        let id = u16::try_from(self.n_ever).ok()?;
        (self.n_ever < self.max).then(|| {
            self.n_ever += 1;
            id
        })
    }

    fn id(&self, name: &str) -> Option<u16> {
        self.by_name.get(name).copied()
    }

    fn n_ids(&self) -> usize {
        self.by_name
            .values()
            .max()
            .map_or(0, |&last| usize::from(last) + 1)
    }

    fn names(&self) -> Vec<String> {
        let mut names = vec![String::new(); self.n_ids()];
        for (name, &id) in &self.by_name {
            names[usize::from(id)].clone_from(name);
        }
        names
    }

    fn release(&mut self, name: &str) {
        self.free.extend(self.by_name.remove(name));
    }

    fn without(&self, names: impl Iterator<Item = String>) -> Vec<(String, u16)> {
        let present: BTreeSet<String> = names.collect();
        let gone = self
            .by_name
            .iter()
            .filter(|(name, _)| !present.contains(*name));
        gone.map(|(name, &id)| (name.clone(), id)).collect()
    }
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
