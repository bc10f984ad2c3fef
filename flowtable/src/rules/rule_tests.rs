use proptest::prelude::*;

use super::*;
use Direction::{FromVm, ToVm};
use Verdict::{Allow, Deny};

/// A frame as rules see it, of a few addresses and numbers.
#[derive(Clone, Copy, Debug)]
struct Frame {
    direction: Direction,
    /// None: not IP, and whether it is ARP.
    addr: Result<IpAddr, bool>,
    proto: u8,
    /// None: a later fragment.
    number: Option<u16>,
}

const N_ADDRS: u8 = 8;
const PROTOS_SEEN: [u8; 4] = [ICMP, TCP, UDP, ICMP6];
const NUMBERS: u16 = 5;

/// All combinations.
fn world() -> Vec<Frame> {
    // One address of each family is far from the others.
    let v4 = (0..N_ADDRS)
        .map(|n| IpAddr::from(Ipv4Addr::new(10, 0, 0, n)))
        .chain(["192.0.2.1".parse().unwrap()]);
    let v6 = (0..N_ADDRS)
        .map(|n| IpAddr::from(Ipv6Addr::from_bits(u128::from(n))))
        .chain(["fe80::".parse().unwrap()]);
    let mut frames = Vec::new();
    for direction in [FromVm, ToVm] {
        for is_arp in [false, true] {
            frames.push(Frame {
                direction,
                addr: Err(is_arp),
                proto: 0,
                number: None,
            });
        }
        for addr in v4.clone().chain(v6.clone()) {
            for proto in PROTOS_SEEN {
                let numbers = (0..NUMBERS).map(Some).chain([None]);
                frames.extend(numbers.map(|number| Frame {
                    direction,
                    addr: Ok(addr),
                    proto,
                    number,
                }));
            }
        }
    }
    frames
}

fn fits(rule: &Rule, frame: &Frame) -> bool {
    let is_proto = match (rule.proto, frame.addr) {
        (Proto::NonIp, addr) => addr.is_err(),
        (Proto::Arp, addr) => addr == Err(true),
        (_, Err(_)) => false,
        (Proto::Ip, Ok(_)) => true,
        (Proto::Number(number), Ok(_)) => frame.proto == number,
        (Proto::Icmp, Ok(addr)) => addr.is_ipv4() && frame.proto == ICMP,
        (Proto::Icmp6, Ok(addr)) => addr.is_ipv6() && frame.proto == ICMP6,
    };
    let is_addr = match (rule.cidr, frame.addr) {
        (None, _) => true,
        (
            Some(Cidr {
                addr: IpAddr::V4(net),
                len,
            }),
            Ok(IpAddr::V4(addr)),
        ) => len == 0 || (net.to_bits() ^ addr.to_bits()) >> (32 - len) == 0,
        (
            Some(Cidr {
                addr: IpAddr::V6(net),
                len,
            }),
            Ok(IpAddr::V6(addr)),
        ) => len == 0 || (net.to_bits() ^ addr.to_bits()) >> (128 - len) == 0,
        _ => false,
    };
    let is_number = rule.numbers.is_empty()
        || frame.number.is_some_and(|n| {
            rule.numbers
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&n))
        });
    rule.direction == frame.direction && is_proto && is_addr && is_number
}

