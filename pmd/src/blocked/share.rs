//! A part of the time that passes, for looks at what is behind a burst.

use crate::time::Nanos;

/// A part of the time that passes, saved up to a bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Nanoseconds; below zero: a debt.
    pub(crate) left: i64,
    then: Nanos,
}

impl Share {
    /// With so much saved up.
    pub(crate) fn new(left: i64) -> Self {
        Self { left, then: 0 }
    }

    /// Earns a hundredth of the time that has passed, or of `n_parts` of it one, up to `max`.
    pub(crate) fn earn(&mut self, now: Nanos, n_parts: usize, max: i64) {
        // A second is more than enough to earn all that can be saved.
        let passed = i64::try_from(now.saturating_sub(self.then))
            .unwrap_or(i64::MAX)
            .min(1_000_000_000);
        let earned = passed / (100 * i64::try_from(n_parts.max(1)).unwrap_or(i64::MAX));
        // What is less than a nanosecond goes on being earned.
        if earned > 0 {
            self.left = (self.left + earned).min(max);
            self.then = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_the_time_is_a_hundredth_and_that_of_one_of_many_queues_less() {
        let mut share = Share::new(0);
        (1..=1_000_000).for_each(|at| share.earn(at * 1_000, 1, i64::MAX));
        assert_eq!(share.left, 10_000_000);
        let mut share = Share::new(0);
        (1..=1_000_000).for_each(|at| share.earn(at * 1_000, 64, i64::MAX));
        assert!((140_000..=156_250).contains(&share.left), "{}", share.left);
        share.earn(3_600 * 1_000_000_000, 1, 200_000);
        assert_eq!(share.left, 200_000);
    }
}
