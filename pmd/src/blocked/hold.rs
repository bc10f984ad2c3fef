//! For how long a blocked frame may hold up those behind it.
//!
//! While everything in sight of a queue goes to the blocked destination, no other frame suffers,
//! and it may wait for ever. When a frame behind it could go, it may wait for a tenth of the time;
//! then it is dropped. See [`Hold::may_hold`].

use std::ops::Range;

use flowtable::{NetworkId, PortId};

use crate::time::Nanos;

/// Holding that may be saved up: a receiver's short pause costs no frame.
const SAVED_MAX: i64 = 1_000_000;
/// How long one burst may hold a transmit queue's lock before its core must have been preempted,
/// and is not waited for.
const BUSY_MAX: Nanos = 100_000;
/// How long a lock is waited for at most, whatever holds it.
const LOCK_MAX: Nanos = 10_000_000;
/// How long a receiver that has buffers, but too few for one frame, may take to add more.
const SHORT_MAX: Nanos = 10_000_000;

/// One receive queue's account.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hold {
    /// Nanoseconds of holding that are left; below zero: to be earned back before the next.
    left: i64,
    then: Nanos,
    holding: bool,
    /// The lock that is waited for.
    lock: Option<LockWait>,
    /// Where the copies of a flooded frame go on, which is the first of the queue.
    flood: Option<FloodAt>,
    /// Something of this has to be undone when nothing is held up.
    is_used: bool,
    /// Since when a receiver had some buffers, yet not enough, turn after turn.
    short_since: Option<Nanos>,
    /// Where the queue is to come next: before others, as long as it wants to.
    reserved: Option<Reserved>,
    /// What it reserved before that, at another place, and has to give back.
    replaced: Option<Reserved>,
}

/// A reserved turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// At which transmit queue, by its place in `slots`.
    pub(crate) slot: usize,
    /// The last burst of which a frame wanted to go there.
    pub(crate) burst: u32,
}

/// A transmit queue was found locked, turn after turn.
#[derive(Clone, Copy, Debug)]
struct LockWait {
    begun: Nanos,
    /// The burst that holds the lock (0: not known), and since when it is seen to.
    holder: u32,
    since: Nanos,
}

/// How far the copies of a flooded frame have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloodAt {
    /// Whose members these are.
    pub(crate) network: NetworkId,
    /// The member that is next.
    pub(crate) next: PortId,
    /// Copies were made or dropped already.
    pub(crate) has_copies: bool,
}

impl Hold {
    /// A frame is blocked and one behind it could go: whether it may hold that one up. A tenth of
    /// the time that passes is earned, all the time that was spent holding is paid.
    pub fn may_hold(&mut self, now: Nanos) -> bool {
        // A second is more than enough to earn all that can be saved.
        let passed = i64::try_from(now.saturating_sub(self.then))
            .unwrap_or(i64::MAX)
            .min(1_000_000_000);
        self.then = now;
        // 102 / 1024: a tenth, without a division.
        self.left = (self.left + ((passed * 102) >> 10)).min(SAVED_MAX);
        if self.holding {
            self.left -= passed;
        }
        self.holding = self.left > 0;
        self.is_used = true;
        self.holding
    }

    /// Another frame is blocked than before, or for another reason: the waits for a lock and for
    /// more buffers begin anew.
    #[inline(always)]
    pub fn begin_anew(&mut self) {
        (self.lock, self.short_since) = (None, None);
    }

    /// The destination is locked by a burst of another core (0: it can't be said which), which is
    /// over in microseconds unless that core was preempted: whether to wait for it without it
    /// counting.
    pub(crate) fn may_wait_for_lock(&mut self, holder: u32, now: Nanos) -> bool {
        self.short_since = None;
        self.is_used = true;
        let wait = self.lock.get_or_insert(LockWait {
            begun: now,
            holder,
            since: now,
        });
        if holder == 0 || holder != wait.holder {
            (wait.holder, wait.since) = (holder, now);
        }
        now.saturating_sub(wait.since) < BUSY_MAX && now.saturating_sub(wait.begun) < LOCK_MAX
    }

    /// For how long a lock has been waited for.
    pub(crate) fn lock_waited(&self, now: Nanos) -> Nanos {
        self.lock.map_or(0, |wait| now.saturating_sub(wait.begun))
    }

