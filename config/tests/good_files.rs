//! Files without mistakes, and the values they come to.

use std::path::Path;

use config::{
    Control, Idle, Limit, Listens, MacPolicy, Metrics, Network, Nic, Origin, PortKind, Topology,
    Uplink, Vm, VmLimit, XdpMode, load, parse, port_name,
};
use flowtable::rules::rule::{Direction, Proto, Rule, Verdict};

fn parsed(text: &str) -> Topology {
    parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"))
}

/// A topology of one VM with one NIC, whose keys besides network and socket are `nic`.
fn with_nic(nic: &str) -> Nic {
    let text = format!(
        r"cores: [0]
networks: {{ blue: {{}} }}
vms: {{ a: {{ nics: {{ n: {{ network: blue, vhost-user: {{ path: /s }}, {nic} }} }} }} }}
"
    );
    parsed(&text).vms.remove(0).nics.remove(0)
}

#[test]
fn quickstart_is_three_vms_on_one_network() {
    let path = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/quickstart.yaml"
    ));
    let topology = load(path).unwrap_or_else(|report| panic!("{report}"));
    let ports: Vec<_> = topology
        .nics()
        .map(|(vm, nic)| port_name(vm, nic))
        .collect();
    assert_eq!(ports, ["a/net0", "b/net0", "c/net0"]);
    assert_eq!(topology.networks.len(), 1);
    assert_eq!(topology.cores.len(), 1);
    assert_eq!(topology.run_dir(), Path::new("/tmp/weir-demo"));
}

#[test]
fn uplink_example_is_two_networks_on_one_device() {
    let path = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/uplink.yaml"
    ));
    let topology = load(path).unwrap_or_else(|report| panic!("{report}"));
    let on_uplink: Vec<_> = topology
        .networks_on(0)
        .map(|(_, network)| network.vlan)
        .collect();
    assert_eq!(on_uplink, [None, Some(100)]);
    assert_eq!(topology.nics().count(), 3);
}

