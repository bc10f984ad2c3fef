use etherparse::{NetSlice, SlicedPacket};
use proptest::prelude::*;

use super::*;
use crate::cache::key::{Key, Mask};

const FIELDS: [KeyFields; 5] = [
    KeyFields::KIND,
    KeyFields::SRC,
    KeyFields::DST,
    KeyFields::PROTO,
    KeyFields::NUMBER,
];

/// A frame in the making: what stands behind the addresses.
struct Frame(Vec<u8>);

impl Frame {
    fn new(n_tags: usize, ether_type: u16) -> Self {
        let mut bytes = vec![2; 12];
        for _ in 0..n_tags {
            bytes.extend([0x81, 0, 0, 5]);
        }
        bytes.extend(ether_type.to_be_bytes());
        Self(bytes)
    }

    fn v4(n_tags: usize, proto: u8, options: usize, fragment: u16, payload: &[u8]) -> Self {
        let mut frame = Self::new(n_tags, IPV4);
        let total = u16::try_from(20 + options * 4 + payload.len()).unwrap();
        frame.0.extend([0x45 + u8::try_from(options).unwrap(), 0]);
        frame.0.extend(total.to_be_bytes());
        frame.0.extend([0, 7]);
        frame.0.extend(fragment.to_be_bytes());
        frame.0.extend([64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.0.extend(vec![1; options * 4]);
        frame.0.extend(payload);
        frame
    }

    /// `extensions`: each with its number; what is next is filled in.
    fn v6(n_tags: usize, extensions: &[(u8, Vec<u8>)], proto: u8, payload: &[u8]) -> Self {
        let mut frame = Self::new(n_tags, IPV6);
        let n_bytes = extensions
            .iter()
            .map(|(_, bytes)| bytes.len())
            .sum::<usize>()
            + payload.len();
        let first = extensions.first().map_or(proto, |(number, _)| *number);
        frame.0.extend([0x60, 0, 0, 0]);
        frame
            .0
            .extend(u16::try_from(n_bytes).unwrap().to_be_bytes());
        frame.0.extend([first, 64]);
        frame.0.extend((0..32).map(|n| n + 1));
        for (k, (_, bytes)) in extensions.iter().enumerate() {
            frame
                .0
                .push(extensions.get(k + 1).map_or(proto, |(number, _)| *number));
            frame.0.extend(&bytes[1..]);
        }
        frame.0.extend(payload);
        frame
    }

    fn header(&self) -> Header {
        header_of(&self.0, 0xaa)
    }

    fn tuple(&self) -> Tuple {
        Tuple::parse(&self.header(), self.0.len())
    }
}

/// The private header of a frame, with something left over behind it.
fn header_of(bytes: &[u8], behind: u8) -> Header {
    let mut header = Header([behind; HEADER_MAX]);
    let n = bytes.len().min(HEADER_MAX);
    header.0[..n].copy_from_slice(&bytes[..n]);
    header
}

fn extension(n_words: usize) -> Vec<u8> {
    let mut bytes = vec![0; 8 + n_words * 8];
    bytes[1] = u8::try_from(n_words).unwrap();
    bytes
}

fn fragment(offset: u16, has_more: bool) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(has_more)).to_be_bytes();
    (FRAGMENT, vec![0, 0, high, low, 0, 0, 0, 9])
}

const PORTS: [u8; 8] = [0x13, 0x88, 0, 25, 0, 0, 0, 0];

#[test]
fn addresses_protocol_and_port_are_read_behind_tags_and_options() {
    for n_tags in 0..=2 {
        for options in [0, 3, 10] {
            let tuple = Frame::v4(n_tags, TCP, options, 0x4000, &PORTS).tuple();
            let expected = Tuple {
                src: [0, 0x0a00_0001],
                dst: [0, 0x0a00_0002],
                number: 25,
                proto: TCP,
                kind: Kind::V4,
                reach: Reach::Whole,
            };
            assert_eq!(tuple, expected);
        }
        let tuple = Frame::v6(n_tags, &[], UDP, &PORTS).tuple();
        assert_eq!((tuple.kind, tuple.proto, tuple.number), (Kind::V6, UDP, 25));
        assert_eq!(tuple.src, [0x0102_0304_0506_0708, 0x090a_0b0c_0d0e_0f10]);
        assert_eq!(tuple.dst, [0x1112_1314_1516_1718, 0x191a_1b1c_1d1e_1f20]);
    }
}

