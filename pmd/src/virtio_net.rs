//! The virtio-net header (VIRTIO 1.2, 5.1.6): the offload that a frame's sender requests, and the
//! number of buffers that a frame fills.

use crate::amount::Amount;
use crate::shm::Piece;

/// Bytes of the header with `num_buffers`: VERSION_1 or MRG_RXBUF was negotiated.
pub const HEADER_LEN: u32 = 12;
/// Bytes of a legacy guest's header without it.
pub const HEADER_LEN_LEGACY: u32 = 10;

const NEEDS_CSUM: u8 = 1;
/// UDP segmentation (USO), which VIRTIO 1.3 adds; everything else that asks for segmentation is
/// TCP, or UDP fragments (3).
const GSO_UDP_L4: u8 = 5;
const GSO_UDP: u8 = 3;
/// Marks a TCP flow with ECN; beside the type.
const GSO_ECN: u8 = 0x80;
const UDP_LEN: u32 = 8;
const TCP_LEN: u32 = 20;
/// The largest header of TCP, all options included.
const TCP_LEN_MAX: u32 = 60;

/// The offload that one frame requests. The same fields as the header has, read once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The checksum from `csum_start` to the end is to be stored at `csum_start + csum_offset`.
    pub needs_csum: bool,
    /// Segmentation requested; 0: none.
    pub gso_type: u8,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where checksumming starts, from the frame's first byte.
    pub csum_start: u16,
    /// Where the sum goes, from `csum_start`.
    pub csum_offset: u16,
}

impl Offload {
    /// From the first eight bytes of the header and the two after them, as little-endian words.
    #[inline(always)]
    pub fn parse(first: u64, then: u16) -> Self {
        let [flags, gso_type, _, _, size_lo, size_hi, start_lo, start_hi] = first.to_le_bytes();
        Self {
            needs_csum: flags & NEEDS_CSUM != 0,
            gso_type,
            gso_size: u16::from_le_bytes([size_lo, size_hi]),
            csum_start: u16::from_le_bytes([start_lo, start_hi]),
            csum_offset: then,
        }
    }

    /// As in a virtio-net header. Length of headers, a hint for segmentation alone, is left zero.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN_LEGACY as usize] {
        let flags = if self.needs_csum { NEEDS_CSUM } else { 0 };
        let ([a, b], [c, d], [e, f]) = (
            self.gso_size.to_le_bytes(),
            self.csum_start.to_le_bytes(),
            self.csum_offset.to_le_bytes(),
        );
        [flags, self.gso_type, 0, 0, a, b, c, d, e, f]
    }

    /// Whether the frame can go as it is.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        !self.needs_csum && self.gso_type == 0
    }
}

/// Writes the header of a frame that requests no offload to the beginning of `place`: zeros, and
/// how many buffers the frame fills. `header_len`: [`HEADER_LEN`] or [`HEADER_LEN_LEGACY`]; `place`
/// is as long.
#[inline(always)]
pub(crate) fn write_net_header(place: Piece, header_len: u32, n_buffers: u16) {
    if header_len == HEADER_LEN {
        assert!(place.len() >= HEADER_LEN);
        let last = u32::from(n_buffers) << 16;
        // Where the header ends a cache line, it is a line of its own, which is best left where it
        // is.
        let alone = (place.addr() + HEADER_LEN as usize).is_multiple_of(64);
        if !alone || place.load_u64(0) != 0 || place.load_u32(8) != last {
            place.store_u64(0, 0);
            place.store_u32(8, last);
        }
    } else {
        assert!(place.len() >= HEADER_LEN_LEGACY);
        place.store_u64(0, 0);
        place.store_u16(8, 0);
    }
}

/// The first eight bytes of the header at the beginning of `place`, and the two behind them.
#[inline(always)]
pub(crate) fn read_net_header(place: Piece) -> (u64, u16) {
    assert!(place.len() >= HEADER_LEN_LEGACY);
    (place.load_u64(0), place.load_u16(8))
}

/// What a frame of `len` bytes becomes on a wire, in frames and bytes without FCS: each segment has
/// all headers again.
///
/// `header`: the frame's first bytes. Where the headers end is found by `csum_start`, which
/// segmentation requires to lead to the transport header, and by what stands there; the sender's
/// own `hdr_len` is only a hint (VIRTIO 1.2, 5.1.6.2.1) and not looked at. What makes no sense
/// counts as it stands.
pub fn becomes(len: u32, offload: &Offload, header: &[u8]) -> Amount {
    let whole = Amount {
        n_frames: 1,
        n_bytes: len.into(),
    };
    let (start, size) = (u32::from(offload.csum_start), u32::from(offload.gso_size));
    let headers = start
        + match offload.gso_type & !GSO_ECN {
            0 => return whole,
            // Fragments of a datagram: all but the transport header comes again, and is part of the
            // payload once.
            GSO_UDP => 0,
            GSO_UDP_L4 => UDP_LEN,
            _ => tcp_len(header, usize::from(offload.csum_start)),
        };
    let Some(payload) = len
        .checked_sub(headers)
        .filter(|_| size > 0 && offload.needs_csum)
    else {
        return whole;
    };
    let n_segments = u64::from(payload.div_ceil(size).max(1));
    Amount {
        n_frames: n_segments,
        n_bytes: u64::from(len) + (n_segments - 1) * u64::from(headers),
    }
}

