//! Memory for the frames that wait at one VM's limit, in chunks of one size.
//!
//! It is the VM's own, allocated by control with the VM's limits, so that what waits for one VM never takes another's part.
//! Shared by all cores: a chunk belongs to the queue that took it until it is given back.
#![expect(clippy::cast_possible_truncation, reason = "numbers of chunks, and places in a few MiB")]

use crate::shm::Piece;
use crate::shm::umem::UmemArea;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = 2048;

/// All chunks of one VM.
#[derive(Debug)]
pub(crate) struct Chunks {
    area: UmemArea,
    /// By chunk, a bit each: whether it is taken. Those of the last word that stand for no chunk always are.
    taken: Box<[AtomicU64]>,
    /// By chunk: the one behind it in its queue. Of meaning to the chunk's holder alone.
    next: Box<[AtomicU32]>,
}

impl Chunks {
    /// So many, all free.
    pub(crate) fn new(n: usize) -> Self {
        let word = |at: usize| match n - at * 64 {
            64.. => AtomicU64::new(0),
            n_bits => AtomicU64::new(!0 << n_bits),
        };
        Self {
            area: UmemArea::on_heap(n * CHUNK_BYTES),
            taken: (0..n.div_ceil(64)).map(word).collect(),
            next: (0..n).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// A free chunk; `None`: all are taken.
    pub(crate) fn take(&self) -> Option<u32> {
        for (at, word) in self.taken.iter().enumerate() {
            let mut free = !word.load(Ordering::Relaxed);
            while free != 0 {
                let bit = free.trailing_zeros();
                // Acquire, with the release in `give`: its last holder has read all it wanted to.
                let before = word.fetch_or(1 << bit, Ordering::Acquire);
                if before >> bit & 1 == 0 {
                    return Some(at as u32 * 64 + bit);
                }
                free = !before;
            }
        }
        None
    }

    /// Gives a chunk back.
    pub(crate) fn give(&self, chunk: u32) {
        let (at, bit) = (chunk as usize / 64, chunk % 64);
        // Release, with the acquire in `take`.
        self.taken[at].fetch_and(!(1 << bit), Ordering::Release);
    }

    /// The one behind it in its queue.
    pub(crate) fn next(&self, chunk: u32) -> u32 {
        self.next[chunk as usize].load(Ordering::Relaxed)
    }

    /// Puts one chunk behind another.
    pub(crate) fn link(&self, chunk: u32, next: u32) {
        self.next[chunk as usize].store(next, Ordering::Relaxed);
    }

    /// `len` bytes of a chunk, from `at` on; both are within it.
    pub(crate) fn piece(&self, chunk: u32, at: usize, len: usize) -> Piece {
        debug_assert!(at + len <= CHUNK_BYTES);
        self.area.piece(chunk as usize * CHUNK_BYTES + at, len as u32).unwrap_or(Piece::EMPTY)
    }

    /// Chunks that are taken.
    #[cfg(test)]
    pub(crate) fn n_taken(&self) -> usize {
        let n: u32 = self.taken.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        n as usize - (self.taken.len() * 64 - self.next.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_had_once_until_it_is_given_back() {
        for n in [1, 63, 64, 65, 130] {
            let chunks = Chunks::new(n);
            let mut all: Vec<u32> = std::iter::from_fn(|| chunks.take()).collect();
            assert_eq!(all.len(), n);
            all.sort_unstable();
            assert!(all.iter().enumerate().all(|(at, &chunk)| at as u32 == chunk));
            chunks.give(all[n / 2]);
            assert_eq!((chunks.take(), chunks.take()), (Some(all[n / 2]), None));
            all.into_iter().for_each(|chunk| chunks.give(chunk));
            assert_eq!(chunks.n_taken(), 0);
        }
    }

    #[test]
    fn cores_that_take_at_once_never_get_the_same() {
        let chunks = Chunks::new(100);
        let owners: Vec<AtomicU32> = (0..100).map(|_| AtomicU32::new(0)).collect();
        let n_rounds = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            for me in 1..=3 {
                let (chunks, owners) = (&chunks, &owners);
                scope.spawn(move || {
                    for round in 0..n_rounds {
                        let mine: Vec<u32> = (0..round % 40).filter_map(|_| chunks.take()).collect();
                        for &chunk in &mine {
                            assert_eq!(owners[chunk as usize].swap(me, Ordering::Relaxed), 0);
                        }
                        for chunk in mine {
                            assert_eq!(owners[chunk as usize].swap(0, Ordering::Relaxed), me);
                            chunks.give(chunk);
                        }
                    }
                });
            }
        });
        assert_eq!(chunks.n_taken(), 0);
    }
}
