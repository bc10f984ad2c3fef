//! `rules` of a NIC: what they come to, and every way to get them wrong.

use config::{Topology, parse};
use flowtable::rules::rule::{Cidr, Direction, Proto, Rule, Verdict};

/// A file whose only NIC has these rules: the first on line 8 from column 18 on, then a line each
/// from column 11 on.
fn text(rules: &[&str]) -> String {
    format!(
        r"cores: [0]
networks: {{ blue: {{}} }}
vms:
  a:
    nics:
      n:
        {{ network: blue, vhost-user: {{ path: /s }},
        rules: [ {} ] }}
",
        rules.join(",\n          ")
    )
}

fn topology(rules: &[&str]) -> Topology {
    parse(&text(rules), "weir.yaml").unwrap_or_else(|report| panic!("{report}"))
}

fn rules(lines: &[&str]) -> Vec<Rule> {
    topology(lines).vms.remove(0).nics.remove(0).rules
}

/// As they are shown, which is short.
fn shown(lines: &[&str]) -> Vec<String> {
    rules(lines).iter().map(ToString::to_string).collect()
}

#[test]
fn rules_keep_their_order() {
    let deny = Rule {
        verdict: Verdict::Deny,
        direction: Direction::ToVm,
        proto: Proto::Number(6),
        cidr: None,
        numbers: vec![(25, 25)],
    };
    let cidr = Some(Cidr {
        addr: [10, 0, 0, 0].into(),
        len: 8,
    });
    let allow = Rule {
        verdict: Verdict::Allow,
        direction: Direction::FromVm,
        proto: Proto::Ip,
        cidr,
        numbers: vec![],
    };
    let lines = [
        "{ deny: { to-vm: { proto: tcp, port: 25 } } }",
        "{ allow: { from-vm: { cidr: 10.0.0.0/8 } } }",
    ];
    assert_eq!(rules(&lines), [deny.clone(), allow.clone()]);
    assert_eq!(rules(&[lines[1], lines[0]]), [allow, deny]);
    assert_eq!(rules(&[]), []);
}

#[test]
fn every_form_is_understood() {
    for (line, expected) in [
        ("deny: { to-vm: }", "deny to-vm: all IP"),
        ("deny: { to-vm: {} }", "deny to-vm: all IP"),
        ("deny: { to-vm: { proto: arp } }", "deny to-vm: proto arp"),
        (
            "deny: { to-vm: { proto: non-ip } }",
            "deny to-vm: proto non-ip",
        ),
        ("deny: { to-vm: { proto: 47 } }", "deny to-vm: proto 47"),
        (
            "deny: { to-vm: { proto: 6, port: 0 } }",
            "deny to-vm: proto tcp, port 0",
        ),
        (
            "deny: { to-vm: { proto: 58, icmp-type: 128 } }",
            "deny to-vm: proto icmp6, icmp-type 128",
        ),
        (
            "deny: { to-vm: { proto: icmp, icmp-type: [8, 0, 11-13] } }",
            "deny to-vm: proto icmp, icmp-type 0 8 11-13",
        ),
        (
            "deny: { to-vm: { proto: udp, port: 8000-8100 } }",
            "deny to-vm: proto udp, port 8000-8100",
        ),
        (
            "deny: { to-vm: { proto: udp, port: \"8000-8100\" } }",
            "deny to-vm: proto udp, port 8000-8100",
        ),
        (
            "deny: { to-vm: { proto: sctp, port: [ 9, 1-3, 65535, 4-7 ] } }",
            "deny to-vm: proto sctp, port 1-7 9 65535",
        ),
        (
            "deny: { to-vm: { cidr: 192.0.2.7 } }",
            "deny to-vm: cidr 192.0.2.7/32",
        ),
        (
            "deny: { to-vm: { cidr: 0.0.0.0/0 } }",
            "deny to-vm: cidr 0.0.0.0/0",
        ),
        (
            "deny: { to-vm: { cidr: \"2001:db8::/32\" } }",
            "deny to-vm: cidr 2001:db8::/32",
        ),
        (
            "deny: { to-vm: { cidr: fd00::/8, proto: icmp6 } }",
            "deny to-vm: proto icmp6, cidr fd00::/8",
        ),
    ] {
        assert_eq!(shown(&[&format!("{{ {line} }}")]), [expected], "{line}");
    }
    let both = "{ deny: { to-vm: { proto: arp }, from-vm: { cidr: 10.0.0.1 } } }";
    assert_eq!(
        shown(&[both]),
        ["deny from-vm: cidr 10.0.0.1/32", "deny to-vm: proto arp"]
    );
}

