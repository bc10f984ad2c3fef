//! Rules of a NIC, compiled: which frames may leave its VM, and which may come to it.
//!
//! Stateless and in order: the first rule that matches a frame decides, and a frame that no rule
//! matches passes. A rule that matches as far as the frame can be read, but tests something that
//! can't, denies: unreadable headers don't bypass a filter. In detail:
//!
//! - A later fragment has no port, so a rule with ports or ICMP types doesn't match it, neither to
//!   allow nor to deny. The first fragment is judged by its port, and the datagram can't be
//!   reassembled without it. No later fragment can overwrite the ports: it begins at least eight
//!   bytes further on. (A first fragment too short to hold its port can't be read, and is denied.)
//! - IPv6 extension headers are skipped as far as the private header reaches. A port beyond that
//!   can't be read.
//! - Only rules that name it match what isn't IP: `arp`, `non-ip`.
//!
//! Source: RFC 1858 and RFC 3128 (tiny and overlapping fragments), RFC 7112.

use std::net::IpAddr;

use crate::rules::rule::{Cidr, Direction, Proto, Rule, Verdict};
use crate::wire::tuple::{Address, ICMP, ICMP6, KeyFields, Kind, Reach, Tuple};

/// A NIC's compiled rules. Immutable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    from_vm: Chain,
    to_vm: Chain,
}

impl Policy {
    /// Compiles the rules, which keep their order.
    pub fn new(rules: &[Rule]) -> Self {
        let chain = |direction| Chain::new(rules, direction);
        Self {
            from_vm: chain(Direction::FromVm),
            to_vm: chain(Direction::ToVm),
        }
    }

    /// What the rules of a direction depend on. `NONE`: all frames pass.
    #[inline(always)]
    pub fn fields(&self, direction: Direction) -> KeyFields {
        self.chain(direction).fields
    }

    /// Decides a frame by the rules of a direction. Costs a few instructions per rule.
    pub fn decide(&self, direction: Direction, tuple: &Tuple) -> Verdict {
        let chain = self.chain(direction);
        let other = match direction {
            Direction::FromVm => tuple.dst,
            Direction::ToVm => tuple.src,
        };
        for test in &chain.tests {
            match test.matches(other, tuple) {
                Match::No => {}
                Match::Yes => return test.verdict,
                Match::Unknown => return Verdict::Deny,
            }
        }
        Verdict::Allow
    }

    #[inline(always)]
    fn chain(&self, direction: Direction) -> &Chain {
        match direction {
            Direction::FromVm => &self.from_vm,
            Direction::ToVm => &self.to_vm,
        }
    }
}

/// The rules of one direction, up to the last that denies: those after it only allow what passes
/// anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    tests: Vec<Test>,
    fields: KeyFields,
}

impl Chain {
    fn new(rules: &[Rule], direction: Direction) -> Self {
        let mut rules: Vec<&Rule> = rules
            .iter()
            .filter(|rule| rule.direction == direction)
            .collect();
        while rules
            .last()
            .is_some_and(|rule| rule.verdict == Verdict::Allow)
        {
            rules.pop();
        }
        let fields = |all, rule: &&Rule| all | fields_of(rule);
        Self {
            fields: rules.iter().fold(KeyFields::NONE, fields),
            tests: rules.iter().map(|rule| Test::new(rule)).collect(),
        }
    }
}

fn fields_of(rule: &Rule) -> KeyFields {
    let address = match (rule.cidr, rule.direction) {
        (None, _) => KeyFields::KIND,
        (Some(_), Direction::FromVm) => KeyFields::DST,
        (Some(_), Direction::ToVm) => KeyFields::SRC,
    };
    let proto = match rule.proto {
        Proto::Ip | Proto::Arp | Proto::NonIp => KeyFields::KIND,
        Proto::Number(_) | Proto::Icmp | Proto::Icmp6 => KeyFields::PROTO,
    };
    address
        | proto
        | if rule.numbers.is_empty() {
            KeyFields::KIND
        } else {
            KeyFields::NUMBER
        }
}