#[test]
fn icmp_has_a_type_in_its_own_family_alone() {
    let payload = [8, 0, 1, 2];
    assert_eq!(Frame::v4(0, ICMP, 0, 0, &payload).tuple().number, 8);
    assert_eq!(Frame::v6(0, &[], ICMP6, &payload).tuple().number, 8);
    assert_eq!(Frame::v4(0, ICMP6, 0, 0, &payload).tuple().number, 0);
    assert_eq!(Frame::v6(0, &[], ICMP, &payload).tuple().number, 0);
}

#[test]
fn later_fragment_has_a_protocol_and_no_port() {
    for tuple in [
        Frame::v4(0, UDP, 0, 0x2001, &PORTS).tuple(),
        Frame::v4(0, UDP, 0, 100, &PORTS).tuple(),
        Frame::v6(0, &[fragment(1, true)], UDP, &PORTS).tuple(),
        Frame::v6(
            0,
            &[(HOP_BY_HOP, extension(1)), fragment(100, false)],
            UDP,
            &[],
        )
        .tuple(),
    ] {
        assert_eq!(
            (tuple.proto, tuple.number, tuple.reach),
            (UDP, 0, Reach::LaterFragment)
        );
    }
}

#[test]
fn first_fragment_has_its_port_unless_it_is_too_short_for_it() {
    for (payload, number, reach) in [(&PORTS[..], 25, Reach::Whole), (&PORTS[..3], 0, Reach::Cut)] {
        for tuple in [
            Frame::v4(0, TCP, 0, 0x2000, payload).tuple(),
            Frame::v6(0, &[fragment(0, true)], TCP, payload).tuple(),
            Frame::v6(0, &[fragment(0, false)], TCP, payload).tuple(),
        ] {
            assert_eq!(
                (tuple.proto, tuple.number, tuple.reach),
                (TCP, number, reach)
            );
        }
    }
}

#[test]
fn extension_headers_are_passed_over_as_far_as_the_header_reaches() {
    let chain = |n_words: usize| {
        [
            (HOP_BY_HOP, extension(0)),
            (ROUTING, extension(0)),
            (DESTINATION, extension(n_words)),
        ]
    };
    // 54 bytes to the end of IPv6's header, 24 of shortest extensions, 4 of ports: 42 are left.
    assert_eq!(Frame::v6(0, &chain(5), TCP, &PORTS).tuple().number, 25);
    let beyond = Frame::v6(0, &chain(6), TCP, &PORTS).tuple();
    assert_eq!(
        (beyond.proto, beyond.reach),
        (TCP, Reach::Cut),
        "the protocol is known, the port out of reach"
    );
    let further = Frame::v6(
        0,
        &[(DESTINATION, extension(20)), (ROUTING, extension(0))],
        TCP,
        &PORTS,
    )
    .tuple();
    assert_eq!((further.proto, further.reach), (0, Reach::Addresses));
    assert_ne!(further.src, [0; 2]);
}

#[test]
fn chain_that_cannot_be_followed_has_no_protocol() {
    let mut too_long = Frame::v6(0, &[(DESTINATION, extension(0))], TCP, &PORTS);
    too_long.0[14 + IPV6_LEN + 1] = 9;
    for tuple in [
        too_long.tuple(),
        Frame::v6(0, &[fragment(0, true), fragment(0, true)], TCP, &PORTS).tuple(),
        Frame::v6(0, &[fragment(3, false)], DESTINATION, &PORTS).tuple(),
        Frame::v6(0, &[], FRAGMENT, &[TCP, 0, 0xff, 0xf8]).tuple(),
        Frame::v6(0, &[], ROUTING, &[]).tuple(),
    ] {
        assert_eq!(
            (tuple.proto, tuple.number, tuple.reach),
            (0, 0, Reach::Addresses)
        );
    }
}

