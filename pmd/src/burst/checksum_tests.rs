//! Against etherparse, which builds finished packets; they are unfinished by hand.

use etherparse::PacketBuilder;

use super::*;
use crate::shm::Piece;

/// What is varied.
#[derive(Clone, Copy, Debug)]
struct Case {
    is_v6: bool,
    is_tcp: bool,
    n_tags: usize,
    payload: usize,
}

/// A finished packet, and where its checksum stands.
fn packet(case: Case) -> (Vec<u8>, usize) {
    let payload: Vec<u8> = (0..case.payload)
        .map(|at| (at * 7 + at / 256 + 1) as u8)
        .collect();
    let start = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = if case.is_v6 {
        start.ipv6(
            std::array::from_fn(|at| at as u8),
            std::array::from_fn(|at| 200 + at as u8),
            64,
        )
    } else {
        start.ipv4([10, 1, 2, 3], [10, 255, 254, 253], 64)
    };
    let mut bytes = Vec::new();
    if case.is_tcp {
        ip.tcp(40_000, 80, 0x0102_0304, 5000)
            .write(&mut bytes, &payload)
            .unwrap();
    } else {
        ip.udp(40_000, 53).write(&mut bytes, &payload).unwrap();
    }
    for _ in 0..case.n_tags {
        bytes.splice(12..12, [0x81, 0, 0, 100]);
    }
    let transport = 14 + 4 * case.n_tags + if case.is_v6 { 40 } else { 20 };
    (bytes, transport + if case.is_tcp { 16 } else { 6 })
}

/// Leaves only the pseudo-header's sum, as a sender does: added up here word by word.
fn unfinish(bytes: &mut [u8], case: Case, place: usize) {
    let ip = 14 + 4 * case.n_tags;
    let (addresses, transport) = if case.is_v6 {
        (ip + 8..ip + 40, ip + 40)
    } else {
        (ip + 12..ip + 20, ip + 20)
    };
    let mut sum: u32 = bytes[addresses]
        .chunks(2)
        .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]))
        .sum();
    sum += (bytes.len() - transport) as u32 + if case.is_tcp { 6 } else { 17 };
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[place..place + 2].copy_from_slice(&(sum as u16).to_be_bytes());
}

/// A burst of this frame, cut into two pieces at `cut` where that is inside it.
fn burst(bytes: &mut [u8], cut: usize) -> Box<Burst> {
    let mut burst = Box::<Burst>::default();
    burst.n = 1;
    burst.lens[0] = bytes.len() as u32;
    let (first, second) = bytes.split_at_mut(cut.min(bytes.len()));
    burst.data[0] = Piece::of_private(first);
    if !second.is_empty() {
        burst.set_not_plain();
        burst.pieces.push(Piece::of_private(second));
        burst.more[0] = (0, 1);
    }
    burst.read_header(0);
    burst
}

fn offload_of(bytes: &[u8]) -> Option<Offload> {
    let mut header = Header::default();
    // What is left over from other frames must not count.
    header.0.fill(0xa5);
    let n = bytes.len().min(HEADER_MAX);
    header.0[..n].copy_from_slice(&bytes[..n]);
    partial(&header, bytes.len())
}

/// The frame after its checksum was finished.
fn finished(bytes: &[u8], offload: Offload, cut: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut burst = burst(&mut bytes, cut);
    burst.offloads[0] = offload;
    burst.with_offload = 1;
    complete(&mut burst, 0);
    assert_eq!(burst.with_offload, 0);
    let n = bytes.len().min(HEADER_MAX);
    let header = burst.headers[0].0;
    drop(burst);
    bytes[..n].copy_from_slice(&header[..n]);
    bytes
}

fn cases() -> impl Iterator<Item = Case> {
    let payloads = (0..70).chain([85, 86, 127, 128, 511, 512, 513, 1023, 1459, 1460, 3400]);
    payloads.flat_map(|payload| {
        (0..12).map(move |n| Case {
            is_v6: n % 2 == 1,
            is_tcp: n / 2 % 2 == 1,
            n_tags: n / 4,
            payload,
        })
    })
}

#[test]
fn partial_checksum_is_recognised_and_finished_whatever_the_length() {
    for case in cases() {
        let (whole, place) = packet(case);
        let mut bytes = whole.clone();
        unfinish(&mut bytes, case, place);
        let offload = offload_of(&bytes).unwrap_or_else(|| panic!("{case:?} was not recognised"));
        assert_eq!(
            usize::from(offload.csum_start + offload.csum_offset),
            place,
            "{case:?}"
        );
        for cut in [usize::MAX, 1, 37, 64, 96, 127, 128, 131, 132, 400] {
            assert_eq!(
                finished(&bytes, offload, cut),
                whole,
                "{case:?}, cut at {cut}"
            );
        }
    }
}

#[test]
fn finished_checksum_is_left_alone() {
    let mut n_same = 0;
    for case in cases() {
        let (whole, _) = packet(case);
        if let Some(offload) = offload_of(&whole) {
            // By chance the same: finishing it again changes nothing.
            n_same += 1;
            assert_eq!(finished(&whole, offload, usize::MAX), whole, "{case:?}");
        }
    }
    assert!(n_same < 10, "{n_same}");
}

#[test]
fn udp_without_a_checksum_keeps_none() {
    let case = Case {
        is_v6: false,
        is_tcp: false,
        n_tags: 0,
        payload: 20,
    };
    let (mut bytes, place) = packet(case);
    bytes[place..place + 2].fill(0);
    // Addresses whose pseudo-header adds up to zero, in the arithmetic of checksums.
    let sum = |bytes: &[u8]| {
        u16::from_be(fold(
            super::sum(&bytes[26..34]) + u64::from(28u32.to_be()) + u64::from(17u32.to_be()),
        ))
    };
    let rest = !sum(&[&bytes[..32], &[0, 0]].concat());
    bytes[32..34].copy_from_slice(&rest.to_be_bytes());
    assert_eq!(sum(&bytes), 0xffff);
    assert_eq!(offload_of(&bytes), None);
    bytes[place..place + 2].fill(0xff);
    assert!(offload_of(&bytes).is_some());
}

