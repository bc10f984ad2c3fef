//! Explicit congestion notification: a queue that fills says so to senders that listen, before it
//! has to drop.
//!
//! Source: RFC 3168 (the two bits and where they are), RFC 1624 (the checksum of what differs in
//! one word).

use flowtable::Header;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// Congestion experienced; the other values but 0 are of a transport that understands it.
const CE: u8 = 3;

/// Marks a frame of `len` bytes whose transport understands it; gives whether it is marked now. For
/// IPv4 and IPv6, behind two tags at most.
pub(crate) fn mark(header: &mut Header, len: usize) -> bool {
    let n_seen = len.min(header.0.len());
    let bytes = &mut header.0[..n_seen];
    let be16 =
        |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let mut at = 12;
    let mut kind = be16(bytes, at);
    for _ in 0..2 {
        if kind.is_some_and(|kind| TAGS.contains(&kind)) {
            at += 4;
            kind = be16(bytes, at);
        }
    }
    let ip = &mut bytes[(at + 2).min(n_seen)..];
    match kind {
        Some(IPV4) if ip.len() >= 20 && ip[0] >> 4 == 4 => mark_ipv4(ip),
        Some(IPV6) if ip.len() >= 40 && ip[0] >> 4 == 6 => {
            let is_capable = ip[1] >> 4 & CE != 0;
            ip[1] |= if is_capable { CE << 4 } else { 0 };
            is_capable
        }
        _ => false,
    }
}

fn mark_ipv4(ip: &mut [u8]) -> bool {
    if ip[1] & CE == 0 {
        return false;
    }
    let before = u16::from_be_bytes([ip[0], ip[1]]);
    ip[1] |= CE;
    let after = u16::from_be_bytes([ip[0], ip[1]]);
    let mut sum =
        u32::from(!u16::from_be_bytes([ip[10], ip[11]])) + u32::from(!before) + u32::from(after);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, hi, lo] = (!sum).to_be_bytes();
    [ip[10], ip[11]] = [hi, lo];
    true
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "16 bits of a sum")]
mod tests {
    use super::*;

    /// A frame's first bytes: so many tags, an IPv4 header with this type of service, its checksum
    /// right.
    fn ipv4(n_tags: usize, tos: u8) -> Header {
        let mut bytes = vec![2; 12];
        (0..n_tags).for_each(|_| bytes.extend([0x81, 0, 0, 7]));
        bytes.extend([8, 0]);
        let at = bytes.len();
        bytes.extend([
            0x45, tos, 1, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 192, 168, 3, 4,
        ]);
        let sum = !sum(&bytes[at..]);
        bytes[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
        let mut header = Header::default();
        header.0[..bytes.len()].copy_from_slice(&bytes);
        header
    }

    fn sum(bytes: &[u8]) -> u16 {
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn ipv4_is_marked_behind_any_tags_and_its_checksum_stays_right() {
        for n_tags in 0..3 {
            for tos in 0..=255u8 {
                let mut header = ipv4(n_tags, tos);
                let at = 14 + 4 * n_tags;
                assert_eq!(mark(&mut header, 300), tos & 3 != 0);
                let marked = if tos & 3 != 0 { tos | 3 } else { tos };
                assert_eq!(header.0[at + 1], marked);
                assert_eq!(
                    sum(&header.0[at..at + 20]),
                    0xffff,
                    "{n_tags} tags, {tos:#x}"
                );
            }
        }
        assert!(
            !mark(&mut ipv4(3, 2), 300),
            "nobody looks behind a third tag"
        );
        assert!(!mark(&mut ipv4(0, 2), 33), "the header is not all there");
    }

    #[test]
    fn ipv6_is_marked_and_what_is_no_ip_is_left_alone() {
        let mut header = Header::default();
        header.0[12..18].copy_from_slice(&[0x86, 0xdd, 0x6a, 0x9b, 0xcd, 0xef]);
        for (ecn, marked) in [(0x80, 0x80), (0x90, 0xb0), (0xa0, 0xb0), (0xb0, 0xb0)] {
            header.0[15] = ecn | 0xb;
            assert_eq!(mark(&mut header, 100), ecn != 0x80);
            assert_eq!(
                header.0[12..18],
                [0x86, 0xdd, 0x6a, marked | 0xb, 0xcd, 0xef]
            );
        }
        for kind in [[8, 6], [0x88, 0xb5]] {
            let mut header = ipv4(0, 2);
            header.0[12..14].copy_from_slice(&kind);
            let before = header.0;
            assert!(!mark(&mut header, 100) && header.0 == before);
        }
    }
}
