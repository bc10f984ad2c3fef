//! A flow's key: only what its decision can depend on.
//!
//! Flows of a port without rules differ by their MAC addresses alone, so a scan of hosts or ports
//! makes no new flows there. Where rules test more, the key holds exactly what they test
//! ([`Tuple::cut`]).

use crate::ids::PortId;
use crate::wire::header::{Header, TAG_LEN};
use crate::wire::tuple::{IPV4, KIND_SHIFT, KeyFields, Kind, PROTO_SHIFT, TCP, Tuple, UDP};

/// Words of a key. All but IPv6 flows fit into the first [`SHORT`] of them.
pub(crate) const LONG: usize = 7;
/// Words of a key other than an IPv6 flow's, whose rest is zero.
pub(crate) const SHORT: usize = 4;

/// A flow's key: both MAC addresses, the ingress port, whether there is a tag, and for a trunk the
/// VLAN id; then what rules test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key(pub(crate) [u64; LONG]);

/// Set in the second word for frames with a VLAN tag.
const TAGGED: u64 = 1 << 63;
/// Set in the second word always, so that an empty entry matches nothing.
const PRESENT: u64 = 1 << 62;
/// In the second word: the ingress port.
const PORT_SHIFT: u32 = 32;
/// In the second word: the VLAN id of a trunk's frames.
const VLAN_SHIFT: u32 = 48;

/// Which bits of a key's words rules can depend on.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    fields: KeyFields,
    /// Of the third word, where there is a port.
    numbers: u64,
    /// Of the fourth word, where it holds both addresses of IPv4.
    addresses: u64,
}

impl Mask {
    /// For rules that depend on `fields`.
    #[inline(always)]
    pub fn new(fields: KeyFields) -> Self {
        let bits = |wanted, bits: u64| if fields.holds(wanted) { bits } else { 0 };
        let numbers = 0xff << KIND_SHIFT
            | bits(KeyFields::PROTO, 0xff << PROTO_SHIFT)
            | bits(KeyFields::NUMBER, 0xffff);
        let addresses = bits(KeyFields::SRC, !0 << 32) | bits(KeyFields::DST, 0xffff_ffff);
        Self {
            fields,
            numbers,
            addresses,
        }
    }

    /// Whether the Ethernet header is enough.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.fields.is_none()
    }
}

/// The third and fourth word of the most common keys: TCP or UDP in IPv4 without options, not a
/// later fragment. None: any other frame, which takes [`Tuple::parse_behind`]; that gives the same
/// for these.
#[inline(always)]
fn plain_words(header: &Header, len: usize, n_popped: usize) -> Option<[u64; 2]> {
    let at = 14 + (n_popped & 1) * TAG_LEN as usize;
    let kind = u16::from_be_bytes([header.0[at - 2], header.0[at - 1]]);
    let ip: &[u8; 24] = header.0[at..].first_chunk()?;
    let be16 = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    let be32 = |at: usize| {
        u64::from(u32::from_be_bytes([
            ip[at],
            ip[at + 1],
            ip[at + 2],
            ip[at + 3],
        ]))
    };
    let (total_len, proto) = (usize::from(be16(2)), ip[9]);
    // Long enough for the ports, and not longer than the frame.
    let is_whole = total_len >= ip.len() && at + total_len <= len;
    let is_plain =
        kind == IPV4 && ip[0] == 0x45 && be16(6) & 0x1fff == 0 && matches!(proto, TCP | UDP);
    let numbers =
        u64::from(be16(22)) | u64::from(proto) << PROTO_SHIFT | (Kind::V4 as u64) << KIND_SHIFT;
    (is_plain && is_whole).then_some([numbers, be32(12) << 32 | be32(16)])
}

impl Key {
    /// The key with what rules depend on, of a frame of `len` bytes whose first `n_popped` tags (at
    /// most one) rules don't see. For the most common frames; None: use [`Key::ruled_of_any`].
    #[inline(always)]
    pub fn ruled(
        words: [u64; 2],
        header: &Header,
        len: usize,
        n_popped: usize,
        mask: &Mask,
    ) -> Option<Self> {
        let [numbers, addresses] = plain_words(header, len, n_popped)?;
        Some(Self([
            words[0],
            words[1],
            numbers & mask.numbers,
            addresses & mask.addresses,
            0,
            0,
            0,
        ]))
    }

    /// The same as [`Key::ruled`] for any frame.
    pub fn ruled_of_any(
        words: [u64; 2],
        header: &Header,
        len: usize,
        n_popped: usize,
        mask: &Mask,
    ) -> Self {
        Self::from_words(words).with(&Tuple::parse_behind(header, len, n_popped).cut(mask.fields))
    }

    /// The key without rules, from the frame's first two words: the second begins with the rest of
    /// the source address, then EtherType or tag.
    #[inline(always)]
    pub fn new(header: &Header, port: PortId) -> Self {
        Self::from_words(Self::words_of(header, port))
    }

    /// The words of a key without rules; the others are zero.
    #[inline(always)]
    pub fn words_of(header: &Header, port: PortId) -> [u64; 2] {
        let [first, second] = Self::words_without_tag(header, port);
        [first, second | if header.is_tagged() { TAGGED } else { 0 }]
    }

    /// The same for a frame without tag, or whose tag is ignored.
    #[inline(always)]
    pub(crate) fn words_without_tag(header: &Header, port: PortId) -> [u64; 2] {
        let words = header.words();
        [
            words.0,
            words.1 & 0xffff_ffff | u64::from(port) << PORT_SHIFT | PRESENT,
        ]
    }

