//! Turns the trees of a file and its includes into a checked topology.
//!
//! Checking goes on after a mistake, so that all mistakes are reported at once: a function returns
//! None only after it has added a mistake, or where `walk` has. What must be unique is entered in
//! [`crate::context::Claims`].

use crate::context::{Context, Mistakes, NAMES_COMPARED_MAX, NetworkSeen, Placed, XDP_ENDS, claim};
use crate::diagnostics::{At, shown};
use crate::labels::labels;
use crate::limit::vm_limit;
use crate::nearest::nearest;
use crate::nic::NicCheck;
use crate::node::{Node, Value};
use crate::object::ObjectKind;
use crate::origin::Origin;
use crate::others;
use crate::scalar::{self, optional};
use crate::source::Sources;
use crate::topology::{DEFAULT_MTU, Network, PORTS_MAX, Topology, Uplink, Vm, XDP_MTU_MAX};
use crate::uplink;

/// Uplinks of one daemon.
const UPLINKS_MAX: usize = 64;

/// Checks a file and those it includes. None: `mistakes` says why.
pub(crate) fn topology(sources: &Sources, mistakes: &mut Mistakes) -> Option<Topology> {
    let mut context = Context::new(mistakes);
    let main = &sources.main;
    let cores = context.cores(main);
    let idle = context.idle(main);
    let flows = context.flows(main);
    let ports = context.ports(main);
    context.ports_max = ports.unwrap_or(PORTS_MAX);
    let control = context.control(main);
    let metrics = context.metrics(main);
    let uplinks = context.uplinks(main);
    let networks = context.networks(main);
    let vms = context.vms(std::iter::once(main).chain(&sources.included));
    let places = std::mem::take(&mut context.places);
    let includes = main
        .get("include")
        .and_then(Node::items)
        .unwrap_or_default();
    let patterns = includes.iter().filter_map(Node::text).map(str::to_owned);
    let files = sources.files.iter().cloned();
    let mut origin = Origin::new(sources.path.clone(), patterns.collect(), files);
    origin.add(mistakes.placed(places));
    Some(Topology {
        cores: cores?,
        idle: idle?,
        flows: flows?,
        ports: ports?,
        control: control?,
        metrics: metrics?,
        uplinks: uplinks?,
        networks: networks?,
        vms: vms?,
        origin,
    })
}

/// Checks one VM against all else that `topology` has, and says where it and its NICs are written.
/// None: `mistakes` says why.
pub(crate) fn vm(
    topology: &Topology,
    name: &str,
    at: At,
    node: &Node,
    mistakes: &mut Mistakes,
) -> Option<(Vm, Vec<Placed>)> {
    let mut context = others::context(topology, name, mistakes);
    let text = Value::Text {
        text: name.to_owned(),
        quoted: false,
    };
    let vm = context.vm(name, &Node { at, value: text }, node);
    let places = std::mem::take(&mut context.places);
    Some((vm?, places))
}

