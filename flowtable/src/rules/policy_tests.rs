use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::wire::tuple::{SCTP, TCP, UDP};
use Direction::{FromVm, ToVm};
use Verdict::{Allow, Deny};

fn rule(direction: Direction, verdict: Verdict) -> Rule {
    Rule {
        direction,
        verdict,
        proto: Proto::Ip,
        cidr: None,
        numbers: Vec::new(),
    }
}

fn tcp(port: u16) -> Tuple {
    Tuple {
        src: [0, 0x0a00_0001],
        dst: [0, 0x0a00_0002],
        number: port,
        proto: TCP,
        kind: Kind::V4,
        ..Tuple::default()
    }
}

fn deny_tcp_25() -> Policy {
    Policy::new(&[Rule {
        proto: Proto::Number(TCP),
        numbers: vec![(25, 25)],
        ..rule(ToVm, Deny)
    }])
}

#[test]
fn what_no_rule_fits_passes() {
    for policy in [Policy::default(), deny_tcp_25()] {
        assert_eq!(policy.decide(ToVm, &tcp(80)), Allow);
        assert_eq!(
            policy.decide(FromVm, &tcp(25)),
            Allow,
            "the rule is about the other direction"
        );
        assert_eq!(policy.fields(FromVm), KeyFields::NONE);
    }
    assert_eq!(deny_tcp_25().decide(ToVm, &tcp(25)), Deny);
    assert_eq!(deny_tcp_25().fields(ToVm), KeyFields::NUMBER);
    assert_eq!(
        deny_tcp_25().decide(
            ToVm,
            &Tuple {
                proto: UDP,
                ..tcp(25)
            }
        ),
        Allow
    );
}

#[test]
fn first_rule_that_fits_decides() {
    let allow = Rule {
        numbers: vec![(20, 25), (80, 90)],
        proto: Proto::Number(TCP),
        ..rule(ToVm, Allow)
    };
    let both = Policy::new(&[allow.clone(), rule(ToVm, Deny)]);
    assert_eq!(
        [20, 25, 26, 79, 80, 90, 91].map(|port| both.decide(ToVm, &tcp(port))),
        [Allow, Allow, Deny, Deny, Allow, Allow, Deny]
    );
    let other_way = Policy::new(&[rule(ToVm, Deny), allow]);
    assert_eq!(other_way.decide(ToVm, &tcp(80)), Deny);
    assert_eq!(
        other_way.fields(ToVm),
        KeyFields::KIND,
        "the last rule allows what nothing would deny"
    );
}

#[test]
fn address_is_that_of_the_other_side() {
    let cidr = Some(Cidr {
        addr: Ipv4Addr::new(10, 0, 0, 2).into(),
        len: 32,
    });
    let policy = Policy::new(&[
        Rule {
            cidr,
            ..rule(FromVm, Deny)
        },
        Rule {
            cidr,
            ..rule(ToVm, Deny)
        },
    ]);
    assert_eq!(policy.decide(FromVm, &tcp(1)), Deny, "it goes to 10.0.0.2");
    assert_eq!(
        policy.decide(ToVm, &tcp(1)),
        Allow,
        "it comes from 10.0.0.1"
    );
    assert_eq!(
        (policy.fields(FromVm), policy.fields(ToVm)),
        (KeyFields::DST, KeyFields::SRC)
    );
}

#[test]
fn later_fragment_has_no_port_to_be_judged_by() {
    let later = Tuple {
        number: 0,
        reach: Reach::LaterFragment,
        ..tcp(0)
    };
    assert_eq!(deny_tcp_25().decide(ToVm, &later), Allow);
    let ports = Rule {
        proto: Proto::Number(TCP),
        numbers: vec![(0, 65535)],
        ..rule(ToVm, Allow)
    };
    assert_eq!(
        Policy::new(&[ports, rule(ToVm, Deny)]).decide(ToVm, &later),
        Deny
    );
    let proto = Rule {
        proto: Proto::Number(TCP),
        ..rule(ToVm, Deny)
    };
    assert_eq!(
        Policy::new(&[proto]).decide(ToVm, &later),
        Deny,
        "but a protocol"
    );
}

