use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A topology of one network, these VMs with one NIC each, and these uplinks.
fn topology(ports: usize, vms: &[&str], uplinks: &[&str]) -> Topology {
    let vms: String = vms
        .iter()
        .map(|vm| {
            format!(
                "  {vm}: {{ nics: {{ n: {{ network: b, vhost-user: {{ path: /{vm} }} }} }} }}\n"
            )
        })
        .collect();
    let uplinks: String = uplinks
        .iter()
        .map(|name| format!("  {name}: {{ device: d-{name} }}\n"))
        .collect();
    let text = format!(
        "cores: [0]\nports: {ports}\nuplinks:\n{uplinks}networks: {{ b: {{}} }}\nvms:\n{vms}"
    );
    config::parse(&text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"))
}

fn id_of(ids: &Ids, names: &[&str]) -> Vec<Option<PortId>> {
    names.iter().map(|name| ids.port(name)).collect()
}

#[test]
fn first_ids_are_in_the_order_of_the_file() {
    let ids = Ids::of(&topology(9, &["z", "a"], &["up1", "up0"])).unwrap();
    assert_eq!(ids.port_names(), ["z/n", "a/n", "up1", "up0"]);
    assert_eq!((ids.trunk("up1"), ids.trunk("up0")), (Some(0), Some(1)));
    assert_eq!(ids.network("b"), Some(0));
    assert_eq!(ids.port("no/n"), None);
}

#[test]
fn names_keep_their_ids_wherever_they_are_in_the_file() {
    let mut ids = Ids::of(&topology(9, &["a", "b"], &["up0"])).unwrap();
    ids.assign(&topology(9, &["c", "b", "a"], &["up1", "up0"]))
        .unwrap();
    assert_eq!(
        id_of(&ids, &["a/n", "b/n", "up0", "c/n", "up1"]),
        [Some(0), Some(1), Some(2), Some(3), Some(4)]
    );
    assert_eq!((ids.trunk("up0"), ids.trunk("up1")), (Some(0), Some(1)));
}

#[test]
fn id_of_a_name_that_left_is_given_away_only_when_it_was_released() {
    let mut ids = Ids::of(&topology(9, &["a", "b"], &[])).unwrap();
    let next = topology(9, &["b", "c"], &[]);
    ids.assign(&next).unwrap();
    let departed = ids.departed(&next);
    assert_eq!(departed.ports, [("a/n".to_owned(), 0)]);
    assert_eq!(id_of(&ids, &["a/n", "c/n"]), [Some(0), Some(2)]);
    ids.release(&departed);
    assert_eq!(ids.departed(&next), Departed::default());
    assert_eq!(ids.port_names(), ["", "b/n", "c/n"]);
    ids.assign(&topology(9, &["b", "c", "d"], &[])).unwrap();
    assert_eq!(ids.port("d/n"), Some(0));
    // To release what has no id changes nothing.
    ids.release(&departed);
    assert_eq!(ids.port_names(), ["d/n", "b/n", "c/n"]);
}

#[test]
fn name_that_comes_back_before_it_was_released_has_its_old_id() {
    let mut ids = Ids::of(&topology(9, &["a", "b"], &[])).unwrap();
    ids.assign(&topology(9, &["b"], &[])).unwrap();
    ids.assign(&topology(9, &["b", "a"], &[])).unwrap();
    assert_eq!(id_of(&ids, &["a/n", "b/n"]), [Some(0), Some(1)]);
}

#[test]
fn full_table_changes_nothing_and_says_what_to_do() {
    let mut ids = Ids::of(&topology(2, &["a", "b"], &[])).unwrap();
    let next = topology(2, &["b", "c"], &[]);
    let why = ids.assign(&next).unwrap_err();
    assert!(
        why.contains("1 are new, and 0 of 2 places are free") && why.contains("raise `ports`"),
        "{why}"
    );
    assert_eq!(ids.port_names(), ["a/n", "b/n"]);
    ids.release_port("a/n");
    ids.assign(&next).unwrap();
    assert_eq!(ids.port_names(), ["c/n", "b/n"]);
}

#[test]
fn uplinks_and_networks_can_all_be_exchanged_at_once() {
    let uplinks = |from: usize| {
        (from..from + 64)
            .map(|n| format!("up{n}"))
            .collect::<Vec<_>>()
    };
    let with = |names: &[String]| {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        topology(200, &[], &names)
    };
    let mut ids = Ids::of(&with(&uplinks(0))).unwrap();
    ids.assign(&with(&uplinks(64))).unwrap();
    assert_eq!(ids.departed(&with(&uplinks(64))).trunks.len(), 64);
    assert!(ids.assign(&with(&uplinks(128))).is_err());
}

proptest! {
    /// Against a model: who has an id keeps it, no id has two owners, and none that was not
    /// released changes its owner.
    #[test]
    fn ids_belong_to_one_name_at_a_time(
        steps in proptest::collection::vec((0u8..64, any::<bool>()), 1..40)
    ) {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
        let mut ids = Ids::new(6);
        let mut owners: BTreeMap<String, PortId> = BTreeMap::new();
        for (present, releases) in steps {
            let vms: Vec<_> = (0..6).filter(|n| present >> n & 1 == 1).map(|n| NAMES[n]).collect();
            let topology = topology(6, &vms, &[]);
            // Six names have six ids.
            ids.assign(&topology).unwrap();
            for vm in &vms {
                let name = format!("{vm}/n");
                let id = ids.port(&name).unwrap();
                prop_assert!(usize::from(id) < 6);
                prop_assert_eq!(*owners.entry(name).or_insert(id), id);
            }
            let distinct: BTreeSet<_> = owners.values().collect();
            prop_assert_eq!(distinct.len(), owners.len());
            if releases {
                let departed = ids.departed(&topology);
                ids.release(&departed);
                for (name, _) in &departed.ports {
                    prop_assert!(owners.remove(name).is_some());
                }
            }
        }
    }
}
