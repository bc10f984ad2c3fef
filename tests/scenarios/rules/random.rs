//! Random rules and packets against a model that knows the packets as they were made, not as they
//! are read.

use std::collections::HashMap;

use flowtable::rules::rule::{Cidr, Direction, Proto, Rule, Verdict};
use rig::{ALL, Dice, mac, seeds};

use super::packets::{ICMP, ICMP6, Kind, Number, Packet, TCP, UDP};
use super::{Ruled, rule};
use Direction::{FromVm, ToVm};
use Verdict::{Allow, Deny};

/// Whether the rules of one direction let a packet pass, said as `docs/rules.md` says it.
fn passes(rules: &[Rule], direction: Direction, packet: &Packet) -> bool {
    let rules: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.direction == direction)
        .collect();
    for (k, rule) in rules.iter().enumerate() {
        let can_deny = rules[k..].iter().any(|rule| rule.verdict == Deny);
        match fits(rule, direction, packet) {
            _ if !can_deny => return true,
            Some(false) => {}
            Some(true) => return rule.verdict == Allow,
            None => return false,
        }
    }
    true
}

/// None: it can't be told.
fn fits(rule: &Rule, direction: Direction, packet: &Packet) -> Option<bool> {
    let (is_v4, is_v6) = match packet.kind {
        Kind::V4 | Kind::Nonsense => (true, false),
        Kind::V6 | Kind::V6Extended => (false, true),
        Kind::Arp => return Some(matches!(rule.proto, Proto::Arp | Proto::NonIp)),
        Kind::Lldp => return Some(rule.proto == Proto::NonIp),
    };
    let proto = match rule.proto {
        Proto::Ip => None,
        Proto::Number(number) => Some(number),
        Proto::Icmp if is_v4 => Some(ICMP),
        Proto::Icmp6 if is_v6 => Some(ICMP6),
        _ => return Some(false),
    };
    if rule.cidr.is_some_and(|cidr| cidr.addr.is_ipv4() != is_v4) {
        return Some(false);
    }
    if packet.kind == Kind::Nonsense {
        return (proto.is_none() && rule.cidr.is_none()).then_some(true);
    }
    let other = if direction == FromVm {
        packet.dst
    } else {
        packet.src
    };
    let in_cidr = rule.cidr.is_none_or(|cidr| match cidr.addr {
        std::net::IpAddr::V4(addr) => {
            addr.octets()[3] >> (32 - cidr.len) == other >> (32 - cidr.len)
        }
        std::net::IpAddr::V6(addr) => {
            addr.octets()[15] >> (128 - cidr.len) == other >> (128 - cidr.len)
        }
    });
    let Some(proto) = proto.filter(|_| in_cidr) else {
        return Some(in_cidr);
    };
    let hides_proto = packet.kind == Kind::V6Extended && packet.number == Number::LaterFragment;
    match packet.number {
        _ if hides_proto => None,
        _ if proto != packet.proto => Some(false),
        _ if rule.numbers.is_empty() => Some(true),
        Number::Is(number) => Some(
            rule.numbers
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&number)),
        ),
        Number::LaterFragment => Some(false),
        Number::Cut => None,
    }
}

fn any_rule(dice: &mut Dice) -> Rule {
    let proto = [
        Proto::Ip,
        Proto::Number(TCP),
        Proto::Number(TCP),
        Proto::Number(UDP),
        Proto::Icmp,
        Proto::Icmp6,
        Proto::Arp,
        Proto::NonIp,
    ][dice.below(8)];
    let is_v4 = match proto {
        Proto::Icmp => true,
        Proto::Icmp6 => false,
        _ => dice.below(2) == 0,
    };
    let (last, n_bits) = (dice.below(8) as u8, dice.below(3) as u8);
    let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let has_cidr = dice.below(2) == 0 && !matches!(proto, Proto::Arp | Proto::NonIp);
    let cidr = has_cidr.then(|| match is_v4 {
        true => Cidr {
            addr: [10, 0, 0, last].into(),
            len: 32 - n_bits,
        },
        false => Cidr {
            addr: v6.into(),
            len: 128 - n_bits,
        },
    });
    let mut rule = rule(
        [FromVm, ToVm][dice.below(2)],
        [Allow, Deny, Deny][dice.below(3)],
    );
    if matches!(proto, Proto::Number(_) | Proto::Icmp | Proto::Icmp6) && dice.below(3) > 0 {
        let first = dice.below(5) as u16;
        rule.numbers = vec![(first, first + dice.below(2) as u16)];
    }
    Rule {
        proto,
        cidr,
        ..rule
    }
}

