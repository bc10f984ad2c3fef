//! What rules can test of a frame after its Ethernet header, parsed once from the private header.
//!
//! A [`Tuple`] records how far the frame could be read ([`Reach`]), since rules distinguish "no
//! port" from "a port that can't be read". [`Tuple::cut`] keeps only what certain rules can depend
//! on, so that frames which those rules can't distinguish are one flow. The source port is left
//! out: no rule tests it.

use std::ops::BitOr;

use crate::wire::header::{ETHERNET_LEN, HEADER_MAX, Header, TAG_LEN};

const TAGS_MAX: usize = 2;
/// Bytes of a frame that are parsed: the private header less a trunk's tag, so that a frame parses
/// alike with that tag and without it.
const REACH: usize = HEADER_MAX - TAG_LEN as usize;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
pub(crate) const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;
pub(crate) const SCTP: u8 = 132;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// In the last of [`Tuple::words`]: the IP protocol. Below it is the port.
pub(crate) const PROTO_SHIFT: u32 = 16;
/// In the last of [`Tuple::words`]: the tuple's kind.
pub(crate) const KIND_SHIFT: u32 = 24;

/// What follows the Ethernet header and its tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Neither of the others.
    #[default]
    Other,
    /// ARP.
    Arp,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How far a frame could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reach {
    /// All that its kind and protocol have.
    #[default]
    Whole,
    /// A later fragment: it has a protocol, and its port or ICMP type is in the first fragment.
    LaterFragment,
    /// The port or ICMP type should be there and can't be read: the datagram ends before it, or it
    /// lies behind what is copied of a frame.
    Cut,
    /// Nor can the protocol: IPv6 extension headers are broken or too long.
    Addresses,
    /// Nor can the addresses: the frame is not what its type claims, or has more than two tags.
    Broken,
}

/// The set of fields that a flow's key must hold after the Ethernet addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyFields(u8);

impl KeyFields {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Whether it is IPv4, IPv6, ARP or something else. Part of all the others.
    pub const KIND: Self = Self(1);
    /// The source address.
    pub const SRC: Self = Self(1 | 2);
    /// The destination address.
    pub const DST: Self = Self(1 | 4);
    /// The IP protocol.
    pub const PROTO: Self = Self(1 | 8);
    /// The destination port or ICMP type, and with it the protocol.
    pub const NUMBER: Self = Self(1 | 8 | 16);

