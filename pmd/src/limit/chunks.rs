//! Memory for the frames that wait at one VM's limit, in chunks of one size.
//!
//! It is the VM's own, allocated by control with the VM's limits, so that what waits for one VM
//! never takes another's part. Shared by all cores: a chunk belongs to the queue that took it until
//! it is given back. Frames that could have stayed where they were have a part of it and no more;
//! the rest is for frames off a wire.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of chunks, and places in a few MiB"
)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::free_list::{FreeList, SEGMENTS};
use crate::shm::Piece;
use crate::shm::umem::UmemArea;

/// Bytes of a chunk.
pub(crate) const CHUNK_BYTES: usize = 2048;

/// A queue is charged at least so much for each [`ROOM`] bytes that its frames take up in chunks.
/// Frames of more than 106 bytes count as what they are, and so do those of 64; one of 14, which
/// takes up 64, counts three times.
pub(crate) const CHARGED: u64 = 2;
pub(crate) const ROOM: u64 = 3;

/// All chunks of one VM.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// By segment of the list.
    areas: [OnceLock<UmemArea>; SEGMENTS],
    free: FreeList,
    /// Those that queues of local frames have, and may.
    n_local: AtomicU32,
    n_local_max: AtomicU32,
}

/// Chunks that are linked, in one hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) n: u32,
}

impl Chunks {
    /// So many, all free.
    pub(crate) fn new(n: usize, n_local_max: usize) -> Self {
        let chunks = Self {
            areas: Default::default(),
            free: FreeList::new(n as u32),
            n_local: AtomicU32::new(0),
            n_local_max: AtomicU32::new(n_local_max as u32),
        };
        chunks.make_room(n as u32);
        chunks
    }

    /// So many, if there were fewer; local queues may have so many of them from now on. What is in
    /// use stays so. For one control thread at a time.
    pub(crate) fn grow(&self, n: usize, n_local_max: usize) {
        // The memory first: a core may take one of them at once.
        self.make_room(n as u32);
        self.free.grow(n as u32);
        self.n_local_max
            .store(n_local_max as u32, Ordering::Relaxed);
    }

    /// Memory for chunks of numbers below `n`; untouched, it takes up none.
    fn make_room(&self, n: u32) {
        let (last, _) = self.free.place(n.max(1) - 1);
        for (segment, area) in self.areas.iter().enumerate().take(last + 1) {
            let n_bytes = self.free.len_of(segment) * CHUNK_BYTES;
            area.get_or_init(|| UmemArea::on_heap(n_bytes));
        }
    }

    /// So many, at least one, for a queue of local frames or of others; `None`: there are not as
    /// many, and none is taken.
    pub(crate) fn take(&self, n: u32, is_local: bool) -> Option<Chain> {
        let n_local_max = self.n_local_max.load(Ordering::Relaxed);
        if is_local && self.n_local.fetch_add(n, Ordering::Relaxed) + n > n_local_max {
            self.n_local.fetch_sub(n, Ordering::Relaxed);
            return None;
        }
        let mut chain: Option<Chain> = None;
        for got in 0..n {
            let Some(last) = self.free.take() else {
                if let Some(Chain { first, last, .. }) = chain {
                    self.free.give(first, last);
                }
                self.n_local
                    .fetch_sub(if is_local { n } else { 0 }, Ordering::Relaxed);
                return None;
            };
            let first = chain.map_or(last, |before| {
                self.link(before.last, last);
                before.first
            });
            chain = Some(Chain {
                first,
                last,
                n: got + 1,
            });
        }
        chain
    }

    /// Gives chunks back, at once however many they are.
    pub(crate) fn give(&self, chain: Chain, is_local: bool) {
        self.free.give(chain.first, chain.last);
        if is_local {
            self.n_local.fetch_sub(chain.n, Ordering::Relaxed);
        }
    }

    /// The one behind it in its queue.
    pub(crate) fn next(&self, chunk: u32) -> u32 {
        self.free.next(chunk)
    }

    /// Puts one chunk behind another.
    pub(crate) fn link(&self, chunk: u32, next: u32) {
        self.free.link(chunk, next);
    }

    /// `len` bytes of a chunk, from `at` on; both are within it.
    pub(crate) fn piece(&self, chunk: u32, at: usize, len: usize) -> Piece {
        debug_assert!(at + len <= CHUNK_BYTES);
        #[cfg(test)]
        tests::N_PIECES.with(|n| n.set(n.get() + 1));
        let (segment, nth) = self.free.place(chunk);
        self.areas[segment]
            .get()
            .and_then(|area| area.piece(nth * CHUNK_BYTES + at, len as u32))
            .unwrap_or(Piece::EMPTY)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// Pieces of chunks that this thread has been shown.
        pub(crate) static N_PIECES: Cell<u64> = const { Cell::new(0) };
    }

