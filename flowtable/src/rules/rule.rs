//! One rule of a NIC: which frames of one direction it matches, and what happens to them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::tuple::{ICMP, ICMP6, SCTP, TCP, UDP};

/// Direction of a frame, seen from the VM that has the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The VM sent it.
    FromVm,
    /// The VM receives it.
    ToVm,
}

/// What a rule does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The frame passes.
    Allow,
    /// The frame is dropped.
    Deny,
}

/// Protocol of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// IPv4 or IPv6 with any protocol.
    Ip,
    /// IP protocol number, in IPv4 or IPv6; never 1 or 58, which are [`Proto::Icmp`] and
    /// [`Proto::Icmp6`].
    Number(u8),
    /// ICMP, in IPv4.
    Icmp,
    /// ICMPv6, in IPv6.
    Icmp6,
    /// ARP.
    Arp,
    /// Neither IPv4 nor IPv6; ARP is one of these.
    NonIp,
}

impl Proto {
    /// Protocols that have a name.
    pub const NAMED: [(&str, Proto); 7] = [
        ("tcp", Proto::Number(TCP)),
        ("udp", Proto::Number(UDP)),
        ("sctp", Proto::Number(SCTP)),
        ("icmp", Proto::Icmp),
        ("icmp6", Proto::Icmp6),
        ("arp", Proto::Arp),
        ("non-ip", Proto::NonIp),
    ];

    /// The IP protocol with this number.
    pub fn of_number(number: u8) -> Self {
        match number {
            ICMP => Proto::Icmp,
            ICMP6 => Proto::Icmp6,
            number => Proto::Number(number),
        }
    }

    /// Whether its packets have a destination port.
    pub fn has_ports(self) -> bool {
        matches!(self, Proto::Number(TCP | UDP | SCTP))
    }

    /// Whether its packets have an ICMP type.
    pub fn has_types(self) -> bool {
        matches!(self, Proto::Icmp | Proto::Icmp6)
    }

    /// Whether its packets have IP addresses.
    pub fn has_addresses(self) -> bool {
        !matches!(self, Proto::Arp | Proto::NonIp)
    }
}

/// A range of IP addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address. Bits behind the first `len` have no meaning; [`Cidr::of`] clears them.
    pub addr: IpAddr,
    /// Length of the prefix, in bits.
    pub len: u8,
}

impl Cidr {
    /// The range of `addr`'s family with its first `len` bits as prefix; a `len` over the address's
    /// width keeps all.
    pub fn of(addr: IpAddr, len: u8) -> Self {
        let masked = |bits: u128, width: u8| {
            let n_last = u32::from(width.saturating_sub(len));
            u128::MAX.checked_shl(n_last).map_or(0, |mask| bits & mask)
        };
        let addr = match addr {
            IpAddr::V4(addr) => {
                // 32 bits stay 32 bits: the mask only clears some.
                let bits = u32::try_from(masked(u128::from(addr.to_bits()), 32)).unwrap_or(0);
                Ipv4Addr::from_bits(bits).into()
            }
            IpAddr::V6(addr) => Ipv6Addr::from_bits(masked(addr.to_bits(), 128)).into(),
        };
        Self { addr, len }
    }

    /// Whether every address of `other` is in this range.
    fn holds(self, other: Cidr) -> bool {
        self.addr.is_ipv4() == other.addr.is_ipv4()
            && self.len <= other.len
            && Cidr::of(other.addr, self.len).addr == self.addr
    }
}

/// One rule, for one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What happens to frames that match.
    pub verdict: Verdict,
    /// Direction of the frames.
    pub direction: Direction,
    /// Protocol of the frames.
    pub proto: Proto,
    /// Address of the other side: destination of a frame from the VM, source of one to the VM.
    /// None: any.
    pub cidr: Option<Cidr>,
    /// Destination ports where `proto` has ports, types for ICMP: first and last of each range.
    /// Empty: any.
    pub numbers: Vec<(u16, u16)>,
}

/// Kinds of payload of an Ethernet frame, as bits of a set.
const V4: u8 = 1;
const V6: u8 = 2;
const ARP: u8 = 4;
const OTHER: u8 = 8;

impl Rule {
    fn kinds(&self) -> u8 {
        let of_proto = match self.proto {
            Proto::Ip | Proto::Number(_) => V4 | V6,
            Proto::Icmp => V4,
            Proto::Icmp6 => V6,
            Proto::Arp => ARP,
            Proto::NonIp => ARP | OTHER,
        };
        match self.cidr.map(|cidr| cidr.addr) {
            None => of_proto,
            Some(IpAddr::V4(_)) => of_proto & V4,
            Some(IpAddr::V6(_)) => of_proto & V6,
        }
    }

    /// Whether it matches every frame that `other` matches. Later fragments have no ports, so a
    /// rule with ports never covers one without, even if it lists all ports.
    pub fn covers(&self, other: &Rule) -> bool {
        let holds_proto = match (self.proto, other.proto) {
            (Proto::Ip | Proto::NonIp, _) => true,
            (own, other) => own == other,
        };
        let holds_addresses = match (self.cidr, other.cidr) {
            (None, _) => true,
            (Some(own), None) => own.len == 0,
            (Some(own), Some(other)) => own.holds(other),
        };
        let is_in = |&(first, last): &(u16, u16)| {
            self.numbers
                .iter()
                .any(|own| own.0 <= first && last <= own.1)
        };
        let holds_numbers =
            self.numbers.is_empty() || !other.numbers.is_empty() && other.numbers.iter().all(is_in);
        self.direction == other.direction
            && other.kinds() & !self.kinds() == 0
            && holds_proto
            && holds_addresses
            && holds_numbers
    }
}

/// Rules without effect: those that allow and have no rule below them that denies in their
/// direction.
pub fn without_effect(rules: &[Rule]) -> impl Iterator<Item = &Rule> {
    let denies_later = |k: usize, rule: &Rule| {
        rules[k..]
            .iter()
            .any(|later| later.direction == rule.direction && later.verdict == Verdict::Deny)
    };
    rules
        .iter()
        .enumerate()
        .filter(move |(k, rule)| !denies_later(*k, rule))
        .map(|(_, rule)| rule)
}

/// One line, close to how the topology file has it: `deny to-vm: proto tcp, port 25`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        };
        let direction = match self.direction {
            Direction::FromVm => "from-vm",
            Direction::ToVm => "to-vm",
        };
        write!(f, "{verdict} {direction}:")?;
        let name = Proto::NAMED.iter().find(|(_, proto)| *proto == self.proto);
        match (name, self.proto) {
            (Some((name, _)), _) => write!(f, " proto {name}")?,
            (None, Proto::Number(number)) => write!(f, " proto {number}")?,
            (None, _) if self.cidr.is_none() => write!(f, " all IP")?,
            (None, _) => {}
        }
        let comma = if name.is_some() || matches!(self.proto, Proto::Number(_)) {
            ","
        } else {
            ""
        };
        if let Some(Cidr { addr, len }) = self.cidr {
            write!(f, "{comma} cidr {addr}/{len}")?;
        }
        for (k, (first, last)) in self.numbers.iter().enumerate() {
            match (k, self.proto.has_types()) {
                (0, true) => write!(f, ", icmp-type ")?,
                (0, false) => write!(f, ", port ")?,
                _ => write!(f, " ")?,
            }
            if first == last {
                write!(f, "{first}")?
            } else {
                write!(f, "{first}-{last}")?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "rule_tests.rs"]
mod tests;
