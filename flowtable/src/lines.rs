//! Cache lines of atomic words: zero at first, in pages that the system gives when they are touched.

use crate::sync::{AtomicU64, Ordering};

/// Words of a line.
pub(crate) const WORDS: usize = 8;

/// A line.
pub(crate) type Line = [AtomicU64; WORDS];

/// So many of them, shared by all threads.
#[derive(Debug)]
pub(crate) struct Lines {
    /// One line more than asked for, so that the first one can begin where a cache line does.
    words: Box<[AtomicU64]>,
    first: usize,
}

impl Lines {
    pub(crate) fn new(n: usize) -> Self {
        let words = zeroed((n + 1) * WORDS);
        let first = if cfg!(loom) { 0 } else { words.as_ptr().addr().wrapping_neg() % 64 / size_of::<AtomicU64>() };
        Self { words, first }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.words.len() / WORDS - 1
    }

    /// The line with this number.
    ///
    /// # Panics
    /// When there is none.
    #[inline(always)]
    pub(crate) fn line(&self, n: usize) -> &Line {
        self.words[self.first + n * WORDS..].first_chunk().expect("a whole line, of those that were made")
    }

    /// Asks for a line from memory.
    #[inline(always)]
    pub(crate) fn prefetch(&self, n: usize) {
        prefetch(&self.line(n)[0]);
    }

    /// Where it all lies: address and bytes.
    pub(crate) fn span(&self) -> (usize, usize) {
        (self.words.as_ptr().addr(), size_of_val(&*self.words))
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
}
