//! Cache lines of atomic words: zero at first, in pages that the system gives when they are touched.

use crate::sync::{AtomicU64, Ordering};

/// Words of a line.
pub(crate) const WORDS: usize = 8;

/// A line.
pub(crate) type Line = [AtomicU64; WORDS];

/// A large page of the system's.
const LARGE_PAGE: usize = 2 << 20;
/// Where a cache line begins.
const LINE_BYTES: usize = WORDS * size_of::<AtomicU64>();

/// So many atomic words, shared by all threads. They begin where a cache line does; where they fill a large page, at one, and end with
/// one, so that all of them can lie in such pages.
#[derive(Debug)]
pub(crate) struct Words {
    /// More than were asked for: some before the first one.
    all: Box<[AtomicU64]>,
    first: usize,
    n: usize,
}

impl Words {
    pub(crate) fn new(n: usize) -> Self {
        if cfg!(loom) {
            return Self { all: zeroed(n), first: 0, n };
        }
        let is_large = size_of::<AtomicU64>() * n >= LARGE_PAGE;
        let begin = if is_large { LARGE_PAGE } else { LINE_BYTES };
        let words = begin / size_of::<AtomicU64>();
        let all = zeroed(n.next_multiple_of(words) + words);
        let first = all.as_ptr().addr().wrapping_neg() % begin / size_of::<AtomicU64>();
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
        &self.all[self.first..][..self.n]
    }
}

/// So many lines, shared by all threads.
#[derive(Debug)]
pub(crate) struct Lines {
    words: Words,
    n: usize,
}

impl Lines {
    pub(crate) fn new(n: usize) -> Self {
        let words = Words::new(n * WORDS);
        assert!(words.first + n * WORDS <= words.all.len(), "see `line`");
        Self { words, n }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.n
    }

    /// The line with this number.
    ///
    /// # Panics
    /// When there is none.
    #[inline(always)]
    pub(crate) fn line(&self, n: usize) -> &Line {
        assert!(n < self.n, "a line of those that were made");
        // SAFETY: `first` and the words of `n` lines were compared with what there is in `new`, and none of them ever changes.
        unsafe { &*self.words.all.as_ptr().add(self.words.first + n * WORDS).cast::<Line>() }
    }

    /// Asks for a line from memory.
    #[inline(always)]
    pub(crate) fn prefetch(&self, n: usize) {
        prefetch(&self.line(n)[0]);
    }

    /// Where it all lies: address and bytes.
    pub(crate) fn span(&self) -> (usize, usize) {
        self.words.span()
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

/// A word by itself, far enough from others that no core disturbs another: two lines, since they are prefetched in pairs.
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
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
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
            assert!(lines.line(n).iter().all(|word| word.load(Ordering::Relaxed) == 0));
        }
    }

    #[test]
    fn what_fills_large_pages_begins_and_ends_with_them() {
        for (n, begin) in
            [(1, LINE_BYTES), (LARGE_PAGE / 8 - 1, LINE_BYTES), (LARGE_PAGE / 8, LARGE_PAGE), (1 << 20 | 1, LARGE_PAGE)]
        {
            let words = Words::new(n);
            let (at, bytes) = words.span();
            assert_eq!((at % begin, bytes, words.len()), (0, 8 * n, n));
            let end = words.all.as_ptr_range().end.addr();
            assert!(end >= (at + bytes).next_multiple_of(begin), "{n} words end within a page that goes on");
        }
    }
}
