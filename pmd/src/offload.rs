//! What a frame's sender wishes to be done to it, as the virtio-net header says it (VIRTIO 1.2, 5.1.6).

/// Bytes of the header with `num_buffers`: VERSION_1 or MRG_RXBUF was negotiated.
pub const HEADER_LEN: u32 = 12;
/// Bytes of a legacy guest's header without it.
pub const HEADER_LEN_LEGACY: u32 = 10;

const NEEDS_CSUM: u8 = 1;

/// Wishes of one frame. The same fields as the header has, read once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The checksum from `csum_start` to the end is to be stored at `csum_start + csum_offset`.
    pub needs_csum: bool,
    /// Segmentation asked for; 0: none.
    pub gso_type: u8,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where checksumming starts, from the frame's first byte.
    pub csum_start: u16,
    /// Where the sum goes, from `csum_start`.
    pub csum_offset: u16,
}

impl Wishes {
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

    /// As they stand in a virtio-net header. Length of headers, a hint for segmentation alone, is left zero.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN_LEGACY as usize] {
        let flags = if self.needs_csum { NEEDS_CSUM } else { 0 };
        let ([a, b], [c, d], [e, f]) =
            (self.gso_size.to_le_bytes(), self.csum_start.to_le_bytes(), self.csum_offset.to_le_bytes());
        [flags, self.gso_type, 0, 0, a, b, c, d, e, f]
    }

    /// Whether the frame can go as it is.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        !self.needs_csum && self.gso_type == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_from_their_places() {
        let bytes = [1, 3, 54, 0, 0xb4, 5, 34, 0];
        let wishes = Wishes::parse(u64::from_le_bytes(bytes), 16);
        assert_eq!(wishes, Wishes { needs_csum: true, gso_type: 3, gso_size: 1460, csum_start: 34, csum_offset: 16 });
        assert!(!wishes.is_empty());
        assert_eq!(wishes.to_bytes(), [1, 3, 0, 0, 0xb4, 5, 34, 0, 16, 0]);
        assert!(Wishes::parse(0, 0).is_empty());
        assert!(Wishes::parse(2, 0).is_empty(), "a valid checksum is no wish");
    }
}