#[test]
fn example_of_the_documentation_is_understood() {
    let text = include_str!("../../docs/rules.md");
    let example = text
        .split("```")
        .nth(1)
        .and_then(|block| block.strip_prefix("yaml"))
        .expect("an example");
    let text = format!("cores: [0]\nnetworks: {{ blue: {{}} }}\n{example}");
    let topology = parse(&text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(topology.vms[0].nics[0].rules.len(), 6);
    assert!(topology.remarks().is_empty());
}

#[test]
fn rules_may_be_shared_by_an_anchor() {
    let text = r"x-rules: &r [ { deny: { to-vm: { proto: tcp } } } ]
cores: [0]
networks: { b: {} }
vms:
  a: { nics: { n: { network: b, vhost-user: { path: /a }, rules: *r } } }
  c: { nics: { n: { network: b, vhost-user: { path: /c }, rules: *r } } }
";
    let topology = parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
    assert!(topology.nics().all(|(_, nic)| nic.rules.len() == 1));
}

#[test]
fn rule_that_only_allows_what_passes_anyway_is_remarked_on() {
    let topology = topology(&[
        "{ allow: { from-vm: { cidr: 10.0.0.0/8 } } }",
        "{ deny: { from-vm: { proto: tcp } } }",
        "{ allow: { to-vm: { proto: udp } } }",
        "{ allow: { from-vm: { proto: udp } } }",
    ]);
    let remarks = topology.remarks();
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(
        remarks[0].contains("`allow to-vm: proto udp` of a/n has no effect"),
        "{remarks:?}"
    );
    assert!(
        remarks[1].contains("`allow from-vm: proto udp` of a/n"),
        "{remarks:?}"
    );
}

/// One mistake: line (the first rule is on line 8), column, part of the message, part of the help.
type Expected = (usize, usize, &'static str, &'static str);

const CASES: &[(&[&str], &[Expected])] = &[
    (
        &["{}"],
        &[(
            8,
            18,
            "a rule that neither allows nor denies",
            "`deny: { to-vm: { proto: tcp, port: 25 } }`",
        )],
    ),
    (
        &["{ deny: { to-vm: {} }, allow: { to-vm: {} } }"],
        &[(8, 18, "a rule that allows and denies", "two rules")],
    ),
    (
        &["{ deny: {} }"],
        &[(8, 26, "a rule without a direction", "`from-vm` or `to-vm`")],
    ),
    (
        &["{ deny: to-vm }"],
        &[(
            8,
            26,
            "a rule's direction is a mapping",
            "`from-vm`, `to-vm`",
        )],
    ),
    (
        &["{ drop: { to-vm: {} } }"],
        &[
            (8, 18, "a rule that neither allows nor denies", ""),
            (8, 20, "unknown key `drop` in a rule", "`allow`, `deny`"),
        ],
    ),
    (
        &["{ deny: { to_vm: {} } }"],
        &[
            (8, 26, "a rule without a direction", ""),
            (
                8,
                28,
                "unknown key `to_vm` in a rule's direction",
                "did you mean `to-vm`?",
            ),
        ],
    ),
    (
        &["{ deny: { to-vm: { ports: 25, proto: tcp } } }"],
        &[(
            8,
            37,
            "unknown key `ports` in a match",
            "did you mean `port`?",
        )],
    ),
    // Protocols.
    (
        &["{ deny: { to-vm: { proto: tpc } } }"],
        &[(8, 44, "there is no protocol `tpc`", "did you mean `tcp`?")],
    ),
    (
        &["{ deny: { to-vm: { proto: icmpv6 } } }"],
        &[(8, 44, "there is no protocol `icmpv6`", "`icmp6`?")],
    ),
    (
        &["{ deny: { to-vm: { proto: wireguard } } }"],
        &[(8, 44, "no protocol `wireguard`", "tcp, udp, sctp, icmp,")],
    ),
    (
        &["{ deny: { to-vm: { proto: any } } }"],
        &[(8, 44, "no protocol `any`", "leave `proto` out")],
    ),
    (
        &["{ deny: { to-vm: { proto: 256 } } }"],
        &[(8, 44, "`proto` is out of range: 256", "0 to 255")],
    ),
    // Addresses.
    (
        &["{ deny: { to-vm: { cidr: 10.0.0.0/33 } } }"],
        &[(8, 43, "invalid prefix length", "0 to 32")],
    ),
    (
        &["{ deny: { to-vm: { cidr: 10.0.0.0/ } } }"],
        &[(8, 43, "invalid prefix length", "10.0.0.0/32")],
    ),
    (
        &["{ deny: { to-vm: { cidr: \"::1/129\" } } }"],
        &[(8, 43, "invalid prefix length", "0 to 128")],
    ),
    (
        &["{ deny: { to-vm: { cidr: 10.0.0/8 } } }"],
        &[(8, 43, "`10.0.0/8` is not an address", "10.0.0.0/8")],
    ),
    (
        &["{ deny: { to-vm: { cidr: 10.1.2.3/8 } } }"],
        &[(
            8,
            43,
            "`10.1.2.3/8` has bits set beyond the first 8",
            "write 10.0.0.0/8 for all of these, or 10.1.2.3 for this one",
        )],
    ),
    (
        &["{ deny: { to-vm: { cidr: \"2001:db8::1/32\" } } }"],
        &[(8, 43, "bits set beyond the first 32", "2001:db8::/32")],
    ),
    (
        &["{ deny: { to-vm: { cidr: fd00::/8, proto: icmp } } }"],
        &[(
            8,
            43,
            "IPv6 addresses beside ICMP of IPv4",
            "did you mean `proto: icmp6`?",
        )],
    ),
    (
        &["{ deny: { to-vm: { cidr: 10.0.0.0/8, proto: icmp6 } } }"],
        &[(
            8,
            43,
            "IPv4 addresses beside ICMP of IPv6",
            "did you mean `proto: icmp`?",
        )],
    ),
    (
        &["{ deny: { to-vm: { cidr: 10.0.0.0/8, proto: arp } } }"],
        &[(8, 43, "without IP addresses", "remove `cidr`")],
    ),
    // Ports and types.
    (
        &["{ deny: { to-vm: { port: 25 } } }"],
        &[(
            8,
            43,
            "`port` without a protocol that has ports",
            "`proto: tcp`",
        )],
    ),
    (
        &["{ deny: { to-vm: { port: 25, proto: icmp } } }"],
        &[(8, 43, "`port` without a protocol", "`udp` or `sctp`")],
    ),
    (
        &["{ deny: { to-vm: { icmp-type: 8 } } }"],
        &[(8, 48, "`icmp-type` without ICMP", "`proto: icmp` (IPv4)")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, icmp-type: 8 } } }"],
        &[(8, 60, "`icmp-type` without ICMP", "")],
    ),
    (
        &["{ deny: { to-vm: { proto: icmp, icmp-type: 256 } } }"],
        &[(8, 61, "can't be `256`", "numbers up to 255")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: 8100-8000 } } }"],
        &[(8, 55, "`port` runs backwards: 8100-8000", "write 8000-8100")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: ssh } } }"],
        &[(8, 55, "`port` can't be `ssh`", "numbers up to 65535")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: 65536 } } }"],
        &[(8, 55, "`port` can't be `65536`", "")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: -1 } } }"],
        &[(8, 55, "`port` can't be `-1`", "")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: 1-2-3 } } }"],
        &[(8, 55, "`port` can't be `1-2-3`", "")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: 080 } } }"],
        &[(8, 55, "`port` can't be `080`", "")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: [] } } }"],
        &[(8, 55, "`port` is an empty list", "leave `port` out")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: } } }"],
        &[(8, 53, "`port` has no value", "")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: [25, 20-30] } } }"],
        &[(8, 56, "`port` 25 is in the list twice", "")],
    ),
    (
        &["{ deny: { to-vm: { proto: tcp, port: { a: 1 } } } }"],
        &[(8, 55, "`port` is a single value, not a mapping", "")],
    ),
    // Rules that are never reached.
    (
        &[
            "{ deny: { to-vm: {} } }",
            "{ allow: { to-vm: { proto: tcp, port: 22 } } }",
        ],
        &[(
            9,
            11,
            "this rule is never reached: the one on line 8 denies all that it matches (`deny \
            to-vm: all IP`)",
            "move it above that one if it is an exception",
        )],
    ),
    (
        &[
            "{ allow: { from-vm: { cidr: 10.0.0.0/8 } } }",
            "{ deny: { from-vm: { proto: tcp, port: 20-30 } } }",
            "{ deny: { to-vm: { proto: tcp, port: 25 } } }",
            "{ deny: { from-vm: { proto: tcp, port: [22, 25] } } }",
            "{ deny: { from-vm: { cidr: 10.1.0.0/16, proto: udp } } }",
        ],
        &[
            (
                11,
                11,
                "the one on line 9 denies all that it matches (`deny from-vm: proto tcp, port \
                20-30`)",
                "remove it",
            ),
            (
                12,
                11,
                "the one on line 8 allows all that it matches",
                "move it above",
            ),
        ],
    ),
];