/// Bytes of the TCP header that begins at `start`; the least there is where it is out of sight.
fn tcp_len(header: &[u8], start: usize) -> u32 {
    let words = header
        .get(start + 12)
        .map_or(0, |byte| u32::from(byte >> 4));
    (4 * words).clamp(TCP_LEN, TCP_LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP frame's first bytes, with `n_options` bytes of options, and the offload it requests.
    fn tso(gso_type: u8, gso_size: u16, l3: u16, n_options: u8) -> (Offload, [u8; 128]) {
        let mut header = [0; 128];
        let start = 14 + l3;
        header[usize::from(start) + 12] = (5 + n_options / 4) << 4;
        (
            Offload {
                needs_csum: true,
                gso_type,
                gso_size,
                csum_start: start,
                csum_offset: 16,
            },
            header,
        )
    }

    fn amount(n_frames: u64, n_bytes: u64) -> Amount {
        Amount { n_frames, n_bytes }
    }

    #[test]
    fn segment_is_charged_for_what_it_becomes() {
        // 44 segments of 1448 bytes and one of 1, each with 14 + 20 + 32 bytes of headers.
        let (offload, header) = tso(1, 1448, 20, 12);
        let len = 66 + 44 * 1448 + 1;
        assert_eq!(
            becomes(len, &offload, &header),
            amount(45, 45 * 66 + 44 * 1448 + 1)
        );
        // Exactly full segments, IPv6, with ECN.
        let (offload, header) = tso(4 | 0x80, 1440, 40, 0);
        assert_eq!(
            becomes(74 + 10 * 1440, &offload, &header),
            amount(10, 10 * (74 + 1440))
        );
        // One segment, and none at all.
        let (offload, header) = tso(1, 1448, 20, 12);
        assert_eq!(becomes(66 + 100, &offload, &header), amount(1, 166));
        assert_eq!(becomes(66, &offload, &header), amount(1, 66));
    }

    #[test]
    fn udp_segments_have_eight_bytes_of_header_and_fragments_none() {
        let (offload, header) = tso(5, 1000, 20, 0);
        assert_eq!(
            becomes(42 + 2500, &offload, &header),
            amount(3, 3 * 42 + 2500)
        );
        let (offload, header) = tso(3, 1480, 20, 0);
        assert_eq!(
            becomes(34 + 8 + 8000, &offload, &header),
            amount(6, 6 * 34 + 8008)
        );
    }

    #[test]
    fn offload_that_makes_no_sense_counts_as_it_stands() {
        let (offload, header) = tso(1, 1448, 20, 12);
        let len = 60_000;
        for bad in [
            Offload {
                gso_size: 0,
                ..offload
            },
            Offload {
                csum_start: u16::MAX,
                ..offload
            },
            Offload {
                needs_csum: false,
                ..offload
            },
            Offload {
                gso_type: 0,
                ..offload
            },
            Offload {
                gso_type: 0x80,
                ..offload
            },
        ] {
            assert_eq!(becomes(len, &bad, &header), amount(1, 60_000), "{bad:?}");
        }
        // A header out of sight is taken for a short one, a segment size of a byte for what it is.
        let far = Offload {
            csum_start: 120,
            ..offload
        };
        assert_eq!(
            becomes(140 + 2000, &far, &header),
            amount(2, 2 * 140 + 2000)
        );
        let tiny = Offload {
            gso_size: 1,
            ..offload
        };
        assert_eq!(becomes(66 + 1000, &tiny, &header).n_frames, 1000);
        assert_eq!(becomes(0, &offload, &header), amount(1, 0));
    }

    #[test]
    fn fields_come_from_their_places() {
        let bytes = [1, 3, 54, 0, 0xb4, 5, 34, 0];
        let offload = Offload::parse(u64::from_le_bytes(bytes), 16);
        assert_eq!(
            offload,
            Offload {
                needs_csum: true,
                gso_type: 3,
                gso_size: 1460,
                csum_start: 34,
                csum_offset: 16
            }
        );
        assert!(!offload.is_empty());
        assert_eq!(offload.to_bytes(), [1, 3, 0, 0, 0xb4, 5, 34, 0, 16, 0]);
        assert!(Offload::parse(0, 0).is_empty());
        assert!(
            Offload::parse(2, 0).is_empty(),
            "a valid checksum asks for no offload"
        );
    }
}