    /// The first frame of the queue was flooded in part; it stays there until that goes on.
    pub(crate) fn stop_flood(&mut self, at: FloodAt) {
        self.flood = Some(at);
        self.is_used = true;
    }

    /// Where a flood of the first frame goes on, if this is one that was stopped.
    pub(crate) fn resume_flood(&mut self, network: NetworkId) -> Option<FloodAt> {
        self.flood.take().filter(|at| at.network == network)
    }

    /// The first frame is no flood that was stopped.
    pub(crate) fn forget_flood(&mut self) {
        self.flood = None;
    }

    /// A port with these transmit queues is gone, and with it what was reserved there.
    pub(crate) fn forget_port(&mut self, slots: &Range<usize>) {
        let is_elsewhere = |reserved: &Reserved| !slots.contains(&reserved.slot);
        self.reserved = self.reserved.filter(is_elsewhere);
        self.replaced = self.replaced.filter(is_elsewhere);
    }

    /// The destination has buffers, but not enough for this one frame: whether more may come. A
    /// receiver that was given nothing has no reason to add any, so without an end the frame would
    /// stand there for ever.
    pub fn may_wait_for_more(&mut self, now: Nanos) -> bool {
        self.lock = None;
        self.is_used = true;
        now.saturating_sub(*self.short_since.get_or_insert(now)) < SHORT_MAX
    }

    /// A turn was reserved for a frame of this burst.
    pub(crate) fn reserve(&mut self, slot: usize, burst: u32) {
        let before = self.reserved.replace(Reserved { slot, burst });
        self.replaced = before
            .filter(|before| before.slot != slot)
            .or(self.replaced);
        self.is_used = true;
    }

    /// A frame of this burst wanted to go there, in vain.
    pub(crate) fn wants(&mut self, slot: Option<usize>, burst: u32) {
        if let Some(reserved) = self
            .reserved
            .as_mut()
            .filter(|reserved| Some(reserved.slot) == slot)
        {
            reserved.burst = burst;
        }
    }

    /// What was reserved, if no frame of this burst wanted to go there.
    pub(crate) fn reserved_before(&self, burst: u32) -> Option<Reserved> {
        self.reserved.filter(|reserved| reserved.burst != burst)
    }

    /// What was reserved.
    #[inline(always)]
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        self.reserved
    }

    /// What was reserved before something else was, and has not been given back yet.
    pub(crate) fn take_replaced(&mut self) -> Option<Reserved> {
        self.replaced.take()
    }

    /// Nothing is reserved any more.
    pub(crate) fn reserves_nothing(&mut self) {
        self.reserved = None;
    }

    /// Whether [`Hold::release`] has something to do.
    #[inline(always)]
    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Nothing was held up this turn.
    #[inline(always)]
    pub fn release(&mut self) {
        if self.is_used {
            self.forget();
        }
    }

    #[cold]
    fn forget(&mut self) {
        (self.holding, self.is_used, self.flood) = (false, self.reserved.is_some(), None);
        self.begin_anew();
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
            assert!(
                (now / 20..=now / 10 + 2_000_000).contains(&held),
                "step {step}: {held} of {now}"
            );
        }
    }

    #[test]
    fn short_pause_after_a_quiet_time_holds_all_the_way() {
        let mut hold = Hold::default();
        let start = 1_000_000_000;
        assert!(
            (0..90).all(|turn| hold.may_hold(start + turn * 10_000)),
            "900 us were saved up"
        );
        assert!(!(90..200).all(|turn| hold.may_hold(start + turn * 10_000)));
    }

    #[test]
    fn lock_is_waited_for_until_its_holder_must_have_been_preempted() {
        let mut hold = Hold::default();
        assert!(hold.may_wait_for_lock(7, 5_000) && hold.may_wait_for_lock(7, 50_000));
        assert!(!hold.may_wait_for_lock(7, 200_000));
        hold.release();
        assert!(hold.may_wait_for_lock(7, 300_000));
    }

    #[test]
    fn bursts_that_hold_a_lock_one_after_another_are_none_that_was_preempted() {
        let mut hold = Hold::default();
        assert!((0..100).all(|n| hold.may_wait_for_lock(n + 1, u64::from(n) * 99_000)));
        assert!(
            (0..2).all(|n| hold.may_wait_for_lock(0, 9_900_000 + n * 50_000)),
            "it can't be said"
        );
        assert!(!hold.may_wait_for_lock(0, 10_000_000), "but not for ever");
    }
}
