//! The private header of a frame, and its parsing.
//!
//! The bytes are copied out of the guest's memory before they are read, and the frame is sent from
//! them, so the guest can't change them after the decision.

/// Bytes of a frame that are copied into the private header.
pub const HEADER_MAX: usize = 128;
/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: u32 = 14;
/// Bytes of a VLAN tag.
pub const TAG_LEN: u32 = 4;

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// The first [`HEADER_MAX`] bytes of a frame, on cache lines of their own. Bytes beyond the frame's
/// length are left over from earlier frames and mean nothing.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Header(pub [u8; HEADER_MAX]);

impl Default for Header {
    fn default() -> Self {
        Self([0; HEADER_MAX])
    }
}

impl Header {
    /// Destination address.
    #[inline(always)]
    pub fn dst(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.0;
        [a, b, c, d, e, f]
    }

    /// Source address.
    #[inline(always)]
    pub fn src(&self) -> [u8; 6] {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = self.0;
        [a, b, c, d, e, f]
    }

    /// EtherType or tag protocol.
    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }

    /// Whether the frame carries a VLAN tag (802.1Q or 802.1ad).
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        is_tag(self.ethertype())
    }

    /// The VLAN id of the outer tag; 0: no tag, or a priority tag.
    #[inline(always)]
    pub(crate) fn vlan(&self) -> u16 {
        if self.is_tagged() {
            u16::from_be_bytes([self.0[14], self.0[15]]) & 0xfff
        } else {
            0
        }
    }

    /// Whether a frame of `len` bytes has a priority tag, of VLAN 0, and no other. A tag of VLAN 0
    /// around another tag is none: without it the frame would be in the other's VLAN.
    pub fn is_priority_tagged(&self, len: usize) -> bool {
        self.is_tagged()
            && self.vlan() == 0
            && self.be16(16, len).is_some_and(|inner| !is_tag(inner))
    }

    /// How many VLAN tags the frame of `len` bytes carries; counts at most two.
    pub(crate) fn n_tags(&self, len: usize) -> u32 {
        let has_tag = |at: usize| self.be16(at, len).is_some_and(is_tag);
        if !has_tag(12) {
            0
        } else {
            1 + u32::from(has_tag(16))
        }
    }

    /// The first sixteen bytes as two words: both addresses, then what follows them.
    #[inline(always)]
    pub(crate) fn words(&self) -> (u64, u64) {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| self.0[at + i]));
        (word(0), word(8))
    }

    /// The byte at `at` of a frame of `len` bytes; None beyond the end of frame or header.
    pub(crate) fn byte(&self, at: usize, len: usize) -> Option<u8> {
        (at < len.min(HEADER_MAX)).then(|| self.0[at])
    }

    pub(crate) fn be16(&self, at: usize, len: usize) -> Option<u16> {
        (at + 2 <= len.min(HEADER_MAX)).then(|| u16::from_be_bytes([self.0[at], self.0[at + 1]]))
    }

    pub(crate) fn be32(&self, at: usize, len: usize) -> Option<u32> {
        Some(u32::from(self.be16(at, len)?) << 16 | u32::from(self.be16(at + 2, len)?))
    }

    pub(crate) fn be64(&self, at: usize, len: usize) -> Option<u64> {
        Some(u64::from(self.be32(at, len)?) << 32 | u64::from(self.be32(at + 4, len)?))
    }
}

/// Whether this is a VLAN tag's protocol (802.1Q or 802.1ad).
#[inline(always)]
pub(crate) fn is_tag(kind: u16) -> bool {
    matches!(kind, VLAN | QINQ)
}

/// A hash that is the same for both directions of a flow: of addresses and ports of IPv4 or IPv6
/// behind up to two VLAN tags, otherwise of the MAC addresses. Fragments hash by addresses alone,
/// so that all of a datagram goes one way.
///
/// `len`: bytes of the frame; never reads beyond it or beyond the header.
pub fn symmetric_hash(header: &Header, len: usize) -> u32 {
    tuple(header, len).unwrap_or_else(|| {
        let half = |a: [u8; 6]| {
            a.iter().fold(0u32, |sum, &b| {
                sum.wrapping_mul(31).wrapping_add(u32::from(b))
            })
        };
        mix(half(header.src()) ^ half(header.dst()))
    })
}