    /// The same for a trunk's frame, with its VLAN id.
    #[inline(always)]
    pub(crate) fn words_of_trunk(header: &Header, port: PortId) -> [u64; 2] {
        let [first, second] = Self::words_of(header, port);
        [first, second | u64::from(header.vlan()) << VLAN_SHIFT]
    }

    /// The key with these words.
    #[inline(always)]
    pub(crate) fn from_words([first, second]: [u64; 2]) -> Self {
        Self([first, second, 0, 0, 0, 0, 0])
    }

    /// The key with what rules depend on.
    #[inline(always)]
    #[must_use]
    pub fn with(self, tuple: &Tuple) -> Self {
        let [first, second, ..] = self.0;
        let [src_hi, src_lo, dst_hi, dst_lo, rest] = tuple.words();
        match tuple.kind {
            Kind::V6 => Self([first, second, rest, src_hi, src_lo, dst_hi, dst_lo]),
            // Addresses are half a word, or absent.
            Kind::V4 | Kind::Arp | Kind::Other => {
                Self([first, second, rest, src_lo << 32 | dst_lo, 0, 0, 0])
            }
        }
    }

    /// Whether the frame had a VLAN tag.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        self.0[1] & TAGGED != 0
    }

    /// The port that the flow comes in by.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub fn port(&self) -> PortId {
        (self.0[1] >> PORT_SHIFT) as u16
    }

    /// Whether it takes more than [`SHORT`] words.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn is_long(&self) -> bool {
        (self.0[2] >> KIND_SHIFT) as u8 == Kind::V6 as u8
    }

    /// The first words.
    #[inline(always)]
    pub(crate) fn short(&self) -> [u64; SHORT] {
        let [a, b, c, d, ..] = self.0;
        [a, b, c, d]
    }

    /// The other words.
    #[inline(always)]
    pub(crate) fn long(&self) -> [u64; LONG - SHORT] {
        let [.., e, f, g] = self.0;
        [e, f, g]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::wire::tuple::KeyFields;
    use proptest::prelude::*;

    fn header(bytes: &[u8]) -> Header {
        let mut header = Header::default();
        header.0[..bytes.len()].copy_from_slice(bytes);
        header
    }

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    fn udp(src: [u8; 4], port: u8) -> Header {
        let ip = [8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        header(&[&MACS[..], &ip, &src, &[10, 0, 0, 2], &[0, 1, 0, port]].concat())
    }

    #[test]
    fn keys_of_two_ports_differ_even_for_the_same_addresses() {
        let frame = udp([10, 0, 0, 1], 2);
        assert_ne!(Key::new(&frame, 1), Key::new(&frame, 2));
        assert_eq!(Key::new(&frame, 513).port(), 513);
        assert_ne!(
            Key::new(&Header::default(), 0),
            Key::default(),
            "an empty entry is no flow"
        );
    }

    #[test]
    fn tag_tells_flows_apart_and_the_type_behind_the_addresses_does_not() {
        let kinds = [[0x81, 0], [0x88, 0xa8], [8, 0], [0x86, 0xdd]];
        let keys = kinds.map(|kind| Key::new(&header(&[&MACS[..], &kind].concat()), 1));
        assert!(keys[0].is_tagged() && keys[1].is_tagged() && !keys[2].is_tagged());
        assert!(keys[0] == keys[1] && keys[2] == keys[3] && keys[0] != keys[2]);
    }

    #[test]
    fn scan_makes_flows_only_where_rules_ask_for_it() {
        let flows = |fields| {
            let frames =
                (0..10).flat_map(|host| (0..10).map(move |port| udp([10, 0, 0, host], port)));
            let keys =
                frames.map(|frame| Key::new(&frame, 1).with(&Tuple::parse(&frame, 60).cut(fields)));
            keys.collect::<std::collections::HashSet<_>>().len()
        };
        let fields = [
            KeyFields::NONE,
            KeyFields::KIND,
            KeyFields::SRC,
            KeyFields::NUMBER,
            KeyFields::SRC | KeyFields::NUMBER,
        ];
        assert_eq!(fields.map(flows), [1, 1, 10, 10, 100]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn different_tuples_make_different_keys(
            words in any::<[[u64; 2]; 4]>(),
            numbers in any::<[(u16, u8); 2]>(),
            kinds in [0usize..4, 0..4],
            few in any::<bool>(),
        ) {
            let tuple = |at: usize| {
                let kind = [Kind::Other, Kind::Arp, Kind::V4, Kind::V6][kinds[at]];
                let address = |[hi, lo]: [u64; 2]| match kind {
                    Kind::V6 if few => [hi % 2, lo % 2],
                    Kind::V6 => [hi, lo],
                    Kind::V4 => [0, lo & if few { 1 } else { 0xffff_ffff }],
                    Kind::Arp | Kind::Other => [0, 0],
                };
                let (src, dst) = (address(words[at]), address(words[at + 2]));
                let (number, proto) = numbers[at];
                let (number, proto) = if few { (number % 2, proto % 2) } else { (number, proto) };
                Tuple { src, dst, number, proto, kind, ..Tuple::default() }
            };
            let keys = [0, 1].map(|at| Key::new(&header(&MACS), 1).with(&tuple(at)));
            prop_assert_eq!(tuple(0) == tuple(1), keys[0] == keys[1]);
            prop_assert_eq!(keys[0].is_long(), kinds[0] == 3);
        }
    }
}