impl Context<'_> {
    fn uplinks(&mut self, main: &Node) -> Option<Vec<Uplink>> {
        let entries = optional(main.get("uplinks"), None, |node| node.entries().map(Some))?;
        let mut uplinks = Some(Vec::new());
        for (name, name_node, node) in entries.into_iter().flatten() {
            if self.uplinks.contains_key(name) {
                continue; // `walk` has reported a repeated key
            }
            self.uplinks.insert(name.to_owned(), self.uplinks.len());
            self.place(ObjectKind::Uplink, name, name_node.at);
            if self.uplinks.len() == UPLINKS_MAX + 1 {
                let message = format!("more than {UPLINKS_MAX} uplinks");
                self.mistakes
                    .add(name_node.at, message, "run a second daemon for the rest");
            }
            self.count_port(name_node.at);
            let uplink = uplink::check(self, name, name_node, node);
            uplinks = both(uplinks, uplink);
        }
        uplinks
    }

    fn networks(&mut self, main: &Node) -> Option<Vec<Network>> {
        let entries = optional(main.get("networks"), None, |node| node.entries().map(Some))?;
        let mut networks = Some(Vec::new());
        for (name, name_node, node) in entries.into_iter().flatten() {
            if self.networks.contains_key(name) {
                continue; // `walk` has reported a repeated key
            }
            let idx = self.networks.len();
            self.place(ObjectKind::Network, name, name_node.at);
            let network = self.network(name, node);
            let mtu = network.as_ref().map(|network| network.mtu);
            self.networks
                .insert(name.to_owned(), NetworkSeen { idx, mtu });
            networks = both(networks, network);
        }
        networks
    }

    fn network(&mut self, name: &str, node: &Node) -> Option<Network> {
        let vlan_node = node.get("vlan");
        let vlan = optional(vlan_node, None, |node| {
            scalar::small(node, "vlan", 1..=4094, self.mistakes).map(Some)
        });
        let mtu_node = node.get("mtu");
        let mtu = optional(mtu_node, DEFAULT_MTU, |node| {
            scalar::small(node, "mtu", 68..=9000, self.mistakes)
        });
        let uplink_node = node.get("uplink");
        let uplink_idx = optional(uplink_node, None, |node| self.uplink_named(node).map(Some));
        if let Some(vlan) = vlan {
            let uplink = uplink_node.and_then(Node::text).map(str::to_owned);
            self.claim_vlan(
                name,
                vlan,
                uplink,
                vlan_node.or(uplink_node).unwrap_or(node).at,
            );
        }
        if let (Some(_), Some(mtu_node), Some(mtu)) = (uplink_node, mtu_node, mtu)
            && mtu > XDP_MTU_MAX
        {
            let message = format!("`mtu` is {mtu}, but frames of an uplink {XDP_ENDS}");
            self.mistakes.add(
                mtu_node.at,
                message,
                format!("write {XDP_MTU_MAX} or less, or keep the network off uplinks"),
            );
            return None;
        }
        Some(Network {
            name: name.to_owned(),
            vlan: vlan?,
            mtu: mtu?,
            uplink_idx: uplink_idx?,
        })
    }

    fn uplink_named(&mut self, node: &Node) -> Option<usize> {
        let name = node.text()?;
        if let Some(idx) = self.uplinks.get(name) {
            return Some(*idx);
        }
        let known = || {
            self.uplinks
                .keys()
                .map(String::as_str)
                .take(NAMES_COMPARED_MAX)
        };
        let help = match (nearest(name, known()), known().min()) {
            (Some(meant), _) => format!("did you mean `{}`?", shown(meant)),
            (None, Some(example)) => {
                format!("name one of `uplinks`, as in `uplink: {}`", shown(example))
            }
            (None, None) => {
                "add it to `uplinks`, as in `uplinks: { up0: { device: eth1 } }`".to_owned()
            }
        };
        self.mistakes.add(
            node.at,
            format!("there is no uplink `{}`", shown(name)),
            help,
        );
        None
    }

    /// Enters a network's VLAN on its uplink, or adds a mistake: a frame on the wire must belong to
    /// one network.
    fn claim_vlan(&mut self, name: &str, vlan: Option<u16>, uplink: Option<String>, at: At) {
        if vlan.is_none() && uplink.is_none() {
            return;
        }
        let holder = claim(&mut self.claims.vlans, (uplink, vlan), shown(name), at);
        let Some((holder, holder_at)) = holder else {
            return;
        };
        let place = self.mistakes.place(holder_at, at);
        let message = match vlan {
            Some(vlan) => format!("VLAN {vlan} already used by network `{holder}`, {place}"),
            None => {
                format!("untagged frames of the uplink already used by network `{holder}`, {place}")
            }
        };
        self.mistakes.add(
            at,
            message,
            "give each network a VLAN of its own, or make them one network",
        );
    }

    fn vms<'n>(&mut self, files: impl Iterator<Item = &'n Node>) -> Option<Vec<Vm>> {
        let mut vms = Some(Vec::new());
        for (name, name_node, node) in files
            .filter_map(|file| file.get("vms")?.entries())
            .flatten()
        {
            self.claim_vm(name, name_node.at);
            let vm = self.vm(name, name_node, node);
            vms = both(vms, vm);
        }
        vms
    }

    fn claim_vm(&mut self, name: &str, at: At) {
        let holder = claim(&mut self.claims.vms, name.to_owned(), String::new(), at);
        // Within one file, `walk` reports a repeated key.
        if let Some((_, holder_at)) =
            holder.filter(|(_, holder_at)| holder_at.file_idx != at.file_idx)
        {
            let place = self.mistakes.place(holder_at, at);
            self.mistakes.add(
                at,
                format!("VM `{}` already defined, {place}", shown(name)),
                "rename one of them",
            );
        }
    }

    fn vm(&mut self, name: &str, name_node: &Node, node: &Node) -> Option<Vm> {
        if !node.is_map() {
            return None;
        }
        let Some(nics_node) = node.get("nics") else {
            let help = "add `nics:` with at least one NIC, as in `nics: { net0: { network: …, \
                vhost-user: { path: … } } }`";
            self.mistakes.add(
                name_node.at,
                format!("VM `{}` has no `nics`", shown(name)),
                help,
            );
            return None;
        };
        self.place(ObjectKind::Vm, name, name_node.at);
        let mut nics = Some(Vec::new());
        for (nic_name, nic_name_node, nic_node) in nics_node.entries()? {
            let port = format!("{name}/{nic_name}");
            self.place(ObjectKind::Nic, &port, nic_name_node.at);
            let nic = NicCheck {
                context: self,
                port: shown(&port),
                name_node: nic_name_node,
            };
            nics = both(nics, nic.nic(nic_name, nic_node));
        }
        if nics.as_ref().is_some_and(Vec::is_empty) {
            let help = "write at least one, as in `net0: { network: …, vhost-user: { path: … } }`";
            self.mistakes.add(
                nics_node.at,
                format!("VM `{}` has no NICs", shown(name)),
                help,
            );
            return None;
        }
        let is_ours =
            |seen: &&NetworkSeen| nics.iter().flatten().any(|nic| nic.network_idx == seen.idx);
        let mtu = self
            .networks
            .values()
            .filter(is_ours)
            .filter_map(|seen| seen.mtu)
            .max()
            .unwrap_or(DEFAULT_MTU);
        let labels = labels(node.get("labels"), self.mistakes);
        let limit = vm_limit(node.get("limit"), mtu, self.mistakes);
        Some(Vm {
            name: name.to_owned(),
            labels: labels?,
            limit: limit?,
            nics: nics?,
        })
    }
}

/// Appends `item`, if both are right.
fn both<T>(list: Option<Vec<T>>, item: Option<T>) -> Option<Vec<T>> {
    let mut list = list?;
    list.push(item?);
    Some(list)
}