    /// Whether the Ethernet header is enough.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in it.
    #[inline(always)]
    pub fn holds(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for KeyFields {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An address as two words, most significant first; an IPv4 address is the low half of the second.
pub type Address = [u64; 2];

/// What rules can test of one frame. Fields that don't exist or can't be read are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub src: Address,
    /// Destination address.
    pub dst: Address,
    /// Destination port of TCP, UDP and SCTP, type of ICMP and ICMPv6.
    pub number: u16,
    /// IP protocol, behind IPv6's extension headers.
    pub proto: u8,
    /// What it is.
    pub kind: Kind,
    /// How much of it could be read.
    pub reach: Reach,
}

impl Tuple {
    /// Reads a frame of `len` bytes, behind up to two VLAN tags. Never looks beyond the frame's end
    /// or the header's.
    ///
    /// A datagram that claims to be longer than its frame is [`Reach::Broken`]; one that is shorter
    /// ends where it says, not where the frame does. IPv6: hop-by-hop, routing, destination options
    /// and fragment headers are passed over as far as 124 bytes reach; any other next header, AH
    /// included, is the protocol.
    ///
    /// Source: RFC 791, RFC 8200 (4: extension headers), RFC 7112 (what a first fragment must
    /// hold).
    pub fn parse(header: &Header, len: usize) -> Self {
        Self::parse_behind(header, len, 0)
    }

    /// The same, ignoring the first `n_popped` tags: what [`Tuple::parse`] gives once they are
    /// removed.
    pub fn parse_behind(header: &Header, len: usize, n_popped: usize) -> Self {
        let before = n_popped * TAG_LEN as usize;
        let (frame, mut at) = (
            View {
                header,
                reach: before + REACH,
            },
            before + 12,
        );
        let mut n_tags = 0;
        loop {
            match frame.be16(at, len) {
                Some(VLAN | QINQ) if n_tags < TAGS_MAX => (at, n_tags) = (at + 4, n_tags + 1),
                Some(VLAN | QINQ) | None => return Self::broken(Kind::Other),
                Some(IPV4) => {
                    return Self::v4(frame, at + 2, len).unwrap_or(Self::broken(Kind::V4));
                }
                Some(IPV6) => {
                    return Self::v6(frame, at + 2, len).unwrap_or(Self::broken(Kind::V6));
                }
                Some(ARP) => {
                    return Self {
                        kind: Kind::Arp,
                        ..Self::default()
                    };
                }
                Some(_) => return Self::default(),
            }
        }
    }

    fn broken(kind: Kind) -> Self {
        Self {
            kind,
            reach: Reach::Broken,
            ..Self::default()
        }
    }

    fn v4(frame: View<'_>, at: usize, len: usize) -> Option<Self> {
        let first = frame.byte(at, len)?;
        let (header_len, total_len) = (
            usize::from(first & 15) * 4,
            usize::from(frame.be16(at + 2, len)?),
        );
        let is_sound = first >> 4 == 4
            && header_len >= IPV4_LEN
            && header_len <= total_len
            && at + total_len <= len;
        if !is_sound {
            return None;
        }
        let address = |at| Some([0, u64::from(frame.be32(at, len)?)]);
        let (src, dst) = (address(at + 12)?, address(at + 16)?);
        let tuple = Self {
            src,
            dst,
            proto: frame.byte(at + 9, len)?,
            kind: Kind::V4,
            ..Self::default()
        };
        if frame.be16(at + 6, len)? & 0x1fff != 0 {
            return Some(Self {
                reach: Reach::LaterFragment,
                ..tuple
            });
        }
        Some(tuple.with_number(frame, at + header_len, at + total_len))
    }

    fn v6(frame: View<'_>, at: usize, len: usize) -> Option<Self> {
        let end = at + IPV6_LEN + usize::from(frame.be16(at + 4, len)?);
        if frame.byte(at, len)? >> 4 != 6 || end > len {
            return None;
        }
        let address = |at| Some([frame.be64(at, len)?, frame.be64(at + 8, len)?]);
        let (src, dst) = (address(at + 8)?, address(at + 24)?);
        let tuple = Self {
            src,
            dst,
            kind: Kind::V6,
            ..Self::default()
        };
        let next = frame.byte(at + 6, len)?;
        Some(
            tuple
                .behind_extensions(frame, next, at + IPV6_LEN, end)
                .unwrap_or(tuple.without_protocol()),
        )
    }

    fn without_protocol(self) -> Self {
        Self {
            reach: Reach::Addresses,
            ..self
        }
    }

    /// Skips extension headers, each of at least eight bytes, so that the private header bounds
    /// them. None: the protocol can't be read.
    fn behind_extensions(
        self,
        frame: View<'_>,
        mut next: u8,
        mut at: usize,
        end: usize,
    ) -> Option<Self> {
        let mut is_fragment = false;
        loop {
            match next {
                HOP_BY_HOP | ROUTING | DESTINATION => {
                    next = frame.byte(at, end)?;
                    at += 8 + usize::from(frame.byte(at + 1, end)?) * 8;
                }
                // A second one would be a fragment of fragments.
                FRAGMENT if !is_fragment => {
                    is_fragment = true;
                    next = frame.byte(at, end)?;
                    let offset = frame.be16(at + 2, end)? >> 3;
                    at += 8;
                    if offset > 0 {
                        // If it begins with an extension header, only the first fragment has the
                        // protocol.
                        let is_known = at <= end && !is_extension(next);
                        return is_known.then_some(Self {
                            proto: next,
                            reach: Reach::LaterFragment,
                            ..self
                        });
                    }
                }
                FRAGMENT => return None,
                proto => {
                    return (at <= end).then(|| Self { proto, ..self }.with_number(frame, at, end));
                }
            }
        }
    }

    /// Reads the port or ICMP type of a datagram that ends at `end`, if its protocol has one.
    fn with_number(self, frame: View<'_>, at: usize, end: usize) -> Self {
        let number = match (self.kind, self.proto) {
            (_, TCP | UDP | SCTP) => frame.be16(at + 2, end),
            (Kind::V4, ICMP) | (Kind::V6, ICMP6) => frame.byte(at, end).map(u16::from),
            _ => return self,
        };
        match number {
            Some(number) => Self { number, ..self },
            None => Self {
                reach: Reach::Cut,
                ..self
            },
        }
    }

    /// What rules that test only `fields` can depend on; the rest is zero. Frames that are equal in
    /// this are decided alike by them.
    #[must_use]
    pub fn cut(self, fields: KeyFields) -> Self {
        if fields.is_none() {
            return Self::default();
        }
        let (has_src, has_dst) = (fields.holds(KeyFields::SRC), fields.holds(KeyFields::DST));
        let (has_proto, has_number) = (
            fields.holds(KeyFields::PROTO),
            fields.holds(KeyFields::NUMBER),
        );
        let reach = match self.reach {
            Reach::LaterFragment | Reach::Cut if !has_number => Reach::Whole,
            Reach::Addresses if !has_proto => Reach::Whole,
            Reach::Broken if fields == KeyFields::KIND && self.kind != Kind::Other => Reach::Whole,
            reach => reach,
        };
        Self {
            src: if has_src { self.src } else { [0; 2] },
            dst: if has_dst { self.dst } else { [0; 2] },
            number: if has_number { self.number } else { 0 },
            proto: if has_proto { self.proto } else { 0 },
            kind: self.kind,
            reach,
        }
    }

    /// All of it, for a hash and a comparison: different tuples have different words.
    #[inline(always)]
    pub fn words(&self) -> [u64; 5] {
        let rest = u64::from(self.number)
            | u64::from(self.proto) << PROTO_SHIFT
            | u64::from(self.kind as u8) << KIND_SHIFT
            | u64::from(self.reach as u8) << 32;
        [self.src[0], self.src[1], self.dst[0], self.dst[1], rest]
    }
}

/// A private header, of which only the first bytes are read.
#[derive(Clone, Copy)]
struct View<'a> {
    header: &'a Header,
    reach: usize,
}

impl View<'_> {
    fn byte(self, at: usize, end: usize) -> Option<u8> {
        self.header.byte(at, end.min(self.reach))
    }

    fn be16(self, at: usize, end: usize) -> Option<u16> {
        self.header.be16(at, end.min(self.reach))
    }

    fn be32(self, at: usize, end: usize) -> Option<u32> {
        self.header.be32(at, end.min(self.reach))
    }

    fn be64(self, at: usize, end: usize) -> Option<u64> {
        self.header.be64(at, end.min(self.reach))
    }
}

fn is_extension(next: u8) -> bool {
    matches!(next, HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT)
}

const _: () = assert!(
    ETHERNET_LEN as usize + 4 * TAGS_MAX + 60 + 4 <= REACH,
    "IPv4's ports are always in reach"
);

#[cfg(test)]
#[path = "tuple_tests.rs"]
mod tests;
