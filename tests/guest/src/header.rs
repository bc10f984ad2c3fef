//! The virtio-net header that precedes each frame in a buffer (VIRTIO 1.2, 5.1.6).

/// Header of a VIRTIO 1 driver, or of a legacy one with mergeable buffers.
pub const HEADER_BYTES: usize = 12;
/// Header of a legacy driver without mergeable buffers: no `num_buffers`.
pub const LEGACY_HEADER_BYTES: usize = 10;
/// `flags`: checksum from `csum_start` on, put at `csum_offset`.
pub const NEEDS_CSUM: u8 = 1;
/// `flags`: checksums were checked.
pub const DATA_VALID: u8 = 2;

/// The fields, as numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetHeader {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// 0 none, 1 TCP over IPv4, 3 UDP, 4 TCP over IPv6; 0x80 ECN.
    pub gso_type: u8,
    /// Length of the headers to be repeated, a hint.
    pub hdr_len: u16,
    /// Payload bytes of a segment.
    pub gso_size: u16,
    /// Where the checksum begins.
    pub csum_start: u16,
    /// Where it goes, from `csum_start`.
    pub csum_offset: u16,
    /// Receive only: buffers that the frame is spread over.
    pub num_buffers: u16,
}

impl NetHeader {
    /// All twelve bytes; a legacy driver sends the first ten.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
            self.num_buffers,
        ];
        for (at, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From 10 or 12 bytes; without `num_buffers` it reads as 1.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
            num_buffers: if bytes.len() >= HEADER_BYTES {
                word(10)
            } else {
                1
            },
        }
    }

    /// Whether nothing is said but the number of buffers.
    pub fn is_plain(self) -> bool {
        self == Self {
            num_buffers: self.num_buffers,
            ..Self::default()
        }
    }
}