#[test]
fn every_supported_key_reaches_its_value() {
    let topology = parsed(
        r#"cores: [2, 3]
idle: poll
flows: 65536
ports: 65000
control: { path: /run/weir/ctl.sock, group: kvm, mode: "0600" }
metrics: { listen: "[::1]:9477" }
include: []
uplinks: { up0: { device: eth1, mode: zero-copy, queues: 4, ring: 16384, take: true } }
networks:
  blue: { vlan: 100, mtu: 3498, uplink: up0 }
  red:
vms:
  web:
    labels: { owner: the shop, rack: 7, a_1: "é" }
    limit: { from-vm: { rate: 1gbit, packets: 200kpps, burst: 64KiB }, to-vm: { rate: 2.5gbit } }
    nics:
      net0:
        enabled: false
        network: red
        mac: "52:54:00:00:00:01"
        queues: 4
        vhost-user: { path: /run/weir/web.sock, listens: weir, group: "36", mode: 0o666 }
        rules: [ { deny: { to-vm: { proto: tcp, port: 25 } } } ]
"#,
    );
    let expected = Topology {
        cores: vec!["2".parse().unwrap(), "3".parse().unwrap()],
        idle: Idle::Poll,
        flows: 65_536,
        ports: 65_000,
        control: Control {
            path: "/run/weir/ctl.sock".into(),
            group: Some("kvm".into()),
            mode: 0o600,
        },
        metrics: Some(Metrics {
            listen: "[::1]:9477".parse().unwrap(),
        }),
        uplinks: vec![Uplink {
            name: "up0".into(),
            device: "eth1".into(),
            mode: XdpMode::ZeroCopy,
            queues: Some(4),
            ring: 16384,
            take: true,
        }],
        networks: vec![
            Network {
                name: "blue".into(),
                vlan: Some(100),
                mtu: 3498,
                uplink_idx: Some(0),
            },
            Network {
                name: "red".into(),
                vlan: None,
                mtu: 1500,
                uplink_idx: None,
            },
        ],
        vms: vec![Vm {
            name: "web".into(),
            labels: [("owner", "the shop"), ("rack", "7"), ("a_1", "é")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into(),
            limit: VmLimit {
                from_vm: Some(Limit {
                    rate: Some("1gbit".parse().unwrap()),
                    packets: Some("200kpps".parse().unwrap()),
                    burst: Some("64KiB".parse().unwrap()),
                    queue: None,
                }),
                to_vm: Some(Limit {
                    rate: Some("2500mbit".parse().unwrap()),
                    packets: None,
                    burst: None,
                    queue: Some("20ms".parse().unwrap()),
                }),
            },
            nics: vec![Nic {
                name: "net0".into(),
                enabled: false,
                network_idx: 1,
                mac: MacPolicy::Fixed("52:54:00:00:00:01".parse().unwrap()),
                queues: 4,
                port: PortKind::VhostUser {
                    path: "/run/weir/web.sock".into(),
                    listens: Listens::Weir,
                    group: Some("36".into()),
                    mode: 0o666,
                },
                rules: vec![Rule {
                    verdict: Verdict::Deny,
                    direction: Direction::ToVm,
                    proto: Proto::Number(6),
                    cidr: None,
                    numbers: vec![(25, 25)],
                }],
            }],
        }],
        origin: Origin::default(),
    };
    assert_eq!(topology, expected);
}

#[test]
fn limit_on_what_a_vm_gets_holds_for_as_long_as_is_said() {
    let limit = |limit: &str| {
        let vm = |name: &str, limit: &str| {
            format!(
                "  {name}: {{ {limit}nics: {{ n: {{ network: b, vhost-user: {{ path: /{name} }} }} \
                }} }}\n"
            )
        };
        let limit = format!("limit: {{ to-vm: {{ {limit} }} }}, ");
        parsed(&format!(
            "cores: [0]\nnetworks: {{ b: {{}} }}\nvms:\n{}{}",
            vm("a", &limit),
            vm("c", "")
        ))
    };
    for (text, queue) in [
        ("", Some(20_000)),
        (", queue: 5ms", Some(5_000)),
        (", queue: 1s", Some(1_000_000)),
        (", queue: none", None),
    ] {
        let topology = limit(&format!("rate: 100mbit{text}"));
        let to_vm = topology.vms[0].limit.to_vm.unwrap();
        assert_eq!(to_vm.queue.map(config::Micros::value), queue, "{text}");
        assert!(topology.remarks().is_empty(), "{:?}", topology.remarks());
    }
    // 256 frames of 1,514 bytes at 2 Mbit/s.
    let remarks = limit("rate: 2mbit").remarks();
    assert!(
        remarks.len() == 1 && remarks[0].contains("1550 ms"),
        "{remarks:?}"
    );
    assert!(limit("packets: 100pps").remarks()[0].contains("2560 ms"));
    assert!(limit("rate: 2mbit, queue: none").remarks().is_empty());
}

#[test]
fn cores_alone_are_a_topology() {
    let topology = parsed("cores: [0]\n");
    assert_eq!(topology.idle, Idle::Adaptive);
    assert_eq!((topology.flows, topology.ports), (1_048_576, 4096));
    assert_eq!(topology.metrics, None);
    assert_eq!(
        topology.control,
        Control {
            path: "/run/weir/control.sock".into(),
            group: None,
            mode: 0o660
        }
    );
    assert!(topology.networks.is_empty() && topology.vms.is_empty());
}

#[test]
fn nic_has_defaults_for_all_but_network_and_port() {
    let nic = with_nic("");
    assert_eq!(
        (nic.enabled, nic.mac, nic.queues, nic.network_idx),
        (true, MacPolicy::Sticky, 1, 0)
    );
    let PortKind::VhostUser {
        listens,
        group,
        mode,
        ..
    } = nic.port
    else {
        panic!("{:?}", nic.port)
    };
    assert_eq!((listens, group, mode), (Listens::Weir, None, 0o660));
}

#[test]
fn macs_may_be_learned() {
    assert_eq!(with_nic("macs: 8").mac, MacPolicy::Learn(8));
    assert_eq!(with_nic("macs: any").mac, MacPolicy::Any);
    assert!(matches!(
        with_nic("mac: 52:54:00:00:00:01").mac,
        MacPolicy::Fixed(_)
    ));
}

#[test]
fn guest_may_listen() {
    let topology = parsed(
        r"cores: [0]
networks: { blue: {} }
vms: { a: { nics: { n: { network: blue, vhost-user: { path: /s, listens: guest } } } } }
",
    );
    let PortKind::VhostUser { listens, .. } = &topology.vms[0].nics[0].port else {
        panic!("{topology:?}")
    };
    assert_eq!(*listens, Listens::Guest);
}

#[test]
fn uplink_has_defaults_for_all_but_its_device() {
    let topology = parsed(
        r"cores: [0]
uplinks: { up0: { device: eth1 }, up1: { device: eth2, queues: auto, take: false } }
",
    );
    let of = |uplink: &Uplink| (uplink.mode, uplink.queues, uplink.take);
    assert_eq!(
        topology.uplinks.iter().map(of).collect::<Vec<_>>(),
        [(XdpMode::Auto, None, false); 2]
    );
}

#[test]
fn uplink_carries_several_networks_and_knows_them() {
    let topology = parsed(
        r"cores: [0]
uplinks: { up0: { device: eth1 }, up1: { device: eth2 } }
networks: { a: { uplink: up0 }, b: { uplink: up0, vlan: 7 }, c: {}, d: { uplink: up0, vlan: 8 } }
",
    );
    let names = |uplink| {
        topology
            .networks_on(uplink)
            .map(|(_, network)| network.name.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["a", "b", "d"]);
    assert!(names(1).is_empty());
}

#[test]
fn nic_may_be_a_tap_or_a_device() {
    let topology = parsed(
        r"cores: [0]
networks: { b: {} }
vms:
  a:
    nics:
      n0: { network: b, tap: { name: tap7 }, queues: 1 }
      n1: { network: b, macs: any, queues: 2, afxdp: { device: veth0, mode: skb, ring: 512 } }
      n2: { network: b, afxdp: { device: veth1 } }
",
    );
    let ports: Vec<_> = topology.vms[0].nics.iter().map(|nic| &nic.port).collect();
    let afxdp = |device: &str, mode, ring, queues| PortKind::AfXdp {
        device: device.into(),
        mode,
        ring,
        queues,
    };
    let tap = PortKind::Tap {
        name: "tap7".into(),
    };
    assert_eq!(
        ports,
        [
            &tap,
            &afxdp("veth0", XdpMode::Skb, 512, Some(2)),
            &afxdp("veth1", XdpMode::Auto, 2048, None)
        ]
    );
    assert!(topology.vms[0].nics.iter().all(|nic| nic.queues == 1));
}

#[test]
fn same_mac_may_be_in_two_networks() {
    let topology = parsed(
        r#"cores: [0]
networks: { blue: {}, red: {} }
vms:
  a:
    nics:
      n0: { network: blue, mac: "52:54:00:00:00:01", vhost-user: { path: /s0 } }
      n1: { network: red, mac: "52:54:00:00:00:01", vhost-user: { path: /s1 } }
"#,
    );
    assert_eq!(topology.vms[0].nics.len(), 2);
}

#[test]
fn anchors_under_x_keys_are_shared_by_merges() {
    let topology = parsed(
        r"x-nic: &nic { network: blue, queues: 4 }
cores: [0]
networks: { blue: {} }
vms:
  a: { nics: { n: { <<: *nic, vhost-user: { path: /a } } } }
  b: { nics: { n: { <<: *nic, queues: 2, vhost-user: { path: /b } } } }
",
    );
    let queues: Vec<_> = topology.nics().map(|(_, nic)| nic.queues).collect();
    assert_eq!(queues, [4, 2]);
}

#[test]
fn byte_order_mark_and_windows_lines_are_no_mistake() {
    assert_eq!(
        parsed("\u{feff}cores: [0]\r\nidle: poll\r\n").idle,
        Idle::Poll
    );
}

#[test]
fn metrics_that_others_can_read_are_remarked_on() {
    let remarks = |listen: &str| {
        parsed(&format!(
            "cores: [0]\nmetrics: {{ listen: \"{listen}\" }}\n"
        ))
        .remarks()
    };
    for own in [
        "127.0.0.1:9477",
        "127.8.0.1:1",
        "[::1]:9477",
        "[::ffff:127.0.0.1]:9477",
    ] {
        assert!(remarks(own).is_empty(), "{own}");
    }
    for open in [
        "0.0.0.0:9477",
        "[::]:9477",
        "192.0.2.7:9477",
        "[fe80::1]:9477",
    ] {
        let remarks = remarks(open);
        assert!(
            remarks.len() == 1 && remarks[0].contains(&format!("listens on {open}, which other")),
            "{remarks:?}"
        );
    }
}

#[test]
fn labels_have_bounds() {
    let labels = |labels: &str| {
        let vm = format!(
            "nics: {{ n: {{ network: b, vhost-user: {{ path: /s }} }} }}, labels: {{ {labels} }}"
        );
        parse(
            &format!("cores: [0]\nnetworks: {{ b: {{}} }}\nvms: {{ a: {{ {vm} }} }}\n"),
            "weir.yaml",
        )
    };
    let n = |n| {
        (0..n)
            .map(|n| format!("l{n}: x"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let long = |name, text: usize| format!("{}: {}", "n".repeat(name), "é".repeat(text / 2));
    for sound in [String::new(), n(16), long(64, 128)] {
        assert!(labels(&sound).is_ok(), "{sound}");
    }
    for (bad, why) in [
        (n(17), "more than 16 labels of one VM"),
        (long(65, 2), "can't be the name of a label"),
        (long(1, 130), "has 130 bytes"),
    ] {
        let report = labels(&bad).unwrap_err();
        assert_eq!(report.diagnostics().len(), 1, "{report}");
        assert!(report.diagnostics()[0].message().contains(why), "{report}");
    }
}

#[test]
fn as_many_ports_are_read_as_are_said() {
    let nics = |ports: usize, n: usize| {
        let mut text =
            format!("cores: [0]\nports: {ports}\nnetworks: {{ a: {{}}, b: {{}} }}\nvms:\n");
        for n in 0..n {
            let network = ["a", "b"][n % 2];
            text.push_str(&format!(
                "  v{n}: {{ nics: {{ n: {{ network: {network}, vhost-user: {{ path: /{n} }} }} \
                }} }}\n"
            ));
        }
        parse(&text, "weir.yaml")
    };
    assert_eq!(nics(1500, 1500).unwrap().nics().count(), 1500);
    let report = nics(1500, 1502).unwrap_err();
    assert_eq!(report.diagnostics().len(), 1, "said once: {report}");
}

#[test]
fn four_thousand_nics_are_read() {
    let mut text = r"x-nic: &nic { queues: 2, macs: any }
cores: [0]
networks: { a: {}, b: {}, c: {}, d: {} }
vms:
"
    .to_owned();
    for n in 0..4096 {
        let network = ["a", "b", "c", "d"][n % 4];
        text.push_str(&format!(
            r#"  vm{n}:
    nics:
      net0: {{ <<: *nic, network: {network}, vhost-user: {{ path: /run/{n}.sock, mode: "0600" }} }}
"#
        ));
    }
    assert_eq!(parsed(&text).nics().count(), 4096);
    // One more of each network, and one more in all.
    text.push_str(
        "  more: { nics: { n: { network: a, vhost-user: { path: /run/more.sock } } } }\n",
    );
    let report = parse(&text, "weir.yaml").unwrap_err();
    let messages: Vec<_> = report
        .diagnostics()
        .iter()
        .map(|d| (d.line(), d.message()))
        .collect();
    let line = text.lines().count();
    assert_eq!(
        messages,
        [
            (
                line,
                "more than 4096 NICs and uplinks, for which `ports` has room"
            ),
            (line, "more than 1024 NICs in one network")
        ]
    );
}