#[test]
fn frame_that_is_not_what_its_type_claims_is_broken() {
    let whole = Frame::v4(0, TCP, 0, 0, &PORTS);
    let changed = |at: usize, byte: u8| {
        let mut frame = Frame(whole.0.clone());
        frame.0[14 + at] = byte;
        frame.tuple()
    };
    for tuple in [
        changed(0, 0x44),
        changed(0, 0x65),
        changed(0, 0x4f),
        changed(3, 19),
        changed(2, 1),
    ] {
        assert_eq!(
            tuple,
            Tuple {
                kind: Kind::V4,
                reach: Reach::Broken,
                ..Tuple::default()
            }
        );
    }
    for cut in 14..whole.0.len() {
        assert_eq!(
            Frame(whole.0[..cut].to_vec()).tuple().reach,
            Reach::Broken,
            "cut at {cut}"
        );
    }
    let v6 = Frame::v6(0, &[], TCP, &PORTS);
    for cut in 14..v6.0.len() {
        assert_eq!(
            Frame(v6.0[..cut].to_vec()).tuple().reach,
            Reach::Broken,
            "cut at {cut}"
        );
    }
    assert_eq!(
        Frame::v4(3, TCP, 0, 0, &PORTS).tuple().reach,
        Reach::Broken,
        "three tags"
    );
}

#[test]
fn datagram_ends_where_it_says_and_not_where_its_frame_does() {
    let mut padded = Frame::v4(0, TCP, 0, 0, &[]);
    padded.0.extend(PORTS);
    assert_eq!(
        (padded.tuple().number, padded.tuple().reach),
        (0, Reach::Cut)
    );
    let mut padded = Frame::v6(0, &[], TCP, &[0, 1]);
    padded.0.extend(PORTS);
    assert_eq!(
        (padded.tuple().number, padded.tuple().reach),
        (0, Reach::Cut)
    );
}

#[test]
fn other_frames_are_told_apart_by_their_type_alone() {
    assert_eq!(
        Frame::new(1, ARP).tuple(),
        Tuple {
            kind: Kind::Arp,
            ..Tuple::default()
        }
    );
    for ether_type in [0x0026, 0x88cc, 0x8847, 0x8864] {
        assert_eq!(Frame::new(0, ether_type).tuple(), Tuple::default());
    }
}

/// What etherparse says of a frame, as far as it says anything: addresses, protocol, port or type.
/// It takes AH for an extension header, and a length of zero for that of the frame, so such frames
/// are left out; and it reads on where the private header has ended.
fn oracle(bytes: &[u8]) -> Option<Tuple> {
    // Tags of other kinds, and MACsec, are no tags here: a host that isn't told otherwise doesn't
    // look into them either.
    let is_other_tag =
        |at: usize| matches!(bytes.get(at..at + 2), Some([0x91, 0x00] | [0x88, 0xe5]));
    if [12, 16, 20].into_iter().any(is_other_tag) {
        return None;
    }
    let packet = SlicedPacket::from_ethernet(bytes).ok()?;
    let (kind, src, dst, payload) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let address = |a: [u8; 4]| [0, u64::from(u32::from_be_bytes(a))];
            let (src, dst) = (ip.header().source(), ip.header().destination());
            if ip.extensions().auth.is_some() || ip.header().total_len() == 0 {
                return None;
            }
            (Kind::V4, address(src), address(dst), ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            let half = |a: &[u8]| {
                a.iter()
                    .fold(0u64, |word, &byte| word << 8 | u64::from(byte))
            };
            let address = |a: [u8; 16]| [half(&a[..8]), half(&a[8..])];
            let (src, dst) = (ip.header().source(), ip.header().destination());
            let is_ah = |e| matches!(e, etherparse::Ipv6ExtensionSlice::Authentication(_));
            if ip.header().payload_length() == 0 || ip.extensions().clone().into_iter().any(is_ah) {
                return None;
            }
            (Kind::V6, address(src), address(dst), ip.payload())
        }
        _ => return None,
    };
    let proto = payload.ip_number.0;
    let number = match (proto, kind) {
        (TCP | UDP | SCTP, _) => payload
            .payload
            .get(2..4)
            .map(|p| u16::from_be_bytes([p[0], p[1]])),
        (ICMP, Kind::V4) | (ICMP6, Kind::V6) => payload.payload.first().map(|&t| u16::from(t)),
        _ => Some(0),
    };
    let reach = if number.is_some() {
        Reach::Whole
    } else {
        Reach::Cut
    };
    Some(Tuple {
        src,
        dst,
        number: number.unwrap_or(0),
        proto,
        kind,
        reach,
    })
}

