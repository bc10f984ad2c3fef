//! Rules of a NIC as values, how they read, and which of them comes after one that leaves it nothing.

use std::fmt;
use std::net::IpAddr;

/// One rule: what becomes of frames of one direction that it fits. The first one that fits decides; what none fits, passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of them.
    pub verdict: Verdict,
    /// Which way they go.
    pub direction: Direction,
    /// What they are.
    pub proto: Proto,
    /// Address of the other side: where a frame from the VM goes, where one to the VM comes from. None: any. None for what
    /// isn't IP, and of the right family for ICMP.
    pub cidr: Option<Cidr>,
    /// Destination ports where `proto` has ports, types where it is ICMP: first and last of each range, ascending, with
    /// something between. Empty: any.
    pub numbers: Vec<(u16, u16)>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The frame passes.
    Allow,
    /// The frame is dropped.
    Deny,
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The VM sends it.
    FromVm,
    /// The VM gets it.
    ToVm,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// IPv4 or IPv6, whatever is in it.
    Ip,
    /// This IP protocol, in either family; never 1 or 58, which are the next two.
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

/// Addresses that begin alike; no bit is set behind the first `len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first of them.
    pub addr: IpAddr,
    /// Bits that all have in common.
    pub len: u8,
}

/// Protocols by their names.
pub(crate) const PROTOS: [(&str, Proto); 7] = [
    ("tcp", Proto::Number(TCP)),
    ("udp", Proto::Number(UDP)),
    ("sctp", Proto::Number(SCTP)),
    ("icmp", Proto::Icmp),
    ("icmp6", Proto::Icmp6),
    ("arp", Proto::Arp),
    ("non-ip", Proto::NonIp),
];
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;

impl Proto {
    /// The IP protocol with this number.
    pub(crate) fn of_number(number: u8) -> Self {
        match number {
            ICMP => Proto::Icmp,
            ICMP6 => Proto::Icmp6,
            number => Proto::Number(number),
        }
    }

    /// Whether its packets have a destination port.
    pub(crate) fn has_ports(self) -> bool {
        matches!(self, Proto::Number(TCP | UDP | SCTP))
    }

    /// Whether its packets have an ICMP type.
    pub(crate) fn has_types(self) -> bool {
        matches!(self, Proto::Icmp | Proto::Icmp6)
    }

    /// Whether its packets have IP addresses.
    pub(crate) fn has_addresses(self) -> bool {
        !matches!(self, Proto::Arp | Proto::NonIp)
    }
}

impl Cidr {
    /// The addresses of `addr`'s family that begin with its first `len` bits, at most all of them.
    pub(crate) fn of(addr: IpAddr, len: u8) -> Self {
        let masked = |bits: u128, width: u8| {
            let n_last = u32::from(width.saturating_sub(len));
            u128::MAX.checked_shl(n_last).map_or(0, |mask| bits & mask)
        };
        let addr = match addr {
            IpAddr::V4(addr) => {
                // The mask only takes bits away.
                let bits = u32::try_from(masked(u128::from(addr.to_bits()), 32)).unwrap_or(0);
                std::net::Ipv4Addr::from_bits(bits).into()
            }
            IpAddr::V6(addr) => std::net::Ipv6Addr::from_bits(masked(addr.to_bits(), 128)).into(),
        };
        Self { addr, len }
    }

    fn holds(self, other: Cidr) -> bool {
        self.addr.is_ipv4() == other.addr.is_ipv4()
            && self.len <= other.len
            && Cidr::of(other.addr, self.len).addr == self.addr
    }
}

/// What can stand behind an Ethernet header, as a set: IPv4, IPv6, ARP, anything else.
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

    /// Whether it fits every frame that `other` fits. A later fragment has no port, so ports leave something out even
    /// where all of them are named.
    pub(crate) fn covers(&self, other: &Rule) -> bool {
        let holds_proto = match (self.proto, other.proto) {
            (Proto::Ip | Proto::NonIp, _) => true,
            (own, other) => own == other,
        };
        let holds_addresses = match (self.cidr, other.cidr) {
            (None, _) => true,
            (Some(own), None) => own.len == 0,
            (Some(own), Some(other)) => own.holds(other),
        };
        let is_in = |&(first, last): &(u16, u16)| self.numbers.iter().any(|own| own.0 <= first && last <= own.1);
        let holds_numbers = self.numbers.is_empty() || !other.numbers.is_empty() && other.numbers.iter().all(is_in);
        self.direction == other.direction
            && other.kinds() & !self.kinds() == 0
            && holds_proto
            && holds_addresses
            && holds_numbers
    }
}

/// Rules that only allow what passes anyway: behind the last of their direction that denies.
pub(crate) fn without_effect(rules: &[Rule]) -> impl Iterator<Item = &Rule> {
    let denies_later = |k: usize, rule: &Rule| {
        rules[k..].iter().any(|later| later.direction == rule.direction && later.verdict == Verdict::Deny)
    };
    rules.iter().enumerate().filter(move |(k, rule)| !denies_later(*k, rule)).map(|(_, rule)| rule)
}

/// As it stands in the file: `deny to-vm: proto tcp, port 25`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.verdict == Verdict::Allow { "allow" } else { "deny" };
        let direction = if self.direction == Direction::FromVm { "from-vm" } else { "to-vm" };
        write!(f, "{verdict} {direction}:")?;
        let name = PROTOS.iter().find(|(_, proto)| *proto == self.proto);
        match (name, self.proto) {
            (Some((name, _)), _) => write!(f, " proto {name}")?,
            (None, Proto::Number(number)) => write!(f, " proto {number}")?,
            (None, _) if self.cidr.is_none() => write!(f, " all IP")?,
            (None, _) => {}
        }
        let comma = if name.is_some() || matches!(self.proto, Proto::Number(_)) { "," } else { "" };
        if let Some(Cidr { addr, len }) = self.cidr {
            write!(f, "{comma} cidr {addr}/{len}")?;
        }
        for (k, (first, last)) in self.numbers.iter().enumerate() {
            match (k, self.proto.has_types()) {
                (0, true) => write!(f, ", icmp-type ")?,
                (0, false) => write!(f, ", port ")?,
                _ => write!(f, " ")?,
            }
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
