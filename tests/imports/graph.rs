//! Circles among the children of one module.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{Arrow, Name};

/// Below one module: which of its children names which, with a place where it does.
pub(crate) type Siblings = BTreeMap<(String, String), String>;

/// By module: the arrows among its children, those between their descendants among them.
pub(crate) fn siblings(arrows: &[Arrow]) -> BTreeMap<Name, Siblings> {
    let mut all: BTreeMap<Name, Siblings> = BTreeMap::new();
    for arrow in arrows.iter().filter(|arrow| arrow.other_crate.is_none()) {
        let common = arrow
            .from
            .iter()
            .zip(&arrow.to)
            .take_while(|(a, b)| a == b)
            .count();
        if let (Some(from), Some(to)) = (arrow.from.get(common), arrow.to.get(common)) {
            let among = all.entry(arrow.from[..common].to_vec()).or_default();
            among
                .entry((from.clone(), to.clone()))
                .or_insert_with(|| arrow.place.clone());
        }
    }
    all
}

/// The sets of children each of which leads to each other.
pub(crate) fn circles(among: &Siblings) -> Vec<BTreeSet<String>> {
    let names: BTreeSet<_> = among
        .keys()
        .flat_map(|(from, to)| [from.clone(), to.clone()])
        .collect();
    let reached: BTreeMap<_, _> = names
        .iter()
        .map(|name| (name.clone(), reached_from(among, name)))
        .collect();
    let circle = |name: &String| -> BTreeSet<String> {
        reached[name]
            .iter()
            .filter(|other| reached[*other].contains(name))
            .cloned()
            .collect()
    };
    let found: BTreeSet<_> = names
        .iter()
        .filter(|name| reached[*name].contains(*name))
        .map(circle)
        .collect();
    found.into_iter().collect()
}

fn reached_from(among: &Siblings, name: &str) -> BTreeSet<String> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![name.to_owned()]);
    while let Some(from) = next.pop() {
        for (_, to) in among.keys().filter(|(begin, _)| *begin == from) {
            if reached.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    reached
}
