//! Numbered frames: each says who sent it, and how many were sent before it. So whoever gets them
//! notices each that is missing, comes twice or comes late, at the rate of lean rings.

use crate::stack::Mac;

/// Where in a frame its number is, sixteen bytes: behind the headers of UDP, so that frames are one
/// flow.
pub const AT: usize = 42;
/// Shortest frame with a number.
pub const FRAME_LEAST: usize = 60;
/// Tells numbers from other bytes.
const MAGIC: u64 = 0x4e57;

/// What of the frames of one sender has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    source: u64,
    next: u64,
    /// Frames with the number that was due, or a higher one.
    pub n_good: u64,
    /// Numbers that were left out. One that comes later counts as late, too.
    pub n_missing: u64,
    /// Frames with a number that was due before.
    pub n_late: u64,
    /// Frames of others, or without a number.
    pub n_other: u64,
}

impl Numbers {
    /// Of frames with this source address.
    pub fn of(source: Mac) -> Self {
        Self {
            source: tag(source.0),
            ..Self::default()
        }
    }

    /// A frame with these sixteen bytes at [`AT`] has come.
    #[inline]
    pub fn take(&mut self, word: u128) {
        let [number, source] = halves(word);
        if source != self.source {
            self.n_other += 1;
        } else if number < self.next {
            self.n_late += 1;
        } else {
            self.n_missing += number - self.next;
            self.n_good += 1;
            self.next = number + 1;
        }
    }

    /// A frame has come that is too short for a number.
    pub fn take_short(&mut self) {
        self.n_other += 1;
    }

    /// Whether nothing was left out, came twice or came late.
    pub fn is_clean(&self) -> bool {
        (self.n_missing, self.n_late) == (0, 0)
    }
}

/// The sixteen bytes of the first frame of this sender; each number more adds one.
pub(crate) fn word(source: [u8; 6]) -> u128 {
    u128::from(tag(source)) << 64
}

/// The source address of a frame.
pub(crate) fn source(frame: &[u8]) -> [u8; 6] {
    std::array::from_fn(|at| frame[6 + at])
}

fn tag(source: [u8; 6]) -> u64 {
    source
        .iter()
        .fold(MAGIC, |tag, byte| tag << 8 | u64::from(*byte))
}

fn halves(word: u128) -> [u64; 2] {
    let half = |word: u128| u64::try_from(word & u128::from(u64::MAX)).expect("masked");
    [half(word), half(word >> 64)]
}
