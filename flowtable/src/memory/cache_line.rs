//! Cache lines of atomic words, zero at first; the system provides their pages when they are
//! touched.

use std::ptr::NonNull;

use crate::memory::sync::{AtomicU64, Ordering};

/// Words of a line.
pub(crate) const WORDS: usize = 8;

/// A line.
pub(crate) type Line = [AtomicU64; WORDS];

/// Bytes of a large page.
const LARGE_PAGE: usize = 2 << 20;
/// Bytes of a cache line.
const LINE_BYTES: usize = WORDS * size_of::<AtomicU64>();

/// Atomic words, shared by all threads. They begin at a cache line; if they fill a large page, they
/// begin and end at large pages, so that all of them can be in such pages.
#[derive(Debug)]
pub(crate) struct Words {
    /// The whole box: more words than requested, some of them before the first one.
    all: NonNull<[AtomicU64]>,
    first: NonNull<AtomicU64>,
    n: usize,
}

// SAFETY: it owns a box of atomic words, which threads may send and share.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: it came from a box, in `new`, and no reference to it can exist any more.
        drop(unsafe { Box::from_raw(self.all.as_ptr()) });
    }
}

impl Words {
    pub(crate) fn new(n: usize) -> Self {
        let is_large = size_of::<AtomicU64>() * n >= LARGE_PAGE;
        let begin = if is_large { LARGE_PAGE } else { LINE_BYTES };
        let words = if cfg!(loom) {
            1
        } else {
            begin / size_of::<AtomicU64>()
        };
        let all = NonNull::from(Box::leak(zeroed(n.next_multiple_of(words) + words)));
        let before =
            all.cast::<AtomicU64>().addr().get().wrapping_neg() % begin / size_of::<AtomicU64>();
        let before = if cfg!(loom) { 0 } else { before };
        assert!(before + n <= all.len());
        // SAFETY: that many words are there, which was just asserted.
        let first = unsafe { all.cast::<AtomicU64>().add(before) };
        Self { all, first, n }
    }

    /// Their address and length in bytes.
    pub(crate) fn span(&self) -> (usize, usize) {
        (self.as_ptr().addr(), size_of_val(&**self))
    }
}

impl std::ops::Deref for Words {
    type Target = [AtomicU64];

    #[inline(always)]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `n` words are there (see `new`), until this is dropped.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.n) }
    }
}

/// Cache lines, shared by all threads.
#[derive(Debug)]
pub(crate) struct Lines(Words);

impl Lines {
    pub(crate) fn new(n: usize) -> Self {
        Self(Words::new(n * WORDS))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.n / WORDS
    }

    /// The line with this number.
    ///
    /// # Panics
    /// If there is none.
    #[inline(always)]
    pub(crate) fn line(&self, n: usize) -> &Line {
        assert!(n * WORDS < self.0.n, "a line of those that were made");
        // SAFETY: there are whole lines, and this one is among them. Not through the slice of all
        // words, which Miri would check word by word.
        unsafe { self.0.first.add(n * WORDS).cast::<Line>().as_ref() }
    }

    /// Prefetches a line.
    #[inline(always)]
    pub(crate) fn prefetch(&self, n: usize) {
        prefetch(&self.line(n)[0]);
    }

    /// Their address and length in bytes.
    pub(crate) fn span(&self) -> (usize, usize) {
        self.0.span()
    }
}

/// Atomic words, all zero.
#[cfg(not(loom))]
pub(crate) fn zeroed(n: usize) -> Box<[AtomicU64]> {
    // SAFETY: an atomic word is valid with any bytes, zeros included.
    unsafe { Box::new_zeroed_slice(n).assume_init() }
}

#[cfg(loom)]
pub(crate) fn zeroed(n: usize) -> Box<[AtomicU64]> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

/// Prefetches the cache line of a word.
#[inline(always)]
pub(crate) fn prefetch(word: &AtomicU64) {
    #[cfg(not(any(loom, miri)))]
    // SAFETY: a prefetch has no visible effect, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
    }
    let _ = word;
}

/// A value on cache lines of its own, against false sharing: two lines, since they are prefetched
/// in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// A count that only goes up, written by one thread and read by others.
#[derive(Debug, Default)]
pub(crate) struct Count(std::sync::atomic::AtomicU64);

impl Count {
    /// Called by the one writer.
    #[inline(always)]
    pub(crate) fn add(&self, n: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_where_cache_lines_do_and_are_zero() {
        let lines = Lines::new(9);
        assert_eq!(lines.len(), 9);
        for n in 0..9 {
            assert_eq!(lines.line(n).as_ptr().addr() % 64, 0);
            assert!(
                lines
                    .line(n)
                    .iter()
                    .all(|word| word.load(Ordering::Relaxed) == 0)
            );
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "megabytes, of which an interpreter looks at each word")]
    fn what_fills_large_pages_begins_and_ends_with_them() {
        for (n, begin) in [
            (1, LINE_BYTES),
            (LARGE_PAGE / 8 - 1, LINE_BYTES),
            (LARGE_PAGE / 8, LARGE_PAGE),
            (1 << 20 | 1, LARGE_PAGE),
        ] {
            let words = Words::new(n);
            let (at, bytes) = words.span();
            assert_eq!((at % begin, bytes, words.len()), (0, 8 * n, n));
            let end = words.all.cast::<u64>().addr().get() + 8 * words.all.len();
            assert!(
                end >= (at + bytes).next_multiple_of(begin),
                "{n} words end within a page that goes on"
            );
        }
    }
}