    impl Chunks {
        /// Takes all that are free, and gives them back.
        pub(crate) fn n_free(&self) -> usize {
            let all: Vec<u32> = std::iter::from_fn(|| self.free.take()).collect();
            all.iter().for_each(|&chunk| self.free.give(chunk, chunk));
            all.len()
        }
    }

    fn one(chunk: u32) -> Chain {
        Chain {
            first: chunk,
            last: chunk,
            n: 1,
        }
    }

    #[test]
    fn every_chunk_is_had_once_until_it_is_given_back() {
        for n in [1, 63, 64, 65, 130] {
            let chunks = Chunks::new(n, 0);
            let mut all: Vec<u32> = std::iter::from_fn(|| chunks.take(1, false))
                .map(|chain| chain.first)
                .collect();
            assert_eq!(all.len(), n);
            all.sort_unstable();
            assert!(
                all.iter()
                    .enumerate()
                    .all(|(at, &chunk)| at as u32 == chunk)
            );
            chunks.give(one(all[n / 2]), false);
            assert_eq!(
                chunks.take(1, false).map(|chain| chain.first),
                Some(all[n / 2])
            );
            assert!(chunks.take(1, false).is_none());
            all.into_iter()
                .for_each(|chunk| chunks.give(one(chunk), false));
            assert_eq!(chunks.n_free(), n);
        }
    }

    #[test]
    fn more_chunks_come_while_some_are_in_use_and_each_keeps_its_bytes() {
        let chunks = Chunks::new(5, 5);
        let mut all = Vec::new();
        for n in [5, 5, 7, 8, 9, 40, 30, 300] {
            chunks.grow(n, n);
            while let Some(chain) = chunks.take(1, true) {
                let at = chain.first;
                chunks.piece(at, 0, 4).write(&at.to_le_bytes());
                chunks
                    .piece(at, CHUNK_BYTES - 4, 4)
                    .write(&at.to_le_bytes());
                all.push(at);
            }
            assert!(all.len() >= n.min(300), "{n}: {}", all.len());
        }
        assert_eq!(all.len(), 300);
        for &at in &all {
            for place in [0, CHUNK_BYTES - 4] {
                let mut bytes = [0; 4];
                chunks.piece(at, place, 4).read(&mut bytes, 4);
                assert_eq!(u32::from_le_bytes(bytes), at);
            }
        }
        all.iter().for_each(|&at| chunks.give(one(at), true));
        assert_eq!(chunks.n_free(), 300);
    }

    #[test]
    fn local_frames_leave_the_rest_to_wires() {
        let chunks = Chunks::new(20, 8);
        assert!(chunks.take(9, true).is_none());
        let local = chunks.take(5, true).unwrap();
        assert!(chunks.take(4, true).is_none());
        let more = chunks.take(3, true).unwrap();
        let wires = chunks.take(12, false).unwrap();
        assert!(chunks.take(1, true).is_none() && chunks.take(1, false).is_none());
        chunks.give(wires, false);
        assert!(chunks.take(13, false).is_none());
        assert!(chunks.take(1, true).is_none(), "the wire's are not theirs");
        chunks.give(local, true);
        assert!(chunks.take(6, true).is_none());
        assert_eq!(
            (chunks.take(5, true).map(|chain| chain.n), chunks.n_free()),
            (Some(5), 12)
        );
        chunks.give(more, true);
        assert_eq!(chunks.n_free(), 15);
    }

    /// A chain goes back at once, and none of it is lost.
    #[test]
    fn cores_that_take_at_once_never_get_the_same() {
        let chunks = Chunks::new(100, 60);
        let owners: Vec<AtomicU32> = (0..100).map(|_| AtomicU32::new(0)).collect();
        let n_rounds = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            for me in 1..=3 {
                let (chunks, owners) = (&chunks, &owners);
                scope.spawn(move || {
                    for round in 0..n_rounds {
                        let is_local = round % 2 == 0;
                        let mine: Vec<Chain> = (0..round % 20)
                            .filter_map(|n| chunks.take(1 + n % 3, is_local))
                            .collect();
                        let each = |chain: &Chain| {
                            let next =
                                |&chunk: &u32| (chunk != chain.last).then(|| chunks.next(chunk));
                            std::iter::successors(Some(chain.first), next).collect::<Vec<_>>()
                        };
                        for chunk in mine.iter().flat_map(each) {
                            assert_eq!(owners[chunk as usize].swap(me, Ordering::Relaxed), 0);
                        }
                        for chain in mine {
                            let all = each(&chain);
                            assert_eq!(all.len(), chain.n as usize);
                            for chunk in all {
                                assert_eq!(owners[chunk as usize].swap(0, Ordering::Relaxed), me);
                            }
                            chunks.give(chain, is_local);
                        }
                    }
                });
            }
        });
        assert_eq!(
            (chunks.n_free(), chunks.n_local.load(Ordering::Relaxed)),
            (100, 0)
        );
    }
}