/// Rules about these frames that pass the checks.
fn any_rule() -> impl Strategy<Value = Rule> {
    let proto = prop_oneof![
        Just(Proto::Ip),
        Just(Proto::Number(TCP)),
        Just(Proto::Number(UDP)),
        Just(Proto::Icmp),
        Just(Proto::Icmp6),
        Just(Proto::Arp),
        Just(Proto::NonIp)
    ];
    let v4 = (0..N_ADDRS, prop_oneof![Just(0u8), 29u8..=32])
        .prop_map(|(n, len)| Cidr::of(Ipv4Addr::new(10, 0, 0, n).into(), len));
    let v6 = (0..N_ADDRS, prop_oneof![Just(0u8), 125u8..=128])
        .prop_map(|(n, len)| Cidr::of(Ipv6Addr::from_bits(u128::from(n)).into(), len));
    let numbers = prop_oneof![
        3 => Just(vec![]),
        1 => (0..NUMBERS, 0u16..3)
            .prop_map(|(first, n)| vec![(first, (first + n).min(NUMBERS - 1))]),
        1 => Just(vec![(0, 0), (2, 3)]),
    ];
    let cidr = proptest::option::of(prop_oneof![v4, v6]);
    (any::<bool>(), any::<bool>(), proto, cidr, numbers).prop_map(
        |(is_from, is_deny, proto, cidr, numbers)| {
            let cidr = cidr.filter(|cidr| match proto {
                Proto::Icmp => cidr.addr.is_ipv4(),
                Proto::Icmp6 => cidr.addr.is_ipv6(),
                proto => proto.has_addresses(),
            });
            let numbers = if proto.has_ports() || proto.has_types() {
                numbers
            } else {
                Vec::new()
            };
            let (verdict, direction) = (
                if is_deny { Deny } else { Allow },
                if is_from { FromVm } else { ToVm },
            );
            Rule {
                verdict,
                direction,
                proto,
                cidr,
                numbers,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 20_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rule_covers_another_if_it_fits_every_frame_that_the_other_fits(
        a in any_rule(),
        b in any_rule(),
    ) {
        let covers = world().iter().all(|frame| !fits(&b, frame) || fits(&a, frame));
        prop_assert_eq!(a.covers(&b), covers, "{} and {}", a, b);
    }

    #[test]
    fn rule_is_without_effect_if_nothing_changes_without_it(
        rules in proptest::collection::vec(any_rule(), 1..5),
    ) {
        let decide = |rules: &[&Rule], frame: &Frame| {
            rules.iter().find(|rule| fits(rule, frame)).map_or(Allow, |rule| rule.verdict)
        };
        let all: Vec<&Rule> = rules.iter().collect();
        for rule in without_effect(&rules) {
            let is_other = |other: &&Rule| !std::ptr::eq(*other, rule);
            let others: Vec<&Rule> = all.iter().copied().filter(is_other).collect();
            let is_alike = |frame: &Frame| decide(&all, frame) == decide(&others, frame);
            prop_assert!(world().iter().all(is_alike), "{}", rule);
        }
    }
}

#[test]
fn rule_reads_as_it_is_written() {
    let rule = |proto, cidr: Option<&str>, numbers: &[(u16, u16)]| {
        let cidr = cidr.map(|addr| Cidr::of(addr.parse().unwrap(), 8));
        Rule {
            verdict: Deny,
            direction: ToVm,
            proto,
            cidr,
            numbers: numbers.to_vec(),
        }
        .to_string()
    };
    assert_eq!(
        rule(Proto::Number(TCP), None, &[(25, 25)]),
        "deny to-vm: proto tcp, port 25"
    );
    assert_eq!(
        rule(Proto::Number(UDP), Some("10.0.0.0"), &[(1, 2), (5, 5)]),
        "deny to-vm: proto udp, cidr 10.0.0.0/8, port 1-2 5"
    );
    assert_eq!(
        rule(Proto::Icmp6, None, &[(128, 128)]),
        "deny to-vm: proto icmp6, icmp-type 128"
    );
    assert_eq!(
        rule(Proto::Ip, Some("fd00::"), &[]),
        "deny to-vm: cidr fd00::/8"
    );
    assert_eq!(rule(Proto::Number(47), None, &[]), "deny to-vm: proto 47");
    assert_eq!(rule(Proto::Ip, None, &[]), "deny to-vm: all IP");
    assert_eq!(rule(Proto::NonIp, None, &[]), "deny to-vm: proto non-ip");
}

#[test]
fn address_loses_the_bits_behind_its_length() {
    for (addr, len, expected) in [
        ("10.255.255.255", 8, "10.0.0.0"),
        ("10.1.2.3", 32, "10.1.2.3"),
        ("10.1.2.3", 31, "10.1.2.2"),
        ("255.255.255.255", 0, "0.0.0.0"),
        ("2001:db8:ffff::1", 32, "2001:db8::"),
        ("::ffff", 128, "::ffff"),
        ("ffff::", 0, "::"),
    ] {
        assert_eq!(
            Cidr::of(addr.parse().unwrap(), len).addr,
            expected.parse::<IpAddr>().unwrap()
        );
    }
}
