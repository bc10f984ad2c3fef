//! Files with several mistakes, reports as a person reads them, and what has no end.

use crate::{assert_found, report};

/// Two VMs that were made by copying, with something left unchanged in each line.
#[test]
fn what_must_be_unique_is_claimed_once() {
    let text = "\
cores: [0]
control: { path: /tmp/w/control.sock }
networks: { blue: {} }
vms:
  a:
    nics:
      n0: { network: blue, mac: \"52:54:00:00:00:01\", vhost-user: { path: /tmp/w/a.sock } }
      n0: { network: blue, mac: \"52:54:00:00:00:02\", vhost-user: { path: /tmp/w//control.sock } }
  b:
    nics:
      n0: { network: blue, mac: \"52:54:00:00:00:01\", vhost-user: { path: /tmp/w/./a.sock } }
  a:
    nics:
      n1: { network: blue, vhost-user: { path: /tmp/w/n1.sock } }
";
    assert_found(
        text,
        &[
            (8, 7, "`n0` is here twice; the first is on line 7", "rename"),
            (
                8,
                74,
                "path already used by the control socket, on line 2",
                "of its own",
            ),
            (
                11,
                33,
                "address `52:54:00:00:00:01` already used by `a/n0` in the same network, on line 7",
                "of its own",
            ),
            (
                11,
                74,
                "path already used by `a/n0`, on line 7",
                "of its own",
            ),
            (12, 3, "`a` is here twice; the first is on line 5", "rename"),
        ],
    );
}

/// One file, a mistake of every kind: none hides another.
#[test]
fn all_mistakes_come_at_once() {
    let text = "\
cores: [2, two]
idle: alway
flows: 1M
control: { path: weir.sock, mode: 660 }
networks:
  blue: { vlan: 5000, mtu: \"1500\" }
  red: { colour: red }
vms:
  web:
    limit: { from-vm: { rate: 1gbps } }
    nics:
      net0:
        network: blu
        mac: \"53:54:00:00:00:01\"
        queues: 32
        vhost-user: { path: /run/weir/web.sock, listen: weir }
      net1: { netwrok: red, tap: { name: tap7 } }
  db: {}
";
    assert_found(
        text,
        &[
            (1, 12, "not a CPU number", ""),
            (2, 7, "`idle` can't be `alway`", ""),
            (3, 8, "`flows` is a whole number, not `1M`", ""),
            (4, 18, "not absolute", ""),
            (4, 35, "octal", ""),
            (6, 17, "`vlan` is out of range", ""),
            (6, 28, "`mtu` is a number, not text", ""),
            (7, 10, "unknown key `colour`", ""),
            (10, 31, "`gbps` is ambiguous", "`1gbit`"),
            (13, 18, "no network `blu`", "`blue`"),
            (14, 14, "group address", "52:54:00:00:00:01"),
            (15, 17, "`queues` is out of range", ""),
            (16, 49, "unknown key `listen`", "`listens`"),
            (17, 7, "`web/net1` has no `network`", ""),
            (17, 15, "unknown key `netwrok`", "`network`"),
            (18, 3, "VM `db` has no `nics`", ""),
        ],
    );
    assert!(report(text).to_string().ends_with("\n\n16 errors"));
}

#[test]
fn report_reads_like_a_compilers() {
    let expected = "\
error: unknown key `idel` in a topology
 --> weir.yaml:2:1
  |
2 | idel: poll
  | ^^^^
  = help: did you mean `idle`?

error: there is no network `bleu`
 --> weir.yaml:4:35
  |
4 | vms: { a: { nics: { n: { network: bleu, vhost-user: { path: /s } } } } }
  |                                   ^^^^
  = help: did you mean `blue`?

2 errors";
    let text = "cores: [0]\nidel: poll\nnetworks: { blue: {} }\n\
                vms: { a: { nics: { n: { network: bleu, vhost-user: { path: /s } } } } }\n";
    assert_eq!(report(text).to_string(), expected);
}

#[test]
fn mistake_in_a_merged_value_names_both_places() {
    let text = "cores: [0]\nx-n: &n\n  queues: 99\nnetworks: { b: {} }\n\
                vms: { a: { nics: { n: { <<: *n, network: b, vhost-user: { path: /s } } } } }\n";
    assert_found(
        text,
        &[(
            5,
            30,
            "`queues` is out of range: 99 (written on line 3)",
            "1 to 16",
        )],
    );
}

/// The help for line 3 repeats a name of line 2, which no terminal should get as it is.
#[test]
fn name_that_is_offered_is_printable() {
    let text = "cores: [0]\nnetworks: { \"\\x1b[2Jblu\": {} }\n\
                vms: { a: { nics: { n: { network: \"x[2Jblu\", vhost-user: { path: /s } } } } }\n";
    assert_found(
        text,
        &[
            (
                2,
                13,
                "`\u{fffd}[2Jblu` can't be the name of a network",
                "letters",
            ),
            (
                3,
                35,
                "no network `x[2Jblu`",
                "did you mean `\u{fffd}[2Jblu`?",
            ),
        ],
    );
}

#[test]
fn aliases_that_multiply_are_cut_off() {
    let mut text = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("x-{n}: &a{n} [{aliases}]\n"));
    }
    text.push_str("cores: [0]\n");
    let report = report(&text);
    assert_eq!(report.diagnostics().len(), 1);
    assert!(
        report.diagnostics()[0]
            .message()
            .contains("grows too large"),
        "{report}"
    );
}

#[test]
fn deep_nesting_is_cut_off() {
    for text in [
        format!("x-a: {}", "[".repeat(100_000)),
        format!("cores: {}", "{a: ".repeat(10_000)),
        "- ".repeat(50_000),
    ] {
        assert_eq!(report(&text).diagnostics().len(), 1);
    }
}

#[test]
fn report_of_ten_thousand_mistakes_is_bounded() {
    let mut text = "cores: [0]\nnetworks: {".to_owned();
    for n in 0..10_000 {
        text.push_str(&format!(" n{n}: {{ mtu: 1 }},"));
    }
    text.push_str(" }\n");
    let report = report(&text).to_string();
    assert!(report.ends_with("1000 errors, and perhaps more"));
    assert!(report.len() < 1_000_000, "{}", report.len());
}