#[test]
fn every_mistake_is_found_in_its_place() {
    let mut differences = Vec::new();
    for (rules, expected) in CASES {
        let report = parse(&text(rules), "weir.yaml").expect_err(rules[0]);
        let found = report.diagnostics();
        let fits = |(found, expected): (&config::Diagnostic, &Expected)| {
            (found.line(), found.column()) == (expected.0, expected.1)
                && found.message().contains(expected.2)
                && found.help().contains(expected.3)
        };
        if found.len() != expected.len() || !found.iter().zip(*expected).all(fits) {
            differences.push(format!("expected {expected:?}\nfound\n{report}\n"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn rules_of_one_nic_are_bounded() {
    let line = |n: usize| format!("{{ deny: {{ to-vm: {{ proto: tcp, port: {n} }} }} }}");
    let lines: Vec<String> = (0..257).map(line).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(rules(&lines[..256]).len(), 256);
    let report = parse(&text(&lines), "weir.yaml").unwrap_err();
    assert_eq!(report.diagnostics()[0].message(), "more than 256 rules");
    assert_eq!(report.diagnostics()[0].line(), 8 + 256);
    let ports: Vec<String> = (0..65).map(|n| (n * 2).to_string()).collect();
    let line = format!(
        "{{ deny: {{ to-vm: {{ proto: tcp, port: [{}] }} }} }}",
        ports.join(", ")
    );
    let report = parse(&text(&[&line]), "weir.yaml").unwrap_err();
    assert_eq!(
        report.diagnostics()[0].message(),
        "more than 64 values in one `port`"
    );
}
