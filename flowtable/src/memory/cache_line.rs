//! Cache lines of atomic words: zero at first, in pages that the system gives when they are
//! touched.

use crate::memory::sync::{AtomicU64, Ordering};
use std::ptr::NonNull;

/// Words of a line.
pub(crate) const WORDS: usize = 8;

/// A line.
pub(crate) type Line = [AtomicU64; WORDS];

/// A large page of the system's.
const LARGE_PAGE: usize = 2 << 20;
/// Where a cache line begins.
const LINE_BYTES: usize = WORDS * size_of::<AtomicU64>();

/// So many atomic words, shared by all threads. They begin where a cache line does; where they fill
/// a large page, at one, and end with one, so that all of them can lie in such pages.
#[derive(Debug)]
pub(crate) struct Words {
    /// From a box, and ours alone: more than were asked for, some of them before the first one.
    all: NonNull<[AtomicU64]>,
    first: NonNull<AtomicU64>,
    n: usize,
}

// SAFETY: it is a box of atomic words, which threads may send to each other and share.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: it came from a box, in `new`, and nobody can have a reference to any of it.
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

    /// Where they lie: address and bytes.
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

/// So many lines, shared by all threads.
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
    /// When there is none.
    #[inline(always)]
    pub(crate) fn line(&self, n: usize) -> &Line {
        assert!(n * WORDS < self.0.n, "a line of those that were made");
        // SAFETY: there are whole lines, and this one is among them. Not by way of all words, since
        // an interpreter then looks at each.
        unsafe { self.0.first.add(n * WORDS).cast::<Line>().as_ref() }
    }

    /// Asks for a line from memory.
    #[inline(always)]
    pub(crate) fn prefetch(&self, n: usize) {
        prefetch(&self.line(n)[0]);
    }

    /// Where it all lies: address and bytes.
    pub(crate) fn span(&self) -> (usize, usize) {
        self.0.span()
    }
}

/// Atomic words, all zero.
#[cfg(not(loom))]
pub(crate) fn zeroed(n: usize) -> Box<[AtomicU64]> {
    // SAFETY: an atomic word is valid whatever its bytes are, so it is with zeros.
    unsafe { Box::new_zeroed_slice(n).assume_init() }
}

#[cfg(loom)]
pub(crate) fn zeroed(n: usize) -> Box<[AtomicU64]> {
    (0..n).map(|_| AtomicU64::new(0)).collect()
}

/// Asks for the cache line of a word from memory.
#[inline(always)]
pub(crate) fn prefetch(word: &AtomicU64) {
    #[cfg(not(any(loom, miri)))]
    // SAFETY: a prefetch does nothing that can be seen, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(word).cast());
    }
    let _ = word;
}

/// A word by itself, far enough from others that no core disturbs another: two lines, since they
/// are prefetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// A count that only goes up, written by one thread and read by others.
#[derive(Debug, Default)]
pub(crate) struct Count(std::sync::atomic::AtomicU64);

impl Count {
    /// The one writer's.
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