#[test]
fn what_cannot_be_read_is_denied_by_the_first_rule_that_would_have_to() {
    let cut = Tuple {
        number: 0,
        reach: Reach::Cut,
        ..tcp(0)
    };
    let addresses = Tuple {
        proto: 0,
        reach: Reach::Addresses,
        ..cut
    };
    let broken = Tuple {
        kind: Kind::V4,
        reach: Reach::Broken,
        ..Tuple::default()
    };
    for (tuple, proto) in [(cut, TCP), (addresses, UDP), (broken, UDP)] {
        for verdict in [Allow, Deny] {
            let asks = Rule {
                proto: Proto::Number(proto),
                numbers: vec![(80, 80)],
                ..rule(ToVm, verdict)
            };
            let last = Rule {
                proto: Proto::Arp,
                ..rule(ToVm, Deny)
            };
            assert_eq!(
                Policy::new(&[asks.clone(), last.clone()]).decide(ToVm, &tuple),
                Deny,
                "{tuple:?}"
            );
            assert_eq!(
                Policy::new(&[rule(ToVm, Allow), asks, last]).decide(ToVm, &tuple),
                Allow,
                "decided before"
            );
        }
    }
    let elsewhere = Some(Cidr {
        addr: Ipv4Addr::new(192, 0, 2, 0).into(),
        len: 24,
    });
    let asks = Rule {
        proto: Proto::Number(TCP),
        cidr: elsewhere,
        numbers: vec![(25, 25)],
        ..rule(ToVm, Deny)
    };
    let policy = Policy::new(&[asks]);
    assert_eq!(
        [cut, addresses, broken].map(|t| policy.decide(ToVm, &t)),
        [Allow, Allow, Deny],
        "another address"
    );
    assert_eq!(
        deny_tcp_25().decide(ToVm, &Tuple { proto: UDP, ..cut }),
        Allow,
        "another protocol"
    );
}

#[test]
fn what_is_not_ip_passes_unless_it_is_named() {
    let arp = Tuple {
        kind: Kind::Arp,
        ..Tuple::default()
    };
    let others = [Tuple::default(), arp];
    let decides = |proto| {
        others.map(|t| {
            Policy::new(&[Rule {
                proto,
                ..rule(ToVm, Deny)
            }])
            .decide(ToVm, &t)
        })
    };
    assert_eq!(decides(Proto::Ip), [Allow, Allow]);
    assert_eq!(decides(Proto::Arp), [Allow, Deny]);
    assert_eq!(decides(Proto::NonIp), [Deny, Deny]);
    let tags = Tuple {
        reach: Reach::Broken,
        ..Tuple::default()
    };
    assert_eq!(
        deny_tcp_25().decide(ToVm, &tags),
        Deny,
        "behind so many tags anything may be"
    );
}

#[test]
fn prefix_of_any_length_holds_what_begins_like_it() {
    let addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);
    for len in 0..=128u8 {
        let net = Net::new(Cidr {
            addr: addr.into(),
            len,
        });
        for changed in 0..128 {
            let other = addr.to_bits() ^ 1 << changed;
            assert_eq!(
                net.holds(words(other)),
                128 - changed > u32::from(len),
                "/{len}, bit {changed}"
            );
        }
    }
    let net = Net::new(Cidr {
        addr: Ipv4Addr::new(10, 0, 0, 0).into(),
        len: 0,
    });
    assert!(net.holds([0, 0]) && net.holds([0, 0xffff_ffff]));
}

/// The rules as people read them, by addresses as they are written, condition by condition. None:
/// it can't be told.
fn naive(rules: &[Rule], direction: Direction, t: &Tuple) -> Verdict {
    let rules: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.direction == direction)
        .collect();
    for (k, rule) in rules.iter().enumerate() {
        if rules[k..].iter().all(|rule| rule.verdict == Allow) {
            return Allow;
        }
        // Behind too many tags nothing is known, not even that a rule is about something else.
        let conditions = [
            is_proto(rule, t),
            is_addr(rule, direction, t),
            is_number(rule, t),
        ];
        if conditions.contains(&Some(false)) {
            continue;
        }
        return if conditions.contains(&None) {
            Deny
        } else {
            rule.verdict
        };
    }
    Allow
}

fn is_proto(rule: &Rule, t: &Tuple) -> Option<bool> {
    if t.kind == Kind::Other && t.reach == Reach::Broken {
        return None;
    }
    let is_ip = matches!(t.kind, Kind::V4 | Kind::V6);
    let number = |number| match t.reach {
        Reach::Broken | Reach::Addresses => None,
        _ => Some(t.proto == number),
    };
    match rule.proto {
        Proto::Ip => Some(is_ip),
        Proto::Arp => Some(t.kind == Kind::Arp),
        Proto::NonIp => Some(!is_ip),
        Proto::Icmp if t.kind == Kind::V4 => number(1),
        Proto::Icmp6 if t.kind == Kind::V6 => number(58),
        Proto::Number(n) if is_ip => number(n),
        _ => Some(false),
    }
}

fn is_addr(rule: &Rule, direction: Direction, t: &Tuple) -> Option<bool> {
    let Some(cidr) = rule.cidr else {
        return Some(true);
    };
    if t.kind == Kind::Other && t.reach == Reach::Broken {
        return None;
    }
    if t.kind
        != if cidr.addr.is_ipv4() {
            Kind::V4
        } else {
            Kind::V6
        }
    {
        return Some(false);
    }
    if t.reach == Reach::Broken {
        return None;
    }
    let [high, low] = if direction == FromVm { t.dst } else { t.src };
    let bits = |text: String| text.chars().take(usize::from(cidr.len)).collect::<String>();
    Some(match cidr.addr {
        IpAddr::V4(addr) => bits(format!("{:032b}", addr.to_bits())) == bits(format!("{low:032b}")),
        IpAddr::V6(addr) => {
            bits(format!("{:0128b}", addr.to_bits())) == bits(format!("{high:064b}{low:064b}"))
        }
    })
}