/// Frames of all kinds, most of them whole, some with bytes changed.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let proto = prop_oneof![
        Just(TCP),
        Just(UDP),
        Just(ICMP),
        Just(ICMP6),
        Just(SCTP),
        Just(47),
        Just(50),
        Just(59)
    ];
    let offset = prop_oneof![4 => Just(0u16), 1 => 1u16..200];
    let extension = (prop_oneof![Just(ROUTING), Just(DESTINATION)], 0usize..4)
        .prop_map(|(n, w)| (n, extension(w)));
    let fragment =
        (offset.clone(), any::<bool>()).prop_map(|(offset, more)| fragment(offset, more));
    let chain = (
        any::<bool>(),
        proptest::collection::vec(extension, 0..2),
        proptest::option::of(fragment),
    );
    let shape = (0usize..3, any::<bool>(), 0usize..11, chain);
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    let changes = proptest::collection::vec((12usize..100, any::<u8>()), 0..3);
    (
        shape,
        proto,
        offset,
        any::<bool>(),
        payload,
        prop_oneof![2 => Just(Vec::new()), 1 => changes],
    )
        .prop_map(
            |(
                (n_tags, is_v4, options, (has_hop, rest, fragment)),
                proto,
                offset,
                more,
                payload,
                changes,
            )| {
                let mut frame = if is_v4 {
                    Frame::v4(
                        n_tags,
                        proto,
                        options,
                        offset | u16::from(more) << 13,
                        &payload,
                    )
                } else {
                    let hop = has_hop.then(|| (HOP_BY_HOP, super::tests::extension(0)));
                    let chain: Vec<_> = hop.into_iter().chain(fragment).chain(rest).collect();
                    Frame::v6(n_tags, &chain, proto, &payload)
                };
                for (at, byte) in changes {
                    let n = frame.0.len();
                    frame.0[at % n] = byte;
                }
                frame.0
            },
        )
}

