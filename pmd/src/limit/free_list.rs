//! Which of a number of things are free: a stack of numbers that all cores share, without locks.
//!
//! One is taken, and a whole chain given back, by one exchange of the word at its head, however
//! many there are. The one given back last is taken first, so memory that was never needed stays
//! untouched. Whoever has taken some may link them as it likes.

use super::atomics::{AtomicU32, AtomicU64, Ordering};

/// See the module. Numbers are stored with one added; 0: none.
#[derive(Debug)]
pub(crate) struct FreeList {
    /// How often it has changed, in the high half, so that a number which came back meanwhile is
    /// not taken for one that stayed; the first number that is free in the low half.
    head: AtomicU64,
    /// By number: the one behind it, on the stack or in its holder's chain.
    next: Box<[AtomicU32]>,
}

impl FreeList {
    /// All numbers below `n` are free.
    pub(crate) fn new(n: u32) -> Self {
        let next = (0..n)
            .map(|at| AtomicU32::new(if at + 1 < n { at + 2 } else { 0 }))
            .collect();
        Self {
            head: AtomicU64::new(u64::from(n > 0)),
            next,
        }
    }

    /// One that is free now; `None`: none is.
    pub(crate) fn take(&self) -> Option<u32> {
        // Acquire, here and below, with the release in `give`: its last holder has read all it
        // wanted to, and what is behind it is seen.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let first = first(head).checked_sub(1)?;
            // Another core may have it by now and link it anew; then the head has changed too.
            let next = self.next[first as usize].load(Ordering::Relaxed);
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
            self.next[last as usize].store(first(head), Ordering::Relaxed);
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
        self.next[at as usize]
            .load(Ordering::Relaxed)
            .wrapping_sub(1)
    }

    /// Puts one behind another, both of the same holder.
    pub(crate) fn link(&self, at: u32, next: u32) {
        self.next[at as usize].store(next + 1, Ordering::Relaxed);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half")]
fn first(head: u64) -> u32 {
    head as u32
}

fn changed(head: u64, first: u32) -> u64 {
    (head >> 32).wrapping_add(1) << 32 | u64::from(first)
}
