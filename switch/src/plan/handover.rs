//! What goes from one port to another when the topology changes: a path, a device or an address has
//! one user at a time, so the former must have let go of it before the next can take it.

use std::collections::BTreeMap;

use config::{MacPolicy, PortKind, Topology, port_name};

/// Something that goes from one port to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    /// What it is, for people: ``path `/run/weir/a.sock` ``.
    pub(crate) what: String,
    /// Its former user: `vm/nic`, an uplink's name, or `the control socket`.
    pub(crate) from: String,
    /// Its next user.
    pub(crate) to: String,
}

/// All that has another user in `new` than in `old`, in the order of what it is. Paths of sockets,
/// devices, and addresses that are fixed in one network.
pub(crate) fn handovers(old: &Topology, new: &Topology) -> Vec<Handover> {
    let (old, new) = (users(old), users(new));
    old.into_iter()
        .filter_map(|(what, from)| {
            let to = new.get(&what).filter(|to| **to != from)?.clone();
            Some(Handover { what, from, to })
        })
        .collect()
}

/// What has one user at a time, and who it is.
fn users(topology: &Topology) -> BTreeMap<String, String> {
    let path = |path: &std::path::Path| format!("path `{}`", path.display());
    let device = |name: &str| format!("device `{name}`");
    let mut users = BTreeMap::new();
    users.insert(
        path(&topology.control.path),
        "the control socket".to_owned(),
    );
    for uplink in &topology.uplinks {
        users.insert(device(&uplink.device), uplink.name.clone());
    }
    for (vm, nic) in topology.nics() {
        let user = port_name(vm, nic);
        if let MacPolicy::Fixed(mac) = nic.mac {
            let network = &topology.network_of(nic).name;
            users.insert(
                format!("address `{mac}` in network `{network}`"),
                user.clone(),
            );
        }
        let what = match &nic.port {
            PortKind::VhostUser { path: at, .. } => path(at),
            PortKind::Tap { name } | PortKind::AfXdp { device: name, .. } => device(name),
        };
        users.insert(what, user);
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(vms: &str) -> Topology {
        let text = format!(
            "cores: [0]\ncontrol: {{ path: /c }}\nuplinks: {{ up0: {{ device: eth1 }} }}\n\
            networks: {{ b: {{}}, r: {{}} }}\nvms: {{ {vms} }}\n"
        );
        config::parse(&text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"))
    }

    #[test]
    fn renamed_vm_hands_over_all_that_was_its_own() {
        let nics = |vm: &str| {
            format!(
                "{vm}: {{ nics: {{ n: {{ network: b, mac: 52:54:00:00:00:01, vhost-user: {{ path: \
                /s }} }}, t: {{ network: b, tap: {{ name: t0 }} }} }} }}"
            )
        };
        let found = handovers(&topology(&nics("old")), &topology(&nics("new")));
        let expected = [
            ("address `52:54:00:00:00:01` in network `b`", "n"),
            ("device `t0`", "t"),
            ("path `/s`", "n"),
        ];
        let expected = expected.map(|(what, nic)| Handover {
            what: what.to_owned(),
            from: format!("old/{nic}"),
            to: format!("new/{nic}"),
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn paths_that_two_nics_exchange_are_handed_over_both_ways() {
        let nics = |a: &str, b: &str| {
            let nic = |path: &str| format!("{{ network: b, vhost-user: {{ path: {path} }} }}");
            topology(&format!(
                "v: {{ nics: {{ a: {}, b: {} }} }}",
                nic(a),
                nic(b)
            ))
        };
        let found = handovers(&nics("/1", "/2"), &nics("/2", "/1"));
        let of: Vec<_> = found
            .iter()
            .map(|handover| (handover.from.as_str(), handover.to.as_str()))
            .collect();
        assert_eq!(of, [("v/a", "v/b"), ("v/b", "v/a")]);
        assert_eq!(handovers(&nics("/1", "/2"), &nics("/1", "/3")), []);
    }

    #[test]
    fn address_in_another_network_is_not_the_same() {
        let nic = |name: &str, network: &str, path: &str| {
            topology(&format!(
                "v: {{ nics: {{ {name}: {{ network: {network}, mac: 52:54:00:00:00:01, vhost-user: \
                {{ path: {path} }} }} }} }}"
            ))
        };
        assert_eq!(handovers(&nic("a", "b", "/1"), &nic("b", "r", "/2")), []);
        assert_eq!(
            handovers(&nic("a", "b", "/1"), &nic("b", "b", "/2")).len(),
            1
        );
    }
}
