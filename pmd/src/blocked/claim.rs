//! Whose turn it is at a receiver that can't take all that is sent to it.
//!
//! Whoever comes first in a turn would take every buffer that the receiver frees, and those behind
//! would never get one. So a sender that got nothing lays claim to the receiver's next buffers;
//! until it has got some, or a moment is over, the others' frames wait, but those of a wire, which
//! can't, and floods, which don't. Claims go round: who has been served has none, and who is
//! refused meanwhile lays the next. Whoever has nothing for the receiver any more gives its claim
//! back ([`crate::send::reserved`]).

use super::stall::STALLED_AFTER;
use crate::time::Nanos;

/// How long a claim stands after its holder's last visit. A sender that waits comes back with its
/// core's next turn, at most a nap of a millisecond later.
const STANDS: Nanos = 2_000_000;

/// Stands for nobody's claim: the receiver is paused (see `page_faults`), for those too who take no
/// turns. Nobody has this number, since a port has not as many queues.
const PAUSE: u32 = u32::MAX;
/// The same, for longer than a receiver that takes nothing is waited for: what comes is not held up
/// for it.
const LONG_PAUSE: u32 = u32::MAX - 1;

/// The claim on one transmit queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claim {
    /// Who laid it; 0: nobody.
    holder: u32,
    until: Nanos,
}

impl Claim {
    /// Whether `who` has to wait since it is another's turn. 0, who takes no turns, never has to,
    /// but for a pause.
    #[inline(always)]
    pub(crate) fn bars(&self, who: u32, now: Nanos) -> bool {
        self.holder != 0
            && self.holder != who
            && (who != 0 || self.holder >= LONG_PAUSE)
            && now < self.until
    }

    /// Nobody gets anything until then, whoever's turn it was. A pause that was long when it began
    /// is so to its end.
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

    /// Whether nobody gets anything now.
    pub(crate) fn is_paused(&self, now: Nanos) -> bool {
        self.holder >= LONG_PAUSE && now < self.until
    }

    /// Whether that is for so long that what comes can't wait for its end.
    pub(crate) fn is_paused_for_long(&self, now: Nanos) -> bool {
        self.holder == LONG_PAUSE && now < self.until
    }

    /// `who` got nothing: its turn is next, or still is, unless another's is.
    pub(crate) fn lay(&mut self, who: u32, now: Nanos) {
        if !self.bars(who, now) {
            *self = Self {
                holder: who,
                until: now + STANDS,
            };
        }
    }

    /// Whose turn it is; 0: whoever comes.
    pub(crate) fn holder(&self, now: Nanos) -> u32 {
        if now < self.until { self.holder } else { 0 }
    }

    /// `who` got some, or wants none any more.
    #[inline(always)]
    pub(crate) fn redeem(&mut self, who: u32) {
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
        let mut claim = Claim::default();
        claim.lay(2, 0);
        claim.pause(5000, 0);
        assert!([0, 1, 2].iter().all(|&who| claim.bars(who, 4999)) && claim.is_paused(4999));
        claim.lay(3, 4999);
        claim.redeem(3);
        assert!(claim.bars(3, 4999), "nobody ends it");
        assert!([0, 1, 2].iter().all(|&who| !claim.bars(who, 5000)) && !claim.is_paused(5000));
        claim.lay(3, 5000);
        assert!(claim.bars(1, 5001) && !claim.bars(0, 5001));
    }

    #[test]
    fn first_who_got_nothing_is_next_and_only_for_a_moment() {
        let mut claim = Claim::default();
        assert!(!claim.bars(1, 0) && !claim.bars(2, 0));
        claim.lay(2, 0);
        claim.lay(3, 10);
        assert!(claim.bars(1, 20) && claim.bars(3, 20) && !claim.bars(2, 20));
        claim.redeem(1);
        assert!(claim.bars(1, 20), "it was not its own");
        claim.redeem(2);
        assert!(!claim.bars(1, 20) && !claim.bars(3, 20));
        claim.lay(3, 30);
        claim.lay(3, 40);
        assert!(claim.bars(1, 39 + STANDS), "3 came again");
        assert!(!claim.bars(1, 40 + STANDS), "3 did not come any more");
        claim.lay(1, 40 + STANDS);
        assert!(claim.bars(3, 41 + STANDS));
    }

    #[test]
    fn pause_that_was_long_when_it_began_is_so_to_its_end() {
        let (mut claim, until) = (Claim::default(), 3 * STALLED_AFTER);
        claim.pause(STALLED_AFTER, 0);
        assert!(claim.is_paused(1) && !claim.is_paused_for_long(1));
        claim.pause(until, 1);
        claim.pause(until, until - 2);
        assert!(
            claim.is_paused(until - 1)
                && claim.is_paused_for_long(until - 1)
                && claim.bars(0, until - 1)
        );
        assert!(!claim.is_paused_for_long(until));
        claim.pause(until + 10, until);
        assert!(
            !claim.is_paused_for_long(until + 1),
            "the next one is another"
        );
    }
}
