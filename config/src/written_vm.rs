//! A VM as the text of a file that has it alone.

use flowtable::rules::rule::{Cidr, Direction, Proto, Rule, Verdict};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::node::{Node, Value};
use crate::settings::{Setting, Written, vm_alone};
use crate::topology::{Topology, Vm};

/// The first line of such a file.
const HEADER: &str = "# Written by weir, which replaces the whole file when this VM is changed.\n";

/// YAML to be written. Mappings keep their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tree::Text(text) => serializer.serialize_str(text),
            Tree::Number(number) => serializer.serialize_u64(*number),
            Tree::Flag(flag) => serializer.serialize_bool(*flag),
            Tree::List(items) => items.serialize(serializer),
            Tree::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl Tree {
    fn map<const N: usize>(entries: [(&str, Tree); N]) -> Self {
        let entries = entries.map(|(key, value)| (key.to_owned(), value));
        Self::Map(entries.into())
    }

    /// The value of a key of this mapping, which is made if it isn't there.
    fn at(&mut self, key: &str) -> &mut Tree {
        if !matches!(self, Tree::Map(_)) {
            *self = Tree::Map(Vec::new());
        }
        let Tree::Map(entries) = self else {
            unreachable!("it was made one");
        };
        let idx = entries.iter().position(|(name, _)| name == key);
        let idx = idx.unwrap_or_else(|| {
            entries.push((key.to_owned(), Tree::Map(Vec::new())));
            entries.len() - 1
        });
        &mut entries[idx].1
    }

    fn remove(&mut self, key: &str) {
        if let Tree::Map(entries) = self {
            entries.retain(|(name, _)| name != key);
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Tree::Map(entries) if entries.is_empty())
    }
}

/// A VM as a tree, what holds anyway left out.
pub(crate) fn tree(topology: &Topology, vm: &Vm) -> Tree {
    let mut tree = Tree::Map(Vec::new());
    put(&mut tree, &vm_alone(vm).settings);
    for nic in &vm.nics {
        let nic_tree = tree.at("nics").at(&nic.name);
        let settings = topology.nic(vm, nic).settings;
        let rules = |setting: &Setting| setting.key == "rules";
        put(nic_tree, settings.iter().filter(|setting| !rules(setting)));
        if !nic.rules.is_empty() {
            *nic_tree.at("rules") = Tree::List(nic.rules.iter().map(rule).collect());
        }
    }
    tree
}

/// Changes a VM's `limit`: what `patch` has takes the place of what is there, key by key, and a key
/// without a value is removed (RFC 7396).
pub(crate) fn patch_limit(vm: &mut Tree, patch: &Node) {
    merge(vm.at("limit"), patch);
    if vm.at("limit").is_empty() {
        vm.remove("limit");
    }
}

fn merge(tree: &mut Tree, patch: &Node) {
    for (key, _, value) in patch.entries().into_iter().flatten() {
        match &value.value {
            Value::Null => tree.remove(key),
            Value::Text { text, .. } => *tree.at(key) = Tree::Text(text.clone()),
            // Lists were refused: a limit has none.
            Value::Map(_) | Value::List(_) => merge(tree.at(key), value),
        }
    }
}

/// The text of a file that has this VM alone.
pub(crate) fn text(name: &str, vm: Tree) -> String {
    let root = Tree::map([("vms", Tree::map([(name, vm)]))]);
    let options = serde_saphyr::ser_options! {
        // Long labels and paths stay on their line.
        prefer_block_scalars: false,
    };
    // What a tree has can always be written; a reader would refuse an empty text.
    let yaml = serde_saphyr::to_string_with_options(&root, options).unwrap_or_default();
    format!("{HEADER}{yaml}")
}

fn put<'s>(tree: &mut Tree, settings: impl IntoIterator<Item = &'s Setting>) {
    for setting in settings.into_iter().filter(|setting| !setting.is_default) {
        let Written::One(text) = &setting.value else {
            continue;
        };
        let place = setting
            .key
            .split('.')
            .fold(&mut *tree, |tree, key| tree.at(key));
        *place = match (setting.key.as_str(), text.parse()) {
            ("queues" | "macs" | "afxdp.ring", Ok(number)) => Tree::Number(number),
            ("enabled", _) => Tree::Flag(text == "true"),
            _ => Tree::Text(text.clone()),
        };
    }
}

fn rule(rule: &Rule) -> Tree {
    let mut matched = Tree::Map(Vec::new());
    let name = Proto::NAMED.iter().find(|(_, proto)| *proto == rule.proto);
    match (name, rule.proto) {
        (Some((name, _)), _) => *matched.at("proto") = Tree::Text((*name).to_owned()),
        (None, Proto::Number(number)) => *matched.at("proto") = Tree::Number(number.into()),
        // All IP.
        (None, _) => {}
    }
    if let Some(Cidr { addr, len }) = rule.cidr {
        *matched.at("cidr") = Tree::Text(format!("{addr}/{len}"));
    }
    if !rule.numbers.is_empty() {
        let key = if rule.proto.has_types() {
            "icmp-type"
        } else {
            "port"
        };
        let range = |&(first, last): &(u16, u16)| match first == last {
            true => Tree::Number(first.into()),
            false => Tree::Text(format!("{first}-{last}")),
        };
        *matched.at(key) = Tree::List(rule.numbers.iter().map(range).collect());
    }
    let direction = match rule.direction {
        Direction::FromVm => "from-vm",
        Direction::ToVm => "to-vm",
    };
    let verdict = match rule.verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    };
    Tree::map([(verdict, Tree::map([(direction, matched)]))])
}