fn any_packet(dice: &mut Dice) -> Packet {
    let kind = [
        Kind::V4,
        Kind::V4,
        Kind::V6,
        Kind::V6Extended,
        Kind::Arp,
        Kind::Lldp,
        Kind::Nonsense,
    ][dice.below(7)];
    let proto = match kind {
        Kind::V6 | Kind::V6Extended => [TCP, TCP, UDP, ICMP6][dice.below(4)],
        _ => [TCP, TCP, UDP, ICMP][dice.below(4)],
    };
    let number = match dice.below(8) {
        0 => Number::LaterFragment,
        1 => Number::Cut,
        _ => Number::Is(dice.below(6) as u16),
    };
    Packet {
        kind,
        src: dice.below(8) as u8,
        dst: dice.below(8) as u8,
        proto,
        number,
    }
}

/// A frame on its way: by whom, to which port (`None`: all), and what.
type Sent = (usize, Option<usize>, Packet);

#[test]
fn random_rules_and_packets_are_decided_as_the_model_decides_them() {
    for seed in seeds(0..40) {
        let mut dice = Dice::new(seed);
        let n_ports = 2 + dice.below(5);
        let mut ruled = Ruled::with_cores(1 + dice.below(3), n_ports);
        let (mut id, mut n_denied, mut n_refused) = (0u32, vec![0; n_ports], vec![0; n_ports]);
        let mut rules: Vec<Vec<Rule>> = vec![Vec::new(); n_ports];
        for round in 0..30 {
            if round % 3 == 0 {
                let port = dice.below(n_ports);
                rules[port] = (0..dice.below(6)).map(|_| any_rule(&mut dice)).collect();
                ruled.set(&rules);
            }
            let mut sent: HashMap<Vec<u8>, Sent> = HashMap::new();
            for _ in 0..40 {
                let (from, packet, is_tagged) = (
                    dice.below(n_ports),
                    any_packet(&mut dice),
                    dice.below(4) == 0,
                );
                let to = (dice.below(4) > 0)
                    .then(|| dice.below(n_ports))
                    .filter(|&to| to != from);
                id += 1;
                let dst = to.map_or(ALL, |to| mac(to as u16));
                let frame = packet.frame(dst, mac(from as u16), is_tagged, id);
                if ruled.rig.guests[from].send(0, &frame) {
                    sent.insert(frame, (from, to, packet));
                }
            }
            ruled.rig.settle();
            let mut got: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
            for port in 0..n_ports {
                for frame in ruled.rig.receive_all(port as u16) {
                    got.entry(frame).or_default().push(port);
                }
            }
            for (frame, (from, to, packet)) in sent {
                let due =
                    (0..n_ports).filter(|&port| port != from && to.is_none_or(|to| to == port));
                let leaves = passes(&rules[from], FromVm, &packet);
                let (may, may_not): (Vec<_>, Vec<_>) =
                    due.partition(|&port| passes(&rules[port], ToVm, &packet));
                let expected = if leaves { may } else { vec![] };
                if leaves {
                    n_denied[from] += may_not.len() as u64;
                    may_not.iter().for_each(|&port| n_refused[port] += 1);
                } else {
                    n_denied[from] += 1;
                }
                let got = got.remove(&frame).unwrap_or_default();
                assert_eq!(
                    got, expected,
                    "seed {seed}, round {round}: {packet:?} from {from} to {to:?}\n{rules:#?}"
                );
            }
            assert!(got.is_empty(), "seed {seed}: frames that nobody sent");
        }
        for port in 0..n_ports {
            assert_eq!(
                ruled.denied(port as u16),
                (n_denied[port], n_refused[port]),
                "seed {seed}, port {port}"
            );
        }
        ruled.rig.assert_balanced();
    }
}