fn tuple(header: &Header, len: usize) -> Option<u32> {
    let mut at = 12;
    let mut kind = header.be16(at, len)?;
    for _ in 0..2 {
        if is_tag(kind) {
            at += 4;
            kind = header.be16(at, len)?;
        }
    }
    at += 2;
    match kind {
        IPV4 => {
            let words = header.be32(at + 12, len)? ^ header.be32(at + 16, len)?;
            let header_len = usize::from(header.0[at] & 15) * 4;
            let fragment = header.be16(at + 6, len)? & 0x3fff != 0;
            let ports = if fragment || header_len < 20 {
                0
            } else {
                ports(header, at + header_len, header.0[at + 9], len)
            };
            Some(mix(words ^ ports))
        }
        IPV6 => {
            let mut words = 0;
            for half in 0..8 {
                words ^= header.be32(at + 8 + 4 * half, len)?;
            }
            Some(mix(words ^ ports(header, at + 40, header.0[at + 6], len)))
        }
        _ => None,
    }
}

/// Both ports, folded so that their order does not matter.
fn ports(header: &Header, at: usize, protocol: u8, len: usize) -> u32 {
    if !matches!(protocol, TCP | UDP | SCTP) {
        return 0;
    }
    match (header.be16(at, len), header.be16(at + 2, len)) {
        (Some(a), Some(b)) => u32::from(a ^ b) << 16 | u32::from(a.wrapping_add(b)),
        _ => 0,
    }
}

/// Spreads a difference in a few bits over all of them.
fn mix(word: u32) -> u32 {
    let word = (word ^ word >> 16).wrapping_mul(0x45d9_f3b5);
    let word = (word ^ word >> 15).wrapping_mul(0x2c1b_3c6d);
    word ^ word >> 16
}

/// Makes a full-width seed of any number (the finaliser of SplitMix64).
pub(crate) fn spread(seed: u64) -> u64 {
    let word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(src: [u8; 4], dst: [u8; 4], ports: [u16; 2], tags: usize) -> (Header, usize) {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for _ in 0..tags {
            bytes.extend([0x81, 0, 0, 5]);
        }
        bytes.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0]);
        bytes.extend(src);
        bytes.extend(dst);
        bytes.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
        bytes.extend([0; 8]);
        let mut header = Header::default();
        header.0[..bytes.len()].copy_from_slice(&bytes);
        (header, bytes.len())
    }

    #[test]
    fn both_directions_of_a_flow_hash_alike_behind_any_number_of_tags() {
        for tags in 0..3 {
            let (there, len) = udp([10, 0, 0, 1], [10, 0, 0, 2], [1000, 53], tags);
            let (back, _) = udp([10, 0, 0, 2], [10, 0, 0, 1], [53, 1000], tags);
            assert_eq!(symmetric_hash(&there, len), symmetric_hash(&back, len));
            let (other, _) = udp([10, 0, 0, 1], [10, 0, 0, 2], [1001, 53], tags);
            assert_ne!(symmetric_hash(&there, len), symmetric_hash(&other, len));
        }
    }

    #[test]
    fn flows_spread_evenly_over_queues() {
        let mut counts = [0u16; 4];
        let n: u16 = if cfg!(miri) { 200 } else { 4000 };
        for port in 0..n {
            let (header, len) = udp([10, 0, 0, 1], [10, 0, 0, 2], [port, 53], 0);
            counts[symmetric_hash(&header, len) as usize % 4] += 1;
        }
        assert!(
            counts
                .iter()
                .all(|&count| (n / 5..n * 3 / 10).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn fragments_of_one_datagram_hash_alike() {
        let (mut first, len) = udp([10, 0, 0, 1], [10, 0, 0, 2], [1000, 53], 0);
        first.0[20] = 0x20;
        let (mut second, _) = udp([10, 0, 0, 1], [10, 0, 0, 2], [7777, 9], 0);
        second.0[21] = 100;
        assert_eq!(symmetric_hash(&first, len), symmetric_hash(&second, len));
    }

    #[test]
    fn frame_cut_anywhere_hashes_without_reading_what_is_not_there() {
        let (header, len) = udp([10, 0, 0, 1], [10, 0, 0, 2], [1000, 53], 1);
        for cut in 0..=len {
            let mut other = header;
            other.0[cut.max(14)..].fill(0xaa);
            if cut >= 14 {
                assert_eq!(
                    symmetric_hash(&header, cut),
                    symmetric_hash(&other, cut),
                    "cut at {cut}"
                );
            }
        }
    }
}
