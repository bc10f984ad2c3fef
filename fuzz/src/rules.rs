//! Rules, and what is read of a frame for them.

use flowtable::rules::policy::Policy;
use flowtable::rules::rule::{Cidr, Direction, Proto, Rule, Verdict};
use flowtable::{Header, Tuple};

use crate::input::Input;

const RULES_MAX: usize = 4;

/// A few rules.
pub(crate) fn policy(input: &mut Input<'_>) -> Policy {
    let n = usize::from(input.byte()) % (RULES_MAX + 1);
    Policy::new(&(0..n).map(|_| rule(input)).collect::<Vec<_>>())
}

fn rule(input: &mut Input<'_>) -> Rule {
    let bits = input.byte();
    let protos = [
        Proto::Ip,
        Proto::Number(6),
        Proto::Number(17),
        Proto::Icmp,
        Proto::Icmp6,
        Proto::Arp,
        Proto::NonIp,
    ];
    let proto = protos[usize::from(bits & 7) % protos.len()];
    let cidr = match bits >> 3 & 3 {
        0 => Some(Cidr {
            addr: [input.byte(), 0, 0, input.byte()].into(),
            len: input.byte() % 33,
        }),
        1 => Some(Cidr {
            addr: [u16::from(input.byte()), 0, 0, 0, 0, 0, 0, input.u16()].into(),
            len: input.byte() % 129,
        }),
        _ => None,
    };
    let has_numbers =
        bits & 32 != 0 && matches!(proto, Proto::Number(_) | Proto::Icmp | Proto::Icmp6);
    Rule {
        direction: if bits & 64 == 0 {
            Direction::FromVm
        } else {
            Direction::ToVm
        },
        verdict: if bits & 128 == 0 {
            Verdict::Deny
        } else {
            Verdict::Allow
        },
        proto,
        cidr: cidr.filter(|_| !matches!(proto, Proto::Arp | Proto::NonIp)),
        numbers: if has_numbers {
            vec![(u16::from(input.byte()), input.u16())]
        } else {
            Vec::new()
        },
    }
}

/// What is read of a frame is in the frame, and rules depend upon nothing but the fields that they
/// name.
pub(crate) fn check(policy: &Policy, clean: &Header, dirty: &Header, len: usize) {
    let tuple = Tuple::parse(clean, len);
    assert_eq!(
        tuple,
        Tuple::parse(dirty, len),
        "what lay behind the frame was read: {len} of {clean:02x?}"
    );
    for direction in [Direction::FromVm, Direction::ToVm] {
        let cut = tuple.cut(policy.fields(direction));
        assert_eq!(
            policy.decide(direction, &cut),
            policy.decide(direction, &tuple),
            "{policy:?} {tuple:?}"
        );
    }
}
