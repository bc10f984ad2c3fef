//! Which of a number of things are free: a stack of numbers that all cores share, without locks.
//!
//! One is taken, and a whole chain given back, by one exchange of the word at its head, however
//! many there are. The one given back last is taken first, so memory that was never needed stays
//! untouched. Whoever has taken some may link them as it likes. There may come to be more.

use std::sync::OnceLock;

use super::atomics::{AtomicU32, AtomicU64, Ordering};

/// Segments of numbers: the first has so many as a list begins with, each after that as many as all
/// before it.
pub(crate) const SEGMENTS: usize = 16;

/// See the module. Numbers are stored with one added; 0: none.
#[derive(Debug)]
pub(crate) struct FreeList {
    /// How often it has changed, in the high half, so that a number which came back meanwhile is
    /// not taken for one that stayed; the first number that is free in the low half.
    head: AtomicU64,
    /// By number: the one behind it, on the stack or in its holder's chain.
    next: [OnceLock<Box<[AtomicU32]>>; SEGMENTS],
    /// The first segment's length, as a power of two.
    first_bits: u32,
    /// Numbers that there are, free or not. For whoever adds some.
    n: AtomicU32,
}

impl FreeList {
    /// All numbers below `n` are free.
    pub(crate) fn new(n: u32) -> Self {
        let list = Self {
            head: AtomicU64::new(0),
            next: Default::default(),
            first_bits: n.max(1).next_power_of_two().trailing_zeros(),
            n: AtomicU32::new(0),
        };
        list.grow(n);
        list
    }

    /// Numbers below `n` that there were not so far are free from now on; there are never fewer
    /// than before. For one thread at a time, while others take and give.
    pub(crate) fn grow(&self, n: u32) {
        let before = self.n.load(Ordering::Relaxed);
        let n = n.min(self.n_max());
        if n <= before {
            return;
        }
        let (last, _) = self.place(n - 1);
        for (segment, next) in self.next.iter().enumerate().take(last + 1) {
            let links = || (0..self.len_of(segment)).map(|_| AtomicU32::new(0));
            next.get_or_init(|| links().collect());
        }
        (before..n - 1).for_each(|at| self.link(at, at + 1));
        self.n.store(n, Ordering::Relaxed);
        // Its release is seen by whoever takes one of them, and with that the segment.
        self.give(before, n - 1);
    }

    /// Numbers that all segments have.
    fn n_max(&self) -> u32 {
        u32::try_from(1u64 << (self.first_bits as usize + SEGMENTS - 1)).unwrap_or(u32::MAX)
    }

    /// The segment of a number, and its place there.
    #[inline]
    pub(crate) fn place(&self, at: u32) -> (usize, usize) {
        match at >> self.first_bits {
            0 => (0, at as usize),
            high => {
                let segment = 32 - high.leading_zeros();
                let first = 1 << (self.first_bits + segment - 1);
                (segment as usize, (at - first) as usize)
            }
        }
    }

    /// The numbers of a segment.
    pub(crate) fn len_of(&self, segment: usize) -> usize {
        1 << (self.first_bits as usize + segment.saturating_sub(1))
    }

    /// The link of a number that there is.
    fn link_of(&self, at: u32) -> &AtomicU32 {
        const NONE: &[AtomicU32] = &[];
        let (segment, nth) = self.place(at);
        &self.next[segment].get().map_or(NONE, |links| links)[nth]
    }

    /// One that is free now; `None`: none is.
    pub(crate) fn take(&self) -> Option<u32> {
        // Acquire, here and below, with the release in `give`: its last holder has read all it
        // wanted to, and what is behind it is seen.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let first = first(head).checked_sub(1)?;
            // Another core may have it by now and link it anew; then the head has changed too.
            let next = self.link_of(first).load(Ordering::Relaxed);
            match self.head.compare_exchange_weak(
                head,
                changed(head, next),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(first),
                Err(now) => head = now,
            }
        }
    }

    /// Gives back a chain of linked numbers.
    pub(crate) fn give(&self, first_of: u32, last: u32) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.link_of(last).store(first(head), Ordering::Relaxed);
            // Release, with the acquire in `take`.
            let to = changed(head, first_of + 1);
            match self
                .head
                .compare_exchange_weak(head, to, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The one behind it in its holder's chain.
    pub(crate) fn next(&self, at: u32) -> u32 {
        self.link_of(at).load(Ordering::Relaxed).wrapping_sub(1)
    }

    /// Puts one behind another, both of the same holder.
    pub(crate) fn link(&self, at: u32, next: u32) {
        self.link_of(at).store(next + 1, Ordering::Relaxed);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half")]
fn first(head: u64) -> u32 {
    head as u32
}

fn changed(head: u64, first: u32) -> u64 {
    (head >> 32).wrapping_add(1) << 32 | u64::from(first)
}
