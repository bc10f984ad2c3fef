//! Whatever a file holds, reading it ends, in a topology or in a report that can be printed.

use std::path::Path;

use config::{PORTS_MAX, PortKind, Topology, XDP_MTU_MAX, parse};
use proptest::prelude::*;

/// Uses all that the schema has.
const EVERYTHING: &str = r#"
cores: [2, 3]                       # CPUs to poll on
idle: adaptive
flows: 1048576
ports: 4096
control: { path: /run/weir/control.sock, group: kvm, mode: "0660" }
metrics: { listen: "127.0.0.1:9477" }
include: [ "vms.d/*.yaml" ]
x-nic: &nic { network: blue, queues: 4 }
uplinks:
  up0: { device: eth1, mode: auto, queues: auto, rate: 10gbit }
networks:
  blue: { vlan: 100, uplink: up0, mtu: 1500 }
  red: {}
vms:
  web:
    labels: { owner: shop, rack: 7 }
    limit: { from-vm: { rate: 1gbit, packets: 200kpps }, to-vm: { rate: 2gbit, queue: 20ms } }
    share: { min: 200mbit, weight: 2 }
    nics:
      net0:
        <<: *nic
        enabled: false
        mac: "52:54:00:00:00:01"
        vhost-user: { path: /run/weir/web-net0.sock, listens: weir, group: kvm, mode: "0660" }
        rules:
          - deny:
              to-vm: { proto: tcp, port: [25, 8000-8100] }
              from-vm: { cidr: "2001:db8::/32" }
          - allow: { from-vm: { cidr: 10.0.0.0/8, proto: icmp, icmp-type: 8 } }
      net1: { network: red, macs: any, tap: { name: tap7 } }
"#;

/// What mutations put in: YAML's own marks, and values that mean something here.
const PIECES: &[&str] = &[
    ":",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "*nic",
    "<<: *nic",
    "!!int ",
    "!x ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "#",
    "\t",
    "\n",
    "\n\n  ",
    "\r",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "?",
    "~",
    "null",
    "0",
    "-1",
    "99999999999999999999",
    "0x1F",
    "1e9",
    ".nan",
    "true",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "\u{2028}",
    "é",
    "🦀",
    "\u{202e}",
    "\\x",
    "any",
    "web",
    "blue",
    "path",
    "queues: 4",
    "/33",
    "-7",
    "deny",
    "to-vm",
    "icmp6",
    "icmp-type: 3",
    "x-y",
];

