//! How many events are allowed in a second, over all cores.

use crate::memory::sync::{AtomicU64, Ordering};

/// A second, and the events counted in it.
#[derive(Debug, Default)]
pub struct Budget(AtomicU64);

/// Attempts to count; each failed one is a success of another core.
const TRIES: usize = 8;

impl Budget {
    /// Nothing was counted in this second, for another than so far.
    pub(crate) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Counts one event, if there were fewer than `max` in this second. `now`: seconds; a core
    /// whose clock is read a little earlier counts into the second that others have begun.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub fn take(&self, now: u32, max: u32) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let (second, n) = ((word >> 32) as u32, word as u32);
            let is_new = now.wrapping_sub(second) as i32 > 0;
            if !is_new && n >= max {
                return false;
            }
            let after = if is_new {
                u64::from(now) << 32 | 1
            } else {
                word + 1
            };
            // Relaxed: a count, which orders nothing.
            match self
                .0
                .compare_exchange(word, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_budget_and_no_more() {
        let budget = Budget::default();
        let taken = |now| (0..10).filter(|_| budget.take(now, 3)).count();
        assert_eq!([taken(0), taken(7), taken(7), taken(8)], [3, 3, 0, 3]);
        assert_eq!(taken(7), 0, "a clock that is behind gets nothing more");
        assert_eq!(
            [taken(1 << 30), taken(2 << 30), taken(3 << 30), taken(1)],
            [3, 3, 3, 3],
            "and clocks wrap"
        );
    }

    #[test]
    fn budget_is_one_for_all_cores() {
        let budget = Budget::default();
        let taken = || (0..500).filter(|_| budget.take(1, 600)).count();
        let (a, b) = std::thread::scope(|s| {
            let other = s.spawn(taken);
            (taken(), other.join().unwrap())
        });
        assert!(a + b <= 600 && a + b > 500, "{a} and {b}");
    }
}