#[test]
fn udp_checksum_that_comes_to_zero_is_sent_as_all_ones() {
    let case = Case {
        is_v6: false,
        is_tcp: false,
        n_tags: 0,
        payload: 2,
    };
    let (mut bytes, place) = packet(case);
    // The payload takes up just what is missing.
    let rest = u16::from_be_bytes([bytes[place], bytes[place + 1]]);
    let end = bytes.len();
    let payload = u16::from_be_bytes([bytes[end - 2], bytes[end - 1]]);
    let sum = u32::from(rest) + u32::from(payload);
    let fitting = ((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[end - 2..].copy_from_slice(&fitting.to_be_bytes());
    unfinish(&mut bytes, case, place);
    let done = finished(&bytes, offload_of(&bytes).unwrap(), usize::MAX);
    assert_eq!(done[place..place + 2], [0xff, 0xff]);
}

#[test]
fn fragments_are_finished_by_who_cut_them() {
    for (at, value) in [(20, 0x20), (20, 0x01), (21, 0x01)] {
        let case = Case {
            is_v6: false,
            is_tcp: false,
            n_tags: 0,
            payload: 64,
        };
        let (mut bytes, place) = packet(case);
        unfinish(&mut bytes, case, place);
        bytes[20] &= 0xbf; // "don't fragment" is no fragment
        assert!(offload_of(&bytes).is_some());
        bytes[at] |= value;
        assert_eq!(offload_of(&bytes), None, "byte {at} with {value:#x}");
    }
    // A fragment header of IPv6.
    let case = Case {
        is_v6: true,
        is_tcp: false,
        n_tags: 0,
        payload: 64,
    };
    let (mut bytes, place) = packet(case);
    unfinish(&mut bytes, case, place);
    bytes[20] = 44;
    assert_eq!(offload_of(&bytes), None);
}

#[test]
fn options_of_ipv6_are_walked_past_within_bounds() {
    let case = Case {
        is_v6: true,
        is_tcp: true,
        n_tags: 0,
        payload: 30,
    };
    let (mut bytes, place) = packet(case);
    unfinish(&mut bytes, case, place);
    // Hop-by-hop options of eight bytes, of which the payload's length tells, not the
    // pseudo-header's.
    bytes.splice(54..54, [6, 0, 1, 4, 0, 0, 0, 0]);
    bytes[20] = 0;
    bytes[19] += 8;
    let offload = offload_of(&bytes).unwrap();
    assert_eq!((offload.csum_start, offload.csum_offset), (62, 16));
    bytes[55] = 255;
    assert_eq!(offload_of(&bytes), None, "options that leave the header");
    let mut many = bytes.clone();
    many[54..62].copy_from_slice(&[0, 0, 1, 4, 0, 0, 0, 0]);
    for _ in 0..6 {
        many.splice(54..54, [0, 0, 1, 4, 0, 0, 0, 0]);
    }
    assert_eq!(offload_of(&many), None, "more options than are walked past");
}

#[test]
fn padding_of_zeros_belongs_to_the_frame_and_anything_else_does_not() {
    let case = Case {
        is_v6: false,
        is_tcp: false,
        n_tags: 0,
        payload: 4,
    };
    let (whole, place) = packet(case);
    let mut bytes = whole.clone();
    unfinish(&mut bytes, case, place);
    bytes.resize(60, 0);
    let done = finished(&bytes, offload_of(&bytes).unwrap(), usize::MAX);
    assert_eq!(done[..whole.len()], whole);
    bytes[59] = 1;
    assert_eq!(offload_of(&bytes), None);
}

#[test]
fn truncated_and_malformed_headers_are_left_alone() {
    for n in 0..12 {
        let case = Case {
            is_v6: n % 2 == 1,
            is_tcp: n / 2 % 2 == 1,
            n_tags: n / 4,
            payload: 40,
        };
        let (mut bytes, place) = packet(case);
        unfinish(&mut bytes, case, place);
        for len in 14..bytes.len() {
            assert_eq!(offload_of(&bytes[..len]), None, "{case:?} cut to {len}");
        }
        let ip = 14 + 4 * case.n_tags;
        let mut wrong = bytes.clone();
        wrong[ip] ^= 0x20;
        assert_eq!(offload_of(&wrong), None, "{case:?} with another version");
        if !case.is_v6 {
            wrong = bytes.clone();
            wrong[ip] = 0x44;
            assert_eq!(offload_of(&wrong), None, "a header of 16 bytes");
            wrong = bytes.clone();
            wrong[ip + 2..ip + 4].copy_from_slice(&[0, 24]);
            assert_eq!(
                offload_of(&wrong),
                None,
                "a total length with no room for a transport header"
            );
        }
    }
}

#[test]
fn offload_that_leads_out_of_the_header_changes_nothing() {
    let (whole, _) = packet(Case {
        is_v6: false,
        is_tcp: true,
        n_tags: 0,
        payload: 300,
    });
    for (csum_start, csum_offset) in [(127, 0), (34, 200), (u16::MAX, u16::MAX), (340, 6)] {
        let offload = Offload {
            needs_csum: true,
            csum_start,
            csum_offset,
            ..Offload::default()
        };
        assert_eq!(finished(&whole, offload, usize::MAX), whole);
    }
}
