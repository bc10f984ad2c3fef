//! The difference between two topologies.
//!
//! Made from the settings of both, in the words of the file, so that what a topology implies for
//! others (the room of one limit's queue among many, say) is no difference. Who is in which list
//! first is none either.

use std::collections::{BTreeMap, BTreeSet};

use config::{Object, Setting, Topology, Written};

use super::effects::{EFFECTS, effect_of};
use crate::api::difference::{Change, Cost, Difference, How, KeyChange, ObjectKind, Value};

/// What is different in `new`. Empty if they are the same.
pub(crate) fn difference(old: &Topology, new: &Topology) -> Difference {
    let (old, new) = (by_place(old), by_place(new));
    let places: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changes = places
        .into_iter()
        .filter_map(|place| match (old.get(place), new.get(place)) {
            (Some(old), Some(new)) => changed(old, new),
            (None, Some(new)) => Some(added(new)),
            (Some(old), None) => Some(removed(old)),
            (None, None) => None,
        });
    Difference {
        changes: changes.collect(),
    }
}

/// Where an object is in the order of a difference: by kind, and NICs behind their VM.
type Place = (ObjectKind, String, Option<String>);

fn by_place(topology: &Topology) -> BTreeMap<Place, Object> {
    let place = |object: &Object| match (kind(object.kind), object.name.split_once('/')) {
        (_, Some((vm, nic))) => (ObjectKind::Vm, vm.to_owned(), Some(nic.to_owned())),
        (kind, None) => (kind, object.name.clone(), None),
    };
    let objects = topology.objects().into_iter();
    objects.map(|object| (place(&object), object)).collect()
}

fn kind(kind: config::ObjectKind) -> ObjectKind {
    match kind {
        config::ObjectKind::Daemon => ObjectKind::Daemon,
        config::ObjectKind::Uplink => ObjectKind::Uplink,
        config::ObjectKind::Network => ObjectKind::Network,
        config::ObjectKind::Vm => ObjectKind::Vm,
        config::ObjectKind::Nic => ObjectKind::Nic,
    }
}

fn added(new: &Object) -> Change {
    let keys = new.settings.iter().filter(|setting| !setting.is_default);
    let key = |setting: &Setting| KeyChange {
        key: setting.key.clone(),
        before: None,
        after: Some(value(&setting.value)),
        cost: Cost::Nothing,
    };
    change(new, How::Added, keys.map(key).collect(), Cost::Nothing)
}

fn removed(old: &Object) -> Change {
    let cost = match kind(old.kind) {
        ObjectKind::Nic if is_enabled(old) => Cost::Disconnects,
        ObjectKind::Uplink => Cost::Disconnects,
        _ => Cost::Nothing,
    };
    change(old, How::Removed, Vec::new(), cost)
}

fn changed(old: &Object, new: &Object) -> Option<Change> {
    let (before, after) = (by_key(old), by_key(new));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let mut names: Vec<_> = names
        .into_iter()
        .filter(|name| before.get(name) != after.get(name))
        .collect();
    if names.is_empty() {
        return None;
    }
    let row = |key: &str| effect_of(&old.kind.path_of(key)).map_or(EFFECTS.len(), |(row, _)| row);
    names.sort_by_key(|name| (row(name), *name));
    let keys = names.into_iter().map(|name| KeyChange {
        key: name.to_owned(),
        before: before.get(name).map(|written| value(written)),
        after: after.get(name).map(|written| value(written)),
        cost: cost(old, new, name),
    });
    Some(change(new, How::Changed, keys.collect(), Cost::Nothing))
}

/// What a change of this key interrupts.
fn cost(old: &Object, new: &Object, key: &str) -> Cost {
    let path = old.kind.path_of(key);
    let cost = effect_of(&path).map_or(Cost::NeedsRestart, |(_, effect)| effect.cost);
    if kind(old.kind) != ObjectKind::Nic {
        return cost;
    }
    match (is_enabled(old), is_enabled(new)) {
        (true, false) if key == "enabled" => Cost::Disconnects,
        // Nobody is connected and no device attached, now or afterwards, but an address is kept.
        (false, _) | (_, false) if cost == Cost::ReleasesAddress => cost,
        (false, _) | (_, false) => Cost::Nothing,
        // Another kind of port takes the place of the old one.
        (true, true) if port(old) != port(new) => match key {
            "network" | "mac" | "macs" | "rules" => cost,
            _ => Cost::ReconnectsNic,
        },
        (true, true) if key == "queues" && port(old) == Some("afxdp") => Cost::ReattachesDevice,
        (true, true) => cost,
    }
}

fn is_enabled(nic: &Object) -> bool {
    by_key(nic).get("enabled") != Some(&&Written::One("false".to_owned()))
}

/// A NIC's kind of port.
fn port(nic: &Object) -> Option<&'static str> {
    let kinds = ["vhost-user", "tap", "afxdp"];
    let has = |kind: &&str| {
        nic.settings
            .iter()
            .any(|setting| setting.key.split('.').next() == Some(kind))
    };
    kinds.into_iter().find(has)
}

fn by_key(object: &Object) -> BTreeMap<&str, &Written> {
    object
        .settings
        .iter()
        .map(|setting| (setting.key.as_str(), &setting.value))
        .collect()
}

fn value(written: &Written) -> Value {
    match written {
        Written::One(text) => Value::One(text.clone()),
        Written::List(items) => Value::List(items.clone()),
    }
}

/// `cost`: of the change as a whole, beside those of its keys.
fn change(object: &Object, how: How, keys: Vec<KeyChange>, cost: Cost) -> Change {
    let kind = kind(object.kind);
    let costs: BTreeSet<_> = keys.iter().map(|key| key.cost).chain([cost]).collect();
    let costs: Vec<_> = costs
        .into_iter()
        .rev()
        .filter(|cost| *cost != Cost::Nothing)
        .collect();
    let sentences: Vec<_> = costs
        .iter()
        .filter_map(|cost| cost.sentence(kind))
        .collect();
    Change {
        object: kind,
        name: object.name.clone(),
        change: how,
        sentence: (!sentences.is_empty()).then(|| sentences.join(", ")),
        costs,
        keys,
    }
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