/// The fields whose bits are set.
fn set_of(bits: usize) -> KeyFields {
    (0..5)
        .filter(|k| bits >> k & 1 == 1)
        .fold(KeyFields::NONE, |all, k| all | FIELDS[k])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "thousands of cases, and files of its own")]
    fn what_is_read_is_what_etherparse_reads(bytes in any_frame()) {
        let tuple = Tuple::parse(&header_of(&bytes, 0), bytes.len());
        if let Some(expected) = oracle(&bytes) {
            // It knows the type only of frames with up to three tags.
            match tuple.reach {
                Reach::Whole => prop_assert_eq!(tuple, expected),
                Reach::LaterFragment => {
                    prop_assert_eq!((tuple.src, tuple.dst), (expected.src, expected.dst));
                    prop_assert_eq!(tuple.kind, expected.kind);
                    prop_assert_eq!(tuple.proto, expected.proto);
                }
                Reach::Cut => {
                    prop_assert_eq!((tuple.src, tuple.dst), (expected.src, expected.dst));
                    prop_assert_eq!(tuple.proto, expected.proto);
                    prop_assert!(expected.reach == Reach::Cut || bytes.len() > REACH);
                }
                Reach::Addresses => {
                    prop_assert_eq!((tuple.src, tuple.dst), (expected.src, expected.dst));
                }
                Reach::Broken => {
                    prop_assert!(false, "etherparse understands {:02x?}: {:?}", bytes, expected);
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of cases, and files of its own")]
    fn what_lies_behind_a_frame_is_never_read(
        bytes in any_frame(),
        cut in 14usize..160,
        behind in any::<u8>(),
    ) {
        let bytes = &bytes[..cut.min(bytes.len())];
        let tuple = Tuple::parse(&header_of(bytes, 0), bytes.len());
        prop_assert_eq!(tuple, Tuple::parse(&header_of(bytes, behind), bytes.len()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of cases, and files of its own")]
    fn tag_that_goes_changes_nothing_of_what_is_read(
        bytes in any_frame(),
        tag in any::<[u8; 2]>(),
    ) {
        let tagged = [&bytes[..12], &[0x88, 0xa8], &tag, &bytes[12..]].concat();
        let without = Tuple::parse(&header_of(&bytes, 0), bytes.len());
        prop_assert_eq!(Tuple::parse_behind(&header_of(&tagged, 0), tagged.len(), 1), without);
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of cases, and files of its own")]
    fn short_way_to_a_key_leads_to_the_same(
        bytes in any_frame(),
        cut in 14usize..160,
        n_popped in 0usize..2,
        fields in 1usize..32,
    ) {
        let bytes = &bytes[..cut.min(bytes.len())];
        let tag = [0x81, 0, 0, 9].repeat(n_popped);
        let bytes = [&bytes[..12], &tag, &bytes[12..]].concat();
        let fields = set_of(fields);
        let (header, mask) = (header_of(&bytes, 0xaa), Mask::new(fields));
        let words = Key::words_of(&header, 3);
        if let Some(key) = Key::ruled(words, &header, bytes.len(), n_popped, &mask) {
            prop_assert_eq!(key, Key::ruled_of_any(words, &header, bytes.len(), n_popped, &mask));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of cases, and files of its own")]
    fn words_and_cuts_say_what_the_tuple_says(
        a in any_frame(),
        b in any_frame(),
        fields in 0usize..32,
    ) {
        let fields = set_of(fields);
        let [a, b] = [a, b].map(|bytes| Tuple::parse(&header_of(&bytes, 0), bytes.len()));
        prop_assert_eq!(a == b, a.words() == b.words());
        prop_assert_eq!(a.cut(fields).cut(fields), a.cut(fields), "cutting twice is cutting once");
    }
}

#[test]
fn short_way_is_taken_by_most_frames() {
    let key = |frame: Frame, n_popped| {
        let (header, len) = (frame.header(), frame.0.len());
        Key::ruled(
            Key::words_of(&header, 1),
            &header,
            len,
            n_popped,
            &Mask::new(KeyFields::NUMBER),
        )
    };
    for proto in [TCP, UDP] {
        for fragment in [0, 0x4000, 0x2000] {
            assert!(key(Frame::v4(0, proto, 0, fragment, &PORTS), 0).is_some());
            assert!(
                key(Frame::v4(1, proto, 0, fragment, &PORTS), 1).is_some(),
                "behind a network's tag"
            );
        }
    }
    assert!(
        key(Frame::v4(0, TCP, 0, 0, &PORTS[..3]), 0).is_none(),
        "it ends before its ports do"
    );
}

#[test]
fn cut_keeps_what_was_asked_for() {
    let tuple = Frame::v4(0, TCP, 0, 0, &PORTS).tuple();
    assert_eq!(tuple.cut(KeyFields::NONE), Tuple::default());
    assert_eq!(
        tuple.cut(KeyFields::KIND),
        Tuple {
            kind: Kind::V4,
            ..Tuple::default()
        }
    );
    assert_eq!(
        tuple.cut(KeyFields::NUMBER),
        Tuple {
            src: [0; 2],
            dst: [0; 2],
            ..tuple
        }
    );
    assert_eq!(
        tuple.cut(KeyFields::SRC | KeyFields::DST | KeyFields::NUMBER),
        tuple
    );
    let later = Frame::v4(0, TCP, 0, 9, &PORTS).tuple();
    assert_eq!(
        later.cut(KeyFields::PROTO).reach,
        Reach::Whole,
        "who asks for no port sees no difference"
    );
}

#[test]
fn tuple_is_five_words() {
    assert_eq!(size_of::<Tuple>(), 40);
}
