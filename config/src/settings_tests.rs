use std::collections::BTreeSet;

use super::*;

/// Uses every key of this version, each with a value of its own.
const EVERYTHING: &str = r#"
cores: [2, 3]
idle: poll
flows: 2048
ports: 9
control: { path: /run/c.sock, group: kvm, mode: "0600" }
metrics: { listen: "127.0.0.1:9477" }
include: []
uplinks: { up0: { device: eth1, mode: skb, queues: 2, ring: 512, take: true } }
networks: { b: { vlan: 7, uplink: up0, mtu: 900 } }
vms:
  v:
    labels: { owner: shop }
    limit:
      from-vm: { rate: 1gbit, packets: 1kpps, burst: 64KiB }
      to-vm: { rate: 2gbit, packets: 2kpps, burst: 128KiB, queue: 5ms }
    nics:
      n0:
        enabled: false
        network: b
        mac: "52:54:00:00:00:01"
        queues: 4
        vhost-user: { path: /n0, group: kvm, mode: "0600" }
        rules: [ { deny: { to-vm: { proto: tcp, port: 25 } } } ]
      n1: { network: b, macs: 8, tap: { name: tap7 } }
      n2: { network: b, macs: any, queues: 2, afxdp: { device: veth0, mode: copy, ring: 1024 } }
      n3: { network: b, vhost-user: { path: /n3, listens: guest } }
"#;

fn objects(text: &str) -> Vec<Object> {
    crate::parse(text, "weir.yaml")
        .unwrap_or_else(|report| panic!("{report}"))
        .objects()
}

#[test]
fn every_key_of_the_file_is_a_setting() {
    // A text can't include, and an empty list is not a setting.
    let found: BTreeSet<_> = objects(EVERYTHING)
        .iter()
        .flat_map(|object| {
            let keys = object.settings.iter();
            keys.map(|setting| object.kind.path_of(&setting.key))
        })
        .collect();
    let names = [
        "uplinks.NAME",
        "networks.NAME",
        "vms.NAME",
        "vms.NAME.nics.NAME",
    ];
    let expected: BTreeSet<_> = key_paths()
        .into_iter()
        .filter(|path| path != "include" && !names.contains(&path.as_str()))
        .collect();
    assert_eq!(found, expected);
    for name in names {
        assert!(key_paths().contains(&name.to_owned()), "{name}");
    }
}

#[test]
fn values_are_in_the_words_of_the_file() {
    let shown: Vec<_> = objects(EVERYTHING)
        .iter()
        .flat_map(|object| {
            let settings = object.settings.iter().filter(|setting| !setting.is_default);
            settings.map(|Setting { key, value, .. }| match value {
                Written::One(text) => format!("{} {key}: {text}", object.name),
                Written::List(items) => format!("{} {key}: {}", object.name, items.join(" | ")),
            })
        })
        .collect();
    for line in [
        " cores: 2 | 3",
        " control.mode: 0600",
        " metrics.listen: 127.0.0.1:9477",
        "up0 take: true",
        "b vlan: 7",
        "v labels.owner: shop",
        "v limit.from-vm.burst: 64KiB",
        "v limit.to-vm.queue: 5ms",
        "v/n0 mac: 52:54:00:00:00:01",
        "v/n0 rules: deny to-vm: proto tcp, port 25",
        "v/n1 macs: 8",
        "v/n2 macs: any",
        "v/n2 queues: 2",
        "v/n3 vhost-user.listens: guest",
    ] {
        assert!(
            shown.iter().any(|shown| shown == line),
            "{line}: {shown:#?}"
        );
    }
}

#[test]
fn default_that_is_written_is_no_other_setting() {
    let text = |more: &str, nic: &str| {
        format!(
            "cores: [0]\n{more}networks: {{ b: {{ }} }}\nvms: {{ v: {{ limit: {{ to-vm: {{ \
            rate: 1gbit }} }}, nics: {{ n: {{ network: b, vhost-user: {{ path: /s{nic} }} }} \
            }} }} }}\n"
        )
    };
    let plain = objects(&text("", ""));
    let written = text(
        "idle: adaptive\nports: 4096\ncontrol: { mode: \"0660\" }\n",
        ", listens: weir, mode: \"0660\"",
    );
    assert_eq!(
        objects(&written.replace("1gbit }", "1000mbit, queue: 20ms }")),
        plain
    );
    let n_written = plain
        .iter()
        .flat_map(|object| &object.settings)
        .filter(|setting| !setting.is_default);
    // The core, the rate, the network, the path.
    assert_eq!(n_written.count(), 4);
}
