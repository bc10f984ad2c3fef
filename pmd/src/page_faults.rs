//! What pages that a guest's memory lacks cost a core, and whose they are.
//!
//! A small page that its file doesn't have is made by whoever touches it first: a core that puts a frame there, in microseconds. A guest
//! that offers only such pages, since it gives them back each time, would so take most of a core. The kernel counts the faults of a
//! thread; a core reads that once a millisecond ([`PageFaults::look`]). Only while they take more than a fiftieth of its time does it
//! *watch*: it reads the number around whatever touches guests' memory, and the time that this took counts as the queue's whose memory it
//! was. All that counts pays into one account, at [`SHARE`] times its length; when that is [`SAVED`] ahead, the queue that paid last isn't
//! looked at, or given anything, until it is so no more. So queues that share a core take turns, and all together can't have more than
//! one part in [`SHARE`] of it. A queue that takes so little that half of that would do for all ([`OWN_SHARE`]) doesn't pause for what others
//! have taken.
//!
//! What is done to the queues is in `port::watched`.
//!
//! Times are measured in cycles, and turned into the core's time at the pace at which the two went since the last look.

use crate::sys::{self, userfault};
use crate::time::Nanos;

/// How often the number of faults is read.
const LOOK_EVERY: Nanos = 1_000_000;
/// One part in so many of a core's time may go into faults: what counts is measured a little short, and a tenth is the most.
const SHARE: u64 = 13;
/// How far ahead the account may be: faults of 1.5 milliseconds at once.
const SAVED: Nanos = 20_000_000;
/// What each queue may have in any case: one part in so many, times the queues of the core; and what it may save up of that.
const OWN_SHARE: u64 = 2 * SHARE;
const OWN_SAVED: Nanos = 200_000_000;
/// The longest pause.
const PAUSE_MAX: Nanos = 100_000_000;
/// One part in so many of the time is what is watched for.
const WORTH_WATCHING: u64 = 50;
/// For how long a core watches after that was so.
const WATCH_FOR: Nanos = 1_000_000_000;
/// Where there are few faults, what one of them costs is measured so often, for one look: it may be a large page's.
const SAMPLE_EVERY: Nanos = 100_000_000;
/// Cycles of a fault, as long as none was measured.
const COST: u64 = 6_000;
/// How many times as much as so far one may cost.
const DEARER: u64 = 4;
/// What takes fewer cycles had no fault: the exception alone takes more.
const NO_FAULT: u64 = 500;
/// One core's account.
#[derive(Debug)]
pub(crate) struct PageFaults {
    /// When the number is to be read next.
    pub(crate) due: Nanos,
    /// Whether it is read around whatever touches guests' memory.
    pub(crate) is_watching: bool,
    /// Faults as of the last reading; as of the last look; and those since then that were told whose they are.
    n_read: u64,
    n_looked: u64,
    n_told: u64,
    /// Cycles of one.
    cost: u64,
    /// When the last look was, by both clocks; and nanoseconds in 1,024 cycles since the one before.
    then: (Nanos, u64),
    pace: u64,
    /// Up to when what was taken is paid for.
    paid_until: Nanos,
    /// Queues that take part.
    n_queues: u64,
    watch_until: Nanos,
    sampled_at: Nanos,
}

impl PageFaults {
    /// Of a core that never looks, until [`PageFaults::begin`].
    pub(crate) fn new() -> Self {
        Self {
            due: Nanos::MAX,
            is_watching: false,
            n_read: 0,
            n_looked: 0,
            n_told: 0,
            cost: COST,
            then: (0, 0),
            pace: 0,
            paid_until: 0,
            n_queues: 2,
            watch_until: 0,
            sampled_at: 0,
        }
    }

    /// On the core's own thread: the number is read from now on.
    pub(crate) fn begin(&mut self) {
        self.n_looked = userfault::n_faults();
        self.due = 0;
    }

