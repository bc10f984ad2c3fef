//! A descriptor of a split virtqueue (VIRTIO 1.2, 2.7.5).

/// A descriptor, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

impl Descriptor {
    /// From its two words.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn new(addr: u64, word: u64) -> Self {
        Self {
            addr,
            len: word as u32,
            flags: (word >> 32) as u16,
            next: (word >> 48) as u16,
        }
    }
}
