use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BASE: &str = r#"
cores: [2]
control: { path: /r/control.sock }
uplinks: { up0: { device: eth1 }, up1: { device: eth2 } }
networks: { blue: { vlan: 7, uplink: up0 }, red: {} }
vms:
  db:
    nics:
      net0: { network: red, vhost-user: { path: /db0 } }
      net1: { network: red, tap: { name: t0 } }
  web:
    labels: { owner: shop }
    limit: { from-vm: { rate: 1gbit } }
    nics:
      net0:
        network: blue
        mac: "52:54:00:00:00:01"
        vhost-user: { path: /web0 }
        rules:
          - deny: { to-vm: { proto: tcp, port: 25 } }
          - allow: { to-vm: { proto: tcp, port: 80 } }
          - deny: { to-vm: { proto: arp } }
"#;

fn topology(text: &str) -> Topology {
    config::parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}\n{text}"))
}

/// What is different after these replacements, all of which are made.
fn after(replacements: &[(&str, &str)]) -> Difference {
    let mut text = BASE.to_owned();
    for (from, to) in replacements {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    difference(&topology(BASE), &topology(&text))
}

#[test]
fn same_topology_in_another_order_is_no_difference() {
    let other = r#"
vms:
  web:
    nics:
      net0:
        rules:
          - deny: { to-vm: { port: "25-25", proto: tcp } }
          - allow: { to-vm: { port: 80, proto: tcp } }
          - deny: { to-vm: { proto: arp } }
        vhost-user: { path: //web0, mode: "0660" }
        mac: "52:54:00:00:00:01"
        network: blue
        queues: 1
    limit: { from-vm: { rate: 1000mbit } }
    labels: { owner: shop }
  db:
    nics:
      net1: { network: red, tap: { name: t0 } }
      net0: { network: red, vhost-user: { path: /db0 } }
networks: { red: { mtu: 1500 }, blue: { vlan: 7, uplink: up0 } }
uplinks: { up1: { device: eth2 }, up0: { device: eth1, mode: auto } }
idle: adaptive
control: { path: /r/./control.sock }
cores: [2]
"#;
    let difference = difference(&topology(BASE), &topology(other));
    assert!(difference.is_empty(), "{difference}");
    assert_eq!(difference.to_string(), "no changes\n");
}

#[test]
fn change_is_named_with_its_values_and_what_it_costs() {
    let text = |replacements| after(replacements).to_string();
    for (replacements, expected) in [
        (
            &[("rate: 1gbit", "rate: 2gbit, packets: 5kpps")][..],
            r"VM web: changed
  limit.from-vm.rate: 1gbit -> 2gbit
  limit.from-vm.packets: not set -> 5kpps
1 change; no port is interrupted
",
        ),
        (
            &[("limit: { from-vm: { rate: 1gbit } }", "")],
            r"VM web: changed
  limit.from-vm.rate: 1gbit -> not set
1 change; no port is interrupted
",
        ),
        (
            &[("owner: shop", "rack: 7")],
            r"VM web: changed
  labels.owner: shop -> not set
  labels.rack: not set -> 7
1 change; no port is interrupted
",
        ),
        // A NIC that moves to another network.
        (
            &[("network: blue", "network: red")],
            r"NIC web/net0: changed (releases its address)
  network: blue -> red
1 change; no port is interrupted
",
        ),
        (
            &[(
                "path: /web0 }",
                "path: /web1, mode: \"0600\" }\n        queues: 4",
            )],
            r"NIC web/net0: changed (reconnects this NIC)
  queues: 1 -> 4 (reconnects this NIC)
  vhost-user.path: /web0 -> /web1 (reconnects this NIC)
  vhost-user.mode: 0660 -> 0600
1 change; ports: 1 reconnected
",
        ),
        (
            &[("path: /web0 }", "path: /web0 }\n        enabled: false")],
            r"NIC web/net0: changed (disconnects this NIC)
  enabled: true -> false
1 change; ports: 1 disconnected
",
        ),
        // Another kind of port.
        (
            &[("tap: { name: t0 }", "vhost-user: { path: /db1 }")],
            r"NIC db/net1: changed (reconnects this NIC)
  queues: not set -> 1 (reconnects this NIC)
  vhost-user.path: not set -> /db1 (reconnects this NIC)
  vhost-user.listens: not set -> weir (reconnects this NIC)
  vhost-user.mode: not set -> 0660 (reconnects this NIC)
  tap.name: t0 -> not set (reconnects this NIC)
1 change; ports: 1 reconnected
",
        ),
        // A network that changes its VLAN, an uplink that changes its device.
        (
            &[("vlan: 7", "vlan: 8"), ("device: eth1", "device: eth3")],
            r"uplink up0: changed (attaches its device anew)
  device: eth1 -> eth3
network blue: changed
  vlan: 7 -> 8
2 changes; ports: 1 attached anew
",
        ),
        (
            &[
                ("uplink: up0", "uplink: up1"),
                ("up0: { device: eth1 }, ", ""),
            ],
            r"uplink up0: removed (gives its device back)
network blue: changed
  uplink: up0 -> up1
2 changes; ports: 1 disconnected
",
        ),
        (
            &[
                ("cores: [2]", "cores: [2, 3]\nidle: poll"),
                (
                    "/r/control.sock }",
                    "/r/ctl.sock }\nmetrics: { listen: \"[::1]:9\" }",
                ),
            ],
            r"daemon: changed (opens the new socket, then closes the old one)
  cores: [2] -> [2, 3]
  idle: adaptive -> poll
  control.path: /r/control.sock -> /r/ctl.sock (opens the new socket, then closes the old one)
  metrics.listen: not set -> [::1]:9 (opens the new socket, then closes the old one)
1 change; no port is interrupted
",
        ),
        // A VM by another name is another VM.
        (
            &[("  web:", "  site:")],
            r"VM site: added
  labels.owner: shop
  limit.from-vm.rate: 1gbit
NIC site/net0: added
  network: blue
  mac: 52:54:00:00:00:01
  vhost-user.path: /web0
  rules:
    + 1: deny to-vm: proto tcp, port 25
    + 2: allow to-vm: proto tcp, port 80
    + 3: deny to-vm: proto arp
VM web: removed
NIC web/net0: removed (disconnects this NIC)
4 changes; ports: 1 disconnected
",
        ),
    ] {
        assert_eq!(text(replacements), expected);
    }
}

#[test]
fn rules_that_go_come_and_move_are_told_apart() {
    let first = "          - deny: { to-vm: { proto: tcp, port: 25 } }\n";
    let last = "          - deny: { to-vm: { proto: arp } }\n";
    let new = "          - deny: { from-vm: { proto: udp } }\n";
    assert_eq!(
        after(&[(first, new)]).to_string(),
        r"NIC web/net0: changed
  rules:
    - 1: deny to-vm: proto tcp, port 25
    + 1: deny from-vm: proto udp
1 change; no port is interrupted
"
    );
    let both = format!("{last}{first}");
    assert_eq!(
        after(&[(first, ""), (last, &both)]).to_string(),
        r"NIC web/net0: changed
  rules:
    the others in another order:
      1: allow to-vm: proto tcp, port 80
      2: deny to-vm: proto arp
      3: deny to-vm: proto tcp, port 25
1 change; no port is interrupted
"
    );
}

#[test]
fn only_what_is_reserved_at_the_start_asks_for_a_restart() {
    let difference = after(&[(
        "cores: [2]",
        "cores: [2]\nflows: 2048\nports: 9\nidle: poll",
    )]);
    let keys: Vec<_> = difference
        .needs_restart()
        .iter()
        .map(|key| key.key.clone())
        .collect();
    assert_eq!(keys, ["flows", "ports"]);
    assert!(
        difference
            .to_string()
            .contains("flows: 1048576 -> 2048 (needs a restart)")
    );
}

#[test]
fn disabled_nic_has_nobody_to_be_interrupted() {
    let off = BASE.replace("path: /web0 }", "path: /web0 }\n        enabled: false");
    let differs = |from: &str, to: &str| {
        assert!(off.contains(from));
        difference(&topology(&off), &topology(&off.replace(from, to)))
    };
    for (from, to) in [
        ("path: /web0", "path: /web1"),
        ("enabled: false", "enabled: true"),
        ("path: /web0 }", "path: /web0 }\n        queues: 4"),
        ("vhost-user: { path: /web0 }", "tap: { name: t9 }"),
    ] {
        let difference = differs(from, to);
        assert_eq!(difference.changes.len(), 1, "{difference}");
        assert_eq!(difference.changes[0].costs, [], "{difference}");
    }
    // What it kept, it kept for itself.
    let moved = differs("network: blue", "network: red");
    assert_eq!(moved.changes[0].costs, [Cost::ReleasesAddress]);
    // Nothing of a whole VM that is off is interrupted by its end.
    let gone = difference(
        &topology(&off),
        &topology(off.split("  web:").next().unwrap()),
    );
    assert!(
        gone.changes.iter().all(|change| change.costs.is_empty()),
        "{gone}"
    );
    assert_eq!(gone.changes.len(), 2);
}

#[test]
fn queues_of_a_device_attach_it_anew() {
    let nic = |queues| {
        topology(&format!(
            "cores: [0]\nnetworks: {{ b: {{}} }}\nvms: {{ v: {{ nics: {{ n: {{ network: b, queues: \
            {queues}, afxdp: {{ device: veth0 }} }} }} }} }}\n"
        ))
    };
    let difference = difference(&nic(1), &nic(2));
    assert_eq!(difference.changes[0].costs, [Cost::ReattachesDevice]);
}

/// What one VM has may depend on how many there are; what was written of it does not.
#[test]
fn another_vm_changes_nothing_of_those_that_are_there() {
    let vms = |n: usize| {
        let vm = |n| {
            format!(
                "  v{n}: {{ limit: {{ to-vm: {{ rate: 1gbit }} }}, nics: {{ n: {{ network: b, \
                macs: \
                any, vhost-user: {{ path: /{n} }} }} }} }}\n"
            )
        };
        let vms: String = (0..n).map(vm).collect();
        topology(&format!("cores: [0]\nnetworks: {{ b: {{}} }}\nvms:\n{vms}"))
    };
    let difference = difference(&vms(60), &vms(61));
    let names: Vec<_> = difference
        .changes
        .iter()
        .map(|change| change.name.as_str())
        .collect();
    assert_eq!(names, ["v60", "v60/n"]);
}

#[test]
fn label_can_not_write_on_the_terminal() {
    let difference = after(&[("owner: shop", "owner: \"a\u{202e}b\"")]);
    assert!(!difference.to_string().contains('\u{202e}'));
    let json = serde_json::to_string(&difference).unwrap();
    assert!(json.contains("a\u{202e}b"), "programs get what is written");
}

#[test]
fn json_has_enums_beside_sentences_and_reads_back() {
    let difference = after(&[
        ("path: /web0 }", "path: /web0, listens: guest }"),
        ("cores: [2]", "cores: [2, 3]"),
    ]);
    let json = serde_json::to_value(&difference).unwrap();
    let expected = serde_json::json!({ "changes": [
        {
            "object": "daemon", "change": "changed", "costs": [],
            "keys": [{ "key": "cores", "before": ["2"], "after": ["2", "3"], "cost": "nothing" }],
        },
        {
            "object": "nic", "name": "web/net0", "change": "changed",
            "costs": ["reconnects-nic"], "sentence": "reconnects this NIC",
            "keys": [{
                "key": "vhost-user.listens", "before": "weir", "after": "guest",
                "cost": "reconnects-nic",
            }],
        },
    ] });
    assert_eq!(json, expected);
    assert_eq!(
        serde_json::from_value::<Difference>(json).unwrap(),
        difference
    );
}

/// A NIC: whether it is there, its network, its addresses, its kind, further choices.
type Nic = (bool, bool, u8, u8, u8);

fn nic() -> impl Strategy<Value = Nic> {
    (any::<bool>(), any::<bool>(), 0u8..4, 0u8..3, 0u8..8)
}

/// A topology with these choices. Names, paths and devices are each one's own, so that all of them
/// are right; the order of VMs is one of two.
fn random() -> impl Strategy<Value = Topology> {
    let vms = proptest::collection::vec((any::<bool>(), 0u8..8, [nic(), nic()]), 3);
    (0u8..64, 0u8..64, vms, any::<bool>()).prop_map(|(host, nets, vms, reverse)| {
        let mut text = format!(
            "cores: [{}]\n",
            ["0", "1", "0, 1", "1, 0"][usize::from(host & 3)]
        );
        if host & 4 > 0 {
            text.push_str("idle: poll\nmetrics: { listen: \"[::1]:9477\" }\n");
        }
        if host & 8 > 0 {
            text.push_str("ports: 100\ncontrol: { group: kvm }\n");
        }
        let device = if host & 16 > 0 { "e1" } else { "e2" };
        text.push_str(&format!("uplinks: {{ up0: {{ device: {device} }}"));
        if host & 32 > 0 {
            text.push_str(", up1: { device: e3, queues: 2 }");
        }
        text.push_str(" }\n");
        let vlan = if nets & 1 > 0 {
            "vlan: 7, uplink: up0"
        } else {
            ""
        };
        let mtu = if nets & 2 > 0 { "mtu: 900" } else { "" };
        text.push_str(&format!("networks: {{ a: {{ {vlan} }}, b: {{ {mtu} }}"));
        if nets & 4 > 0 {
            text.push_str(", c: { uplink: up0, vlan: 9 }");
        }
        text.push_str(" }\nvms:\n");
        let mut parts: Vec<_> = vms
            .into_iter()
            .enumerate()
            .filter(|(_, (is_there, ..))| *is_there)
            .map(|(n, (_, vm, nics))| vm_text(n, vm, nics))
            .collect();
        if reverse {
            parts.reverse();
        }
        text.push_str(&parts.concat());
        topology(&text)
    })
}

fn vm_text(n: usize, vm: u8, nics: [Nic; 2]) -> String {
    let mut text = format!("  v{n}:\n");
    if vm & 1 > 0 {
        text.push_str("    labels: { owner: shop }\n");
    }
    if vm & 2 > 0 {
        let rate = if vm & 4 > 0 { "1gbit" } else { "2gbit" };
        text.push_str(&format!("    limit: {{ to-vm: {{ rate: {rate} }} }}\n"));
    }
    text.push_str("    nics:\n");
    for (k, (is_there, network, macs, kind, more)) in nics.into_iter().enumerate() {
        if k > 0 && !is_there {
            continue;
        }
        let network = if network { "a" } else { "b" };
        let macs = ["", ", macs: any", ", macs: 8", ", mac: 52:54:00:00:00:0"][usize::from(macs)];
        let macs = if macs.ends_with('0') {
            format!("{macs}{}", n * 2 + k)
        } else {
            macs.to_owned()
        };
        let queues = 1 + (more & 1);
        let kind = match kind {
            0 => format!(
                "queues: {queues}, vhost-user: {{ path: /{n}-{k}-{} }}",
                more >> 1 & 1
            ),
            1 => format!("tap: {{ name: t{n}-{k} }}"),
            _ => format!("queues: {queues}, afxdp: {{ device: d{n}-{k} }}"),
        };
        let rules = if more & 4 > 0 {
            ", rules: [ { deny: { to-vm: { proto: arp } } } ]"
        } else {
            ""
        };
        text.push_str(&format!(
            "      n{k}: {{ network: {network}{macs}, {kind}{rules} }}\n"
        ));
    }
    text
}

type Flat = BTreeMap<(ObjectKind, String), BTreeMap<String, Value>>;

/// All settings; `all`: the defaults, too.
fn flat(topology: &Topology, all: bool) -> Flat {
    let objects = topology.objects().into_iter();
    objects
        .map(|object| {
            let settings = object
                .settings
                .iter()
                .filter(|setting| all || !setting.is_default);
            let settings = settings.map(|setting| (setting.key.clone(), value(&setting.value)));
            ((kind(object.kind), object.name.clone()), settings.collect())
        })
        .collect()
}

/// The old settings with the changes applied; `is_new` is told of objects that were added.
fn applied(mut flat: Flat, difference: &Difference, mut is_new: impl FnMut(&Change)) -> Flat {
    for change in &difference.changes {
        let id = (change.object, change.name.clone());
        if change.change == How::Removed {
            assert!(flat.remove(&id).is_some(), "{change}");
            continue;
        }
        if change.change == How::Added {
            is_new(change);
            assert_eq!(flat.insert(id.clone(), BTreeMap::new()), None, "{change}");
        }
        let settings = flat.get_mut(&id).unwrap();
        for KeyChange {
            key, before, after, ..
        } in &change.keys
        {
            assert_ne!(before, after, "{change}");
            let found = match after {
                Some(after) => settings.insert(key.clone(), after.clone()),
                None => settings.remove(key),
            };
            assert_eq!(&found, before, "{change}");
        }
    }
    flat
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn difference_applied_to_the_old_is_the_new(old in random(), new in random()) {
        let difference = difference(&old, &new);
        let mut added = Vec::new();
        let mut expected = flat(&new, true);
        let found = applied(flat(&old, true), &difference, |change| {
            added.push((change.object, change.name.clone()));
        });
        // Of what was added it says what is not the default.
        let written = flat(&new, false);
        for id in added {
            expected.insert(id.clone(), written[&id].clone());
        }
        prop_assert_eq!(found, expected);
        // Every key is one of the table, and in its order.
        for change in &difference.changes {
            let kind = match change.object {
                ObjectKind::Daemon => config::ObjectKind::Daemon,
                ObjectKind::Uplink => config::ObjectKind::Uplink,
                ObjectKind::Network => config::ObjectKind::Network,
                ObjectKind::Vm => config::ObjectKind::Vm,
                ObjectKind::Nic => config::ObjectKind::Nic,
            };
            let rows = change.keys.iter().map(|key| effect_of(&kind.path_of(&key.key)).unwrap().0);
            prop_assert!(rows.is_sorted());
            prop_assert!(change.change != How::Changed || !change.keys.is_empty());
        }
    }

    #[test]
    fn nothing_is_different_from_itself(topology in random()) {
        prop_assert!(difference(&topology, &topology).is_empty());
    }
}
