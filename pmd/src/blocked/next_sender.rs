//! Fair queueing of blocked senders at a receiver that can't take all that is sent to it.
//!
//! The first sender of a turn would take every buffer that the receiver frees, and the others would
//! never get one. So a sender that got nothing reserves the receiver's next buffers. Until it has
//! got some, or the reservation ends, the frames of the others wait, except those of a wire, which
//! can't, and floods, which don't. Reservations go round: a sender that was served has none, and
//! the first that has to wait meanwhile makes the next. A sender that has nothing for the receiver
//! any more releases its reservation (`send::give_back`).

use super::stall::STALLED_AFTER;
use crate::time::Nanos;

/// How long a reservation lasts after its holder's last visit. A sender that waits comes back with
/// its core's next turn, at most a nap of a millisecond later.
const LASTS: Nanos = 2_000_000;

/// In place of a sender: the receiver is paused (see `page_faults`), also for senders that take no
/// turns. No queue has this number, since a port has not as many.
const PAUSE: u32 = u32::MAX;
/// A pause longer than the time for which a receiver that takes nothing is waited for: frames are
/// not held up for it.
const LONG_PAUSE: u32 = u32::MAX - 1;

/// The reservation of one transmit queue's next buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NextSender {
    /// The receive queue that made it; 0: none.
    holder: u32,
    until: Nanos,
}

impl NextSender {
    /// Whether `who` has to wait, since the buffers are reserved for another sender. 0, a sender
    /// that takes no turns, only waits for a pause.
    #[inline(always)]
    pub(crate) fn must_wait(&self, who: u32, now: Nanos) -> bool {
        self.holder != 0
            && self.holder != who
            && (who != 0 || self.holder >= LONG_PAUSE)
            && now < self.until
    }

    /// No sender gets anything until then, whatever was reserved. A pause that was long when it
    /// began is so to its end.
    #[cold]
    pub(crate) fn pause(&mut self, until: Nanos, now: Nanos) {
        let was_long = self.is_paused_for_long(now);
        let holder = if was_long || until.saturating_sub(now) > STALLED_AFTER {
            LONG_PAUSE
        } else {
            PAUSE
        };
        *self = Self { holder, until };
    }

    /// Whether the receiver is paused.
    pub(crate) fn is_paused(&self, now: Nanos) -> bool {
        self.holder >= LONG_PAUSE && now < self.until
    }

    /// Whether it is paused for so long that frames can't wait for the end.
    pub(crate) fn is_paused_for_long(&self, now: Nanos) -> bool {
        self.holder == LONG_PAUSE && now < self.until
    }

    /// `who` got nothing: the next buffers are reserved for it, unless they are for another sender.
    pub(crate) fn reserve(&mut self, who: u32, now: Nanos) {
        if !self.must_wait(who, now) {
            *self = Self {
                holder: who,
                until: now + LASTS,
            };
        }
    }

    /// The sender for which buffers are reserved; 0: none.
    pub(crate) fn holder(&self, now: Nanos) -> u32 {
        if now < self.until { self.holder } else { 0 }
    }

    /// `who` got some, or wants none any more: its reservation ends.
    #[inline(always)]
    pub(crate) fn release(&mut self, who: u32) {
        if self.holder == who {
            self.holder = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_is_for_all_and_ends_and_then_turns_are_taken_as_before() {
        let mut next = NextSender::default();
        next.reserve(2, 0);
        next.pause(5000, 0);
        assert!([0, 1, 2].iter().all(|&who| next.must_wait(who, 4999)) && next.is_paused(4999));
        next.reserve(3, 4999);
        next.release(3);
        assert!(next.must_wait(3, 4999), "nobody ends it");
        assert!([0, 1, 2].iter().all(|&who| !next.must_wait(who, 5000)) && !next.is_paused(5000));
        next.reserve(3, 5000);
        assert!(next.must_wait(1, 5001) && !next.must_wait(0, 5001));
    }

    #[test]
    fn first_who_got_nothing_is_next_and_only_for_a_moment() {
        let mut next = NextSender::default();
        assert!(!next.must_wait(1, 0) && !next.must_wait(2, 0));
        next.reserve(2, 0);
        next.reserve(3, 10);
        assert!(next.must_wait(1, 20) && next.must_wait(3, 20) && !next.must_wait(2, 20));
        next.release(1);
        assert!(next.must_wait(1, 20), "it was not its own");
        next.release(2);
        assert!(!next.must_wait(1, 20) && !next.must_wait(3, 20));
        next.reserve(3, 30);
        next.reserve(3, 40);
        assert!(next.must_wait(1, 39 + LASTS), "3 came again");
        assert!(!next.must_wait(1, 40 + LASTS), "3 did not come any more");
        next.reserve(1, 40 + LASTS);
        assert!(next.must_wait(3, 41 + LASTS));
    }

    #[test]
    fn pause_that_was_long_when_it_began_is_so_to_its_end() {
        let (mut next, until) = (NextSender::default(), 3 * STALLED_AFTER);
        next.pause(STALLED_AFTER, 0);
        assert!(next.is_paused(1) && !next.is_paused_for_long(1));
        next.pause(until, 1);
        next.pause(until, until - 2);
        assert!(
            next.is_paused(until - 1)
                && next.is_paused_for_long(until - 1)
                && next.must_wait(0, until - 1)
        );
        assert!(!next.is_paused_for_long(until));
        next.pause(until + 10, until);
        assert!(
            !next.is_paused_for_long(until + 1),
            "the next one is another"
        );
    }
}
