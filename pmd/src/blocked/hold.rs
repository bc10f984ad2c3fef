//! For how long a blocked frame may hold up those behind it.
//!
//! While everything in sight of a queue goes to the blocked destination, nobody else suffers, and it may wait for ever. When
//! a frame behind it could go, it may wait for a tenth of the time; then it is dropped. See [`Hold::may_hold`].

use crate::time::Nanos;

/// Holding that may be saved up: a receiver's short pause costs nobody a frame.
const SAVED_MAX: i64 = 1_000_000;
/// How long another core may have a transmit queue locked before that counts as the receiver's fault.
const BUSY_MAX: Nanos = 100_000;
/// How long a receiver that has buffers, but too few for one frame, may take to add more.
const SHORT_MAX: Nanos = 10_000_000;

/// One receive queue's account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hold {
    /// Nanoseconds of holding that are left; below zero: to be earned back before the next.
    left: i64,
    then: Nanos,
    holding: bool,
    /// Since when a transmit queue was found locked, turn after turn.
    busy_since: Option<Nanos>,
    /// Since when a receiver had some buffers, yet not enough, turn after turn.
    short_since: Option<Nanos>,
}

impl Hold {
    /// A frame is blocked and one behind it could go: whether it may hold that one up. A tenth of the time that passes is
    /// earned, all the time that was spent holding is paid.
    pub fn may_hold(&mut self, now: Nanos) -> bool {
        // A second is more than enough to earn all that can be saved.
        let passed = i64::try_from(now.saturating_sub(self.then)).unwrap_or(i64::MAX).min(1_000_000_000);
        self.then = now;
        // 102 / 1024: a tenth, without a division.
        self.left = (self.left + ((passed * 102) >> 10)).min(SAVED_MAX);
        if self.holding {
            self.left -= passed;
        }
        self.holding = self.left > 0;
        self.holding
    }

    /// Another frame is blocked than before, or for another reason: the waits for a lock and for more buffers begin anew.
    #[inline(always)]
    pub fn begin_anew(&mut self) {
        (self.busy_since, self.short_since) = (None, None);
    }

    /// The destination is locked by another core, which is over in a burst unless that core was preempted: whether to wait
    /// for it without it counting.
    pub fn may_wait_for_lock(&mut self, now: Nanos) -> bool {
        self.short_since = None;
        now.saturating_sub(*self.busy_since.get_or_insert(now)) < BUSY_MAX
    }

    /// The destination has buffers, but not enough for this one frame: whether more may come. A receiver that was given
    /// nothing has no reason to add any, so without an end the frame would stand there for ever.
    pub fn may_wait_for_more(&mut self, now: Nanos) -> bool {
        self.busy_since = None;
        now.saturating_sub(*self.short_since.get_or_insert(now)) < SHORT_MAX
    }

    /// Nothing was held up this turn.
    #[inline(always)]
    pub fn release(&mut self) {
        if self.holding || self.busy_since.is_some() || self.short_since.is_some() {
            self.holding = false;
            self.busy_since = None;
            self.short_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_a_tenth_of_the_time_is_spent_holding() {
        for step in [500, 3_000, 20_000] {
            let mut hold = Hold::default();
            let (mut now, mut held) = (0, 0);
            for _ in 0..1_000_000_000 / step {
                now += step;
                if hold.may_hold(now) {
                    held += step;
                } else {
                    hold.release();
                }
            }
            assert!((now / 20..=now / 10 + 2_000_000).contains(&held), "step {step}: {held} of {now}");
        }
    }

    #[test]
    fn short_pause_after_a_quiet_time_holds_all_the_way() {
        let mut hold = Hold::default();
        let start = 1_000_000_000;
        assert!((0..90).all(|turn| hold.may_hold(start + turn * 10_000)), "900 us were saved up");
        assert!(!(90..200).all(|turn| hold.may_hold(start + turn * 10_000)));
    }

    #[test]
    fn lock_is_waited_for_until_its_holder_must_have_been_preempted() {
        let mut hold = Hold::default();
        assert!(hold.may_wait_for_lock(5_000) && hold.may_wait_for_lock(50_000));
        assert!(!hold.may_wait_for_lock(200_000));
        hold.release();
        assert!(hold.may_wait_for_lock(300_000));
    }
}