/// Whether a rule matches a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    No,
    Yes,
    /// Unreadable.
    Unknown,
}

/// A compiled rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    /// By [`Kind`].
    kinds: [bool; 4],
    proto: Option<u8>,
    net: Option<Net>,
    numbers: Box<[(u16, u16)]>,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net {
    value: Address,
    mask: Address,
}

impl Test {
    fn new(rule: &Rule) -> Self {
        let (kinds, proto): (&[Kind], _) = match rule.proto {
            Proto::Ip => (&[Kind::V4, Kind::V6], None),
            Proto::Number(number) => (&[Kind::V4, Kind::V6], Some(number)),
            Proto::Icmp => (&[Kind::V4], Some(ICMP)),
            Proto::Icmp6 => (&[Kind::V6], Some(ICMP6)),
            Proto::Arp => (&[Kind::Arp], None),
            Proto::NonIp => (&[Kind::Arp, Kind::Other], None),
        };
        let family = |kind: Kind| match rule.cidr.map(|cidr| cidr.addr) {
            None => true,
            Some(IpAddr::V4(_)) => kind == Kind::V4,
            Some(IpAddr::V6(_)) => kind == Kind::V6,
        };
        let mut is_kind = [false; 4];
        for &kind in kinds.iter().filter(|&&kind| family(kind)) {
            is_kind[kind as usize] = true;
        }
        let numbers = rule.numbers.clone().into();
        Self {
            kinds: is_kind,
            proto,
            net: rule.cidr.map(Net::new),
            numbers,
            verdict: rule.verdict,
        }
    }

    /// A test that certainly fails comes before one that can't be read.
    fn matches(&self, other: Address, tuple: &Tuple) -> Match {
        let is_unreadable = tuple.reach == Reach::Broken;
        if is_unreadable && tuple.kind == Kind::Other {
            return Match::Unknown;
        }
        if !self.kinds[tuple.kind as usize] {
            return Match::No;
        }
        let (is_any, has_proto) = (
            self.net.is_none() && self.proto.is_none(),
            tuple.reach != Reach::Addresses,
        );
        match self.proto {
            _ if is_any => return Match::Yes,
            _ if is_unreadable => return Match::Unknown,
            _ if self.net.is_some_and(|net| !net.holds(other)) => return Match::No,
            None => return Match::Yes,
            Some(_) if !has_proto => return Match::Unknown,
            Some(proto) if proto != tuple.proto => return Match::No,
            Some(_) if self.numbers.is_empty() => return Match::Yes,
            Some(_) => {}
        }
        match tuple.reach {
            Reach::LaterFragment => Match::No,
            Reach::Whole
                if self
                    .numbers
                    .iter()
                    .any(|&(first, last)| (first..=last).contains(&tuple.number)) =>
            {
                Match::Yes
            }
            Reach::Whole => Match::No,
            _ => Match::Unknown,
        }
    }
}

impl Net {
    fn new(cidr: Cidr) -> Self {
        let (addr, width) = match cidr.addr {
            IpAddr::V4(addr) => (u128::from(addr.to_bits()), 32),
            IpAddr::V6(addr) => (addr.to_bits(), 128),
        };
        let all = u128::MAX >> (128 - width);
        // Shifts out the last bits of the address; a shift by all of them leaves none.
        let last = u32::from(width - cidr.len.min(width));
        let mask = all & u128::MAX.checked_shl(last).unwrap_or(0);
        Self {
            value: words(addr & mask),
            mask: words(mask),
        }
    }

    fn holds(self, addr: Address) -> bool {
        addr[0] & self.mask[0] == self.value[0] && addr[1] & self.mask[1] == self.value[1]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "takes an address apart")]
fn words(addr: u128) -> Address {
    [(addr >> 64) as u64, addr as u64]
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
