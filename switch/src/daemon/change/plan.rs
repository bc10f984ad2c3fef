//! What a change of the topology does to each port.

use std::collections::BTreeMap;

use crate::plan::ports::{PortKind, PortSpec};

/// Every port of both topologies, by what is done to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// It is new.
    pub(super) added: Vec<PortSpec>,
    /// It is there, and has to be served anew.
    pub(super) renewed: Vec<PortSpec>,
    /// It stays as it is served; first before, then after. Most are equal.
    pub(super) kept: Vec<(PortSpec, PortSpec)>,
    /// It is not there any more.
    pub(super) removed: Vec<PortSpec>,
}

impl Plan {
    /// From the ports that there are to those that there will be.
    pub(super) fn new(before: &[PortSpec], after: Vec<PortSpec>) -> Self {
        let mut old: BTreeMap<_, _> = before.iter().map(|port| (&port.name, port)).collect();
        let mut plan = Self::default();
        for port in after {
            match old.remove(&port.name) {
                None => plan.added.push(port),
                Some(old) => {
                    let port = port.keeping_parts(old);
                    if is_renewed(old, &port) {
                        plan.renewed.push(port);
                    } else {
                        plan.kept.push((old.clone(), port));
                    }
                }
            }
        }
        plan.removed = old.into_values().cloned().collect();
        plan
    }

    /// All ports that there will be, by id.
    pub(super) fn specs(&self) -> Vec<PortSpec> {
        let kept = self.kept.iter().map(|(_, new)| new);
        let mut specs: Vec<_> = self
            .added
            .iter()
            .chain(&self.renewed)
            .chain(kept)
            .cloned()
            .collect();
        specs.sort_by_key(PortSpec::id);
        specs
    }
}

/// Whether the guest or the device behind the port can't follow the change.
fn is_renewed(old: &PortSpec, new: &PortSpec) -> bool {
    let is_other = match (&old.kind, &new.kind) {
        (PortKind::Socket(old), PortKind::Socket(new)) => {
            (&old.path, old.listens, old.n_pairs) != (&new.path, new.listens, new.n_pairs)
        }
        (PortKind::Device(old), PortKind::Device(new)) => !old.is_same_but_for_later(new),
        _ => true,
    };
    old.enabled != new.enabled || is_other
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ids::Ids;
    use crate::plan::ports::ports;

    fn specs(vms: &str, ids: &mut Ids) -> Vec<PortSpec> {
        let text = format!("cores: [0]\nnetworks: {{ b: {{}}, r: {{}} }}\nvms: {{ {vms} }}\n");
        let topology =
            config::parse(&text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
        ids.assign(&topology).unwrap();
        ports(&topology, ids)
    }

    fn names(specs: &[PortSpec]) -> Vec<&str> {
        specs.iter().map(|spec| spec.name.as_str()).collect()
    }

    /// A VM with one NIC.
    fn vm(name: &str, keys: &str) -> String {
        format!(
            "{name}: {{ nics: {{ n: {{ network: b, vhost-user: {{ path: /{name} }}{keys} }} }} }}"
        )
    }

    fn plan(before: &[String], after: &[String]) -> Plan {
        let mut ids = Ids::new(64);
        let old = specs(&before.join(", "), &mut ids);
        let new = specs(&after.join(", "), &mut ids);
        Plan::new(&old, new)
    }

    #[test]
    fn what_did_not_change_is_kept_whatever_comes_and_goes_around_it() {
        let plan = plan(
            &[vm("a", ""), vm("b", ""), vm("c", "")],
            &[vm("new", ""), vm("c", ""), vm("a", "")],
        );
        assert_eq!(
            (names(&plan.added), names(&plan.removed)),
            (vec!["new/n"], vec!["b/n"])
        );
        assert!(plan.renewed.is_empty() && plan.kept.len() == 2);
        assert!(plan.kept.iter().all(|(old, new)| old == new));
    }

    #[test]
    fn only_what_a_guest_cannot_follow_is_served_anew() {
        let renewed = |before: &str, after: &str| {
            let plan = plan(&[vm("a", before)], &[vm("a", after)]);
            assert!(plan.added.is_empty() && plan.removed.is_empty());
            !plan.renewed.is_empty()
        };
        assert!(renewed("", ", queues: 2"));
        assert!(renewed("", ", enabled: false"));
        assert!(renewed(", enabled: false", ""));
        assert!(!renewed("", ", macs: 7"));
        assert!(!renewed(
            "",
            ", rules: [ { deny: { to-vm: { proto: tcp } } } ]"
        ));
        let other = |port: &str| vec![format!("a: {{ nics: {{ n: {{ network: b, {port} }} }} }}")];
        for port in [
            "vhost-user: { path: /other }",
            "vhost-user: { path: /a, listens: guest }",
            "tap: { name: t0 }",
        ] {
            assert_eq!(
                plan(&[vm("a", "")], &other(port)).renewed.len(),
                1,
                "{port}"
            );
        }
        let other = other("vhost-user: { path: /a, mode: \"0666\" }");
        assert!(plan(&[vm("a", "")], &other).renewed.is_empty());
    }

    /// `queues: auto`, which is as many as the device has.
    #[test]
    fn cores_change_no_devices_queues() {
        let with = |cores: &str| {
            let text = format!(
                "cores: {cores}\nuplinks: {{ up0: {{ device: eth1 }}, up1: {{ device: eth2, \
                queues: 3 }} }}\nnetworks: {{ b: {{ uplink: up0 }} }}\nvms: {{ a: {{ nics: {{ \
                n: {{ network: b, afxdp: {{ device: eth3 }} }}, m: {{ network: b, vhost-user: \
                {{ path: /m }} }} }} }} }}\n"
            );
            config::parse(&text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"))
        };
        let ids = Ids::of(&with("[0]")).unwrap();
        let specs = |cores| ports(&with(cores), &ids);
        for cores in ["[0, 1, 2, 3]", "[7]"] {
            let plan = Plan::new(&specs("[0]"), specs(cores));
            assert!(plan.added.is_empty() && plan.renewed.is_empty() && plan.removed.is_empty());
            assert!(plan.kept.len() == 4 && plan.kept.iter().all(|(old, new)| old == new));
        }
    }

    #[test]
    fn others_that_may_have_any_address_keep_their_share() {
        let any = |name: &str| vm(name, ", macs: any");
        let many: Vec<_> = (0..40).map(|n| any(&format!("v{n}"))).collect();
        let plan = plan(&[any("a")], &[vec![any("a")], many].concat());
        assert!(plan.kept.iter().all(|(old, new)| old == new));
    }
}