fn is_number(rule: &Rule, t: &Tuple) -> Option<bool> {
    match t.reach {
        _ if rule.numbers.is_empty() => Some(true),
        Reach::Whole => Some(
            rule.numbers
                .iter()
                .any(|(first, last)| *first <= t.number && t.number <= *last),
        ),
        Reach::LaterFragment => Some(false),
        _ => None,
    }
}

/// Few values, so that rules and frames meet.
fn any_rule() -> impl Strategy<Value = Rule> {
    let cidr = prop_oneof![
        (0u32..4, 28u8..=32).prop_map(|(n, len)| Cidr {
            addr: Ipv4Addr::from_bits(0x0a00_0000 + n * 5).into(),
            len
        }),
        (0u128..4, 124u8..=128).prop_map(|(n, len)| Cidr {
            addr: Ipv6Addr::from_bits(n * 5).into(),
            len
        }),
    ];
    let numbers = proptest::collection::vec(
        (0u16..4, 0u16..3).prop_map(|(first, n)| (first, first + n)),
        0..3,
    );
    let of_numbers = prop_oneof![
        Just(Proto::Number(TCP)),
        Just(Proto::Number(UDP)),
        Just(Proto::Icmp),
        Just(Proto::Icmp6)
    ];
    let proto = prop_oneof![
        (of_numbers, numbers),
        (
            prop_oneof![Just(Proto::Ip), Just(Proto::Number(SCTP))],
            Just(Vec::new())
        ),
        (
            prop_oneof![Just(Proto::Arp), Just(Proto::NonIp)],
            Just(Vec::new())
        ),
    ];
    (
        any::<bool>(),
        any::<bool>(),
        proto,
        proptest::option::of(cidr),
    )
        .prop_map(|(from, allow, (proto, numbers), cidr)| {
            let cidr = cidr.filter(|_| !matches!(proto, Proto::Arp | Proto::NonIp));
            let (direction, verdict) = (
                if from { FromVm } else { ToVm },
                if allow { Allow } else { Deny },
            );
            Rule {
                direction,
                verdict,
                proto,
                cidr,
                numbers,
            }
        })
}

/// Tuples as the parser makes them: what can't be read is zero.
fn any_tuple() -> impl Strategy<Value = Tuple> {
    let kind = prop_oneof![
        1 => Just(Kind::Other),
        1 => Just(Kind::Arp),
        3 => Just(Kind::V4),
        3 => Just(Kind::V6),
    ];
    let reach = prop_oneof![
        4 => Just(Reach::Whole),
        1 => Just(Reach::LaterFragment),
        1 => Just(Reach::Cut),
        1 => Just(Reach::Addresses),
        1 => Just(Reach::Broken),
    ];
    let proto = prop_oneof![Just(TCP), Just(UDP), Just(SCTP), Just(ICMP), Just(ICMP6)];
    (kind, reach, proto, 0u64..20, 0u64..20, 0u16..7).prop_map(
        |(kind, reach, proto, src, dst, number)| {
            let base = if kind == Kind::V4 { 0x0a00_0000 } else { 0 };
            let (src, dst) = ([0, base + src], [0, base + dst]);
            match (kind, reach) {
                (Kind::Other, Reach::Broken) | (Kind::V4 | Kind::V6, Reach::Broken) => Tuple {
                    kind,
                    reach,
                    ..Tuple::default()
                },
                (Kind::Other | Kind::Arp, _) => Tuple {
                    kind,
                    ..Tuple::default()
                },
                (_, Reach::Addresses) => Tuple {
                    src,
                    dst,
                    kind,
                    reach,
                    ..Tuple::default()
                },
                (_, Reach::LaterFragment | Reach::Cut) => Tuple {
                    src,
                    dst,
                    proto,
                    kind,
                    reach,
                    number: 0,
                },
                _ => Tuple {
                    src,
                    dst,
                    proto,
                    kind,
                    reach,
                    number,
                },
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "thousands of cases, and files of its own")]
    fn policy_says_what_its_rules_say(
        rules in proptest::collection::vec(any_rule(), 0..6),
        tuple in any_tuple(),
    ) {
        let policy = Policy::new(&rules);
        for direction in [FromVm, ToVm] {
            prop_assert_eq!(policy.decide(direction, &tuple), naive(&rules, direction, &tuple));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of cases, and files of its own")]
    fn fields_are_all_that_a_decision_depends_upon(
        rules in proptest::collection::vec(any_rule(), 0..6), tuple in any_tuple(),
    ) {
        let policy = Policy::new(&rules);
        for direction in [FromVm, ToVm] {
            let cut = tuple.cut(policy.fields(direction));
            prop_assert_eq!(policy.decide(direction, &cut), policy.decide(direction, &tuple));
        }
        // A key holds what both directions ask for.
        let cut = tuple.cut(policy.fields(FromVm) | policy.fields(ToVm));
        prop_assert_eq!(policy.decide(FromVm, &cut), policy.decide(FromVm, &tuple));
        prop_assert_eq!(policy.decide(ToVm, &cut), policy.decide(ToVm, &tuple));
    }
}