    /// Reads the number, and says whether to watch.
    #[cold]
    #[inline(never)]
    pub(crate) fn look(&mut self, now: Nanos, n_rxqs: usize) {
        // About as many again are sent to.
        self.n_queues = 2 * (n_rxqs.max(1) as u64);
        let (n, cycles) = (userfault::n_faults(), sys::cycles());
        let (then, cycles_then) = std::mem::replace(&mut self.then, (now, cycles));
        self.due = now.saturating_add(LOOK_EVERY);
        let n_new = n.wrapping_sub(std::mem::replace(&mut self.n_looked, n));
        let n_told = std::mem::take(&mut self.n_told);
        self.n_read = n;
        if cycles_then == 0 {
            return;
        }
        let n_cycles = cycles.wrapping_sub(cycles_then).max(1);
        self.pace = now.saturating_sub(then).min(1 << 40).saturating_mul(1024) / n_cycles;
        // Nobody's in particular, but they count.
        self.pay(now, n_new.saturating_sub(n_told).saturating_mul(self.cost));
        if n_new.saturating_mul(self.cost).saturating_mul(WORTH_WATCHING) > n_cycles {
            self.watch_until = now.saturating_add(WATCH_FOR);
        }
        let is_sample = n_new > 0 && now.saturating_sub(self.sampled_at) > SAMPLE_EVERY;
        if is_sample {
            self.sampled_at = now;
        }
        self.is_watching = is_sample || now < self.watch_until;
    }

    /// Something ended that touched memory of one queue alone, whose `own` account this is, and began at this cycle: until when the queue has to pause for the faults
    /// that were in it, if it has to.
    pub(crate) fn until(&mut self, now: Nanos, begun: u64, own: &mut Nanos) -> Option<Nanos> {
        let took = sys::cycles().wrapping_sub(begun);
        if took < NO_FAULT {
            return None;
        }
        let n = self.read();
        if n == 0 {
            return None;
        }
        // The CPU may have been taken away meanwhile, which is no fault of theirs. Pages that cost more are known after some.
        let took = took.min(n.saturating_mul(DEARER * self.cost));
        self.cost = (3 * self.cost + took / n) / 4;
        self.told(now, n, took, own)
    }

    /// Whatever there was until now is nobody's in particular.
    pub(crate) fn skip(&mut self) {
        self.read();
    }

    /// Faults since the last reading.
    fn read(&mut self) -> u64 {
        let n = userfault::n_faults();
        n.wrapping_sub(std::mem::replace(&mut self.n_read, n))
    }

    /// The same however short that was, and of all since the last reading, whatever they took: what is read now is nobody's next.
    pub(crate) fn until_now(&mut self, now: Nanos, own: &mut Nanos) -> Option<Nanos> {
        let n = self.read();
        self.told(now, n, n.saturating_mul(self.cost), own)
    }

    /// It is known whose these faults are: until when they pause.
    fn told(&mut self, now: Nanos, n: u64, n_cycles: u64, own: &mut Nanos) -> Option<Nanos> {
        if n == 0 {
            return None;
        }
        self.n_told += n;
        let price = self.pay(now, n_cycles) / SHARE;
        *own = (*own).max(now).saturating_add(price.saturating_mul(OWN_SHARE * self.n_queues));
        *own = (*own).min(now.saturating_add(OWN_SAVED + PAUSE_MAX));
        let until = self.paid_until.saturating_sub(SAVED);
        (until > now && *own > now.saturating_add(OWN_SAVED)).then_some(until)
    }

    /// Gives the price.
    fn pay(&mut self, now: Nanos, n_cycles: u64) -> Nanos {
        let price = (n_cycles.min(1 << 40).saturating_mul(self.pace) >> 10).saturating_mul(SHARE);
        let most = now.saturating_add(SAVED + PAUSE_MAX);
        self.paid_until = self.paid_until.max(now).saturating_add(price).min(most);
        price
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_one_cycle_a_nanosecond() -> PageFaults {
        PageFaults { pace: 1024, ..PageFaults::new() }
    }

    #[test]
    fn what_is_paid_is_its_share_of_the_time_after_what_was_saved_up() {
        let mut faults = at_one_cycle_a_nanosecond();
        let (mut now, mut spent) = (1_000_000_000, 0);
        let begin = now;
        while now < begin + 10_000_000_000 {
            faults.pay(now, 50_000);
            spent += 50_000;
            now = (now + 50_000).max(faults.paid_until.saturating_sub(SAVED));
        }
        let most = (now - begin + SAVED) / SHARE + 100_000;
        assert!((most * 9 / 10..=most).contains(&spent), "{spent} of {most}");
    }

    #[test]
    fn core_that_does_not_begin_never_looks() {
        assert_eq!((PageFaults::new().due, PageFaults::new().is_watching), (Nanos::MAX, false));
    }
}