/// Replaces a run of characters, or doubles it somewhere else.
fn mutate(text: &mut Vec<char>, start: usize, len: usize, what: &Mutation) {
    let start = start % (text.len() + 1);
    let end = (start + len).min(text.len());
    match what {
        Mutation::Cut => drop(text.splice(start..end, [])),
        Mutation::Put(piece) => drop(text.splice(start..end, PIECES[piece % PIECES.len()].chars())),
        Mutation::Copy(to) => {
            let run: Vec<_> = text[start..end].to_vec();
            let to = to % (text.len() + 1);
            drop(text.splice(to..to, run));
        }
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Cut,
    Put(usize),
    Copy(usize),
}

fn mutation() -> impl Strategy<Value = (usize, usize, Mutation)> {
    let what = prop_oneof![
        Just(Mutation::Cut),
        any::<usize>().prop_map(Mutation::Put),
        any::<usize>().prop_map(Mutation::Copy),
    ];
    (any::<usize>(), 0usize..40, what)
}

/// A topology holds what its types promise; a report says something and prints.
fn assert_sound(text: &str) {
    match parse(text, "weir.yaml") {
        Ok(topology) => assert_checked(&topology),
        Err(report) => {
            assert!(!report.diagnostics().is_empty());
            let printed = report.to_string();
            assert!(
                printed.contains("= help: ") && !printed.contains("report it"),
                "{printed}"
            );
            assert!(
                printed.chars().all(|c| c == '\n' || !c.is_control()),
                "{printed:?}"
            );
            let places: Vec<_> = report
                .diagnostics()
                .iter()
                .map(|d| (d.line(), d.column()))
                .collect();
            assert!(places.is_sorted(), "{places:?}");
        }
    }
}

fn assert_checked(topology: &Topology) {
    assert!(!topology.cores.is_empty());
    assert!(topology.run_dir().is_absolute());
    assert!((1..=PORTS_MAX).contains(&topology.ports));
    assert!(topology.nics().count() + topology.uplinks.len() <= topology.ports);
    assert!(
        topology
            .metrics
            .is_none_or(|metrics| metrics.listen.port() > 0)
    );
    for (name, text) in topology.vms.iter().flat_map(|vm| &vm.labels) {
        assert!((1..=64).contains(&name.len()) && (1..=128).contains(&text.len()));
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert!(
        topology
            .networks
            .iter()
            .all(|network| (68..=9000).contains(&network.mtu))
    );
    for (vm, nic) in topology.nics() {
        assert!(!vm.name.is_empty() && !nic.name.is_empty());
        assert!((1..=16).contains(&nic.queues));
        for rule in &nic.rules {
            assert!(rule.numbers.iter().all(|(first, last)| first <= last));
            assert!(rule.numbers.windows(2).all(|pair| pair[0].1 < pair[1].0));
            assert!(!rule.to_string().is_empty());
        }
        let _ = topology.network_of(nic);
        match &nic.port {
            PortKind::VhostUser { path, mode, .. } => {
                assert!(
                    path.is_absolute()
                        && path != Path::new(&topology.control.path)
                        && *mode <= 0o777
                );
            }
            PortKind::Tap { name } => assert_device(name),
            PortKind::AfXdp {
                device,
                queues,
                ring,
                ..
            } => {
                assert_device(device);
                assert!(ring.is_power_of_two() && (512..=32768).contains(ring));
                assert!(queues.is_none_or(|queues| (1..=64).contains(&queues)));
                assert!(topology.network_of(nic).mtu <= XDP_MTU_MAX);
            }
        }
    }
    for (uplink_idx, uplink) in topology.uplinks.iter().enumerate() {
        assert_device(&uplink.device);
        assert!(uplink.ring.is_power_of_two() && (512..=32768).contains(&uplink.ring));
        assert!(
            topology
                .networks_on(uplink_idx)
                .all(|(_, network)| network.mtu <= XDP_MTU_MAX)
        );
    }
}

fn assert_device(name: &str) {
    assert!(
        (1..=15).contains(&name.len()) && !name.contains(['/', ' ', ':']),
        "{name:?}"
    );
}

#[test]
fn everything_is_understood_but_not_all_supported() {
    let report = parse(EVERYTHING, "weir.yaml").unwrap_err();
    let not_yet = |message: &str| message.contains("not supported by this version");
    let (not_yet, others): (Vec<_>, Vec<_>) = report
        .diagnostics()
        .iter()
        .partition(|d| not_yet(d.message()));
    assert_eq!(not_yet.len(), 2, "{report}");
    assert_eq!(others.len(), 1, "{report}"); // a text can't include
}

#[test]
fn every_prefix_is_survived() {
    for (idx, _) in EVERYTHING.char_indices() {
        assert_sound(&EVERYTHING[..idx]);
    }
}

#[test]
fn every_line_left_out_or_indented_is_survived() {
    let lines: Vec<_> = EVERYTHING.lines().collect();
    for idx in 0..lines.len() {
        let without: Vec<_> = lines
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != idx)
            .map(|(_, line)| *line)
            .collect();
        assert_sound(&without.join("\n"));
        let mut indented: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        indented[idx].insert_str(0, "  ");
        assert_sound(&indented.join("\n"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_are_survived(mutations in proptest::collection::vec(mutation(), 1..8)) {
        let quickstart = include_str!("../../examples/quickstart.yaml");
        for text in [EVERYTHING, quickstart, include_str!("../../examples/uplink.yaml")] {
            let mut text: Vec<char> = text.chars().collect();
            for (start, len, what) in &mutations {
                mutate(&mut text, *start, *len, what);
            }
            assert_sound(&text.into_iter().collect::<String>());
        }
    }

    #[test]
    fn pieces_of_yaml_are_survived(pieces in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        assert_sound(&pieces.into_iter().map(|piece| PIECES[piece]).collect::<String>());
    }

    #[test]
    fn any_text_is_survived(text in "\\PC{0,80}|(?s).{0,40}") {
        assert_sound(&text);
        assert_sound(&format!("cores: [0]\nvms: {text}\n"));
    }
}
