//! What pages that a guest's memory lacks cost a core, and whose they are.
//!
//! A small page that its file doesn't have is made by the thread that touches it first: a core that
//! puts a frame there, in microseconds. A guest that offers only such pages, since it gives them
//! back each time, would so take most of a core. The kernel counts the faults of a thread; a core
//! reads that once a millisecond ([`PageFaults::look`]). Only while they take more than a fiftieth
//! of its time does it *watch*: it reads the number around whatever touches guests' memory, and the
//! time that this took counts as the port's whose memory it was. All that counts pays into one
//! account, at [`SHARE`] times its length; when that is [`SAVED`] ahead, the queue that paid last
//! isn't looked at, or given anything, until it is so no more. So queues that share a core take
//! turns, and all together can't have more than one part in [`SHARE`] of it. A port that takes so
//! little that half of that would do for all ([`OWN_SHARE`]), or not more at once than a guest that
//! starts needs ([`AT_ONCE`]), doesn't pause for what others have taken.
//!
//! A page may also make the core *wait*: while its front-end gives it back, or while it is read
//! from a swap device. What that takes has no bound, so the first time has none; but a core that
//! waited watches from then on, and the port whose page it was next pauses for [`SHARE`] times as
//! long, and longer each time that comes again ([`PortFaults::waited`]).
//!
//! Accounts are a port's, and live as long as the core: queues that are set up anew have what their
//! port has. What is done to the queues is in `port::watched`.
//!
//! Times are measured in cycles, and turned into the core's time at the pace at which the two went
//! since the last look.

use flowtable::PortId;

use crate::sys::userfault::Usage;
use crate::sys::{self, userfault};
use crate::time::Nanos;

/// How often the number of faults is read.
const LOOK_EVERY: Nanos = 1_000_000;
/// One part in so many of a core's time may go into faults: what counts is measured a little short,
/// and a tenth is the most.
const SHARE: u64 = 13;
/// How far ahead the account may be: faults of 1.5 milliseconds at once.
const SAVED: Nanos = 20_000_000;
/// What each port may have in any case: one part in so many, times the queues of the core; and what
/// it may have at once: the pages of a ring of a thousand.
const OWN_SHARE: u64 = 2 * SHARE;
const AT_ONCE: Nanos = 3_000_000;
/// The longest pause for faults.
const PAUSE_MAX: Nanos = 400_000_000;
/// One part in so many of the time is what is watched for.
const WORTH_WATCHING: u64 = 50;
/// For how long a core watches after that was so; and after it had to wait for a page, since the
/// pause for that ended.
const WATCH_FOR: Nanos = 1_000_000_000;
const WATCH_FOR_WAITS: Nanos = 60_000_000_000;
/// A turn so long is one that may have waited for a page.
const LONG_TURN: Nanos = 5_000_000;
/// What counts as having waited; and as having waited for long, which makes the next pause for it
/// longer, until none was for ten minutes.
const WAIT_MIN: Nanos = 500_000;
const LONG_WAIT: Nanos = 5_000_000;
const FORGIVEN: Nanos = 600_000_000_000;
/// The longest pause for a wait.
const WAIT_PAUSE_MAX: Nanos = 600_000_000_000;
/// Where there are few faults, what one of them costs is measured so often, for one look: it may be
/// a large page's.
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
    /// As of the last reading, and when that was, in cycles; as of the last look; and those faults
    /// since then that were told whose they are.
    read: Usage,
    read_at: u64,
    looked: Usage,
    n_told: u64,
    /// Cycles of one.
    cost: u64,
    /// When the last look was, by both clocks; and nanoseconds in 1,024 cycles since the one
    /// before.
    then: (Nanos, u64),
    pace: u64,
    /// The core slept since.
    has_slept: bool,
    /// Up to when what was taken is paid for.
    paid_until: Nanos,
    /// Queues that take part.
    n_queues: u64,
    watch_until: Nanos,
    sampled_at: Nanos,
    /// Whose page the core waited for, since that was last asked.
    waited_for: Option<PortId>,
    /// By id.
    ports: Box<[PortFaults]>,
}

/// One port's account.
#[derive(Clone, Copy, Debug, Default)]
struct PortFaults {
    /// Up to when what it took is paid for at its own share.
    paid_until: Nanos,
    paused_until: Nanos,
    /// Waits that were long and not long ago, and when the last one was.
    n_waits: u32,
    waited_at: Nanos,
}

impl PortFaults {
    /// It made the core wait for so long: for how long it pauses.
    fn waited(&mut self, now: Nanos, wait: Nanos) -> Nanos {
        if now.saturating_sub(self.waited_at) > FORGIVEN {
            self.n_waits = 0;
        }
        let times = SHARE << self.n_waits.min(16);
        if wait >= LONG_WAIT {
            (self.n_waits, self.waited_at) = (self.n_waits.saturating_add(1), now);
        }
        wait.saturating_mul(times).min(WAIT_PAUSE_MAX)
    }
}

/// What was read since the last time.
struct Since {
    n_faults: u64,
    n_cycles: u64,
    /// The core gave its CPU up, and nobody took it away.
    has_waited: bool,
}

impl PageFaults {
    /// Of a core that never looks, until [`PageFaults::begin`]; for so many ports.
    pub(crate) fn new(n_ports: usize) -> Self {
        Self {
            due: Nanos::MAX,
            is_watching: false,
            read: Usage::default(),
            read_at: 0,
            looked: Usage::default(),
            n_told: 0,
            cost: COST,
            then: (0, 0),
            pace: 0,
            has_slept: false,
            paid_until: 0,
            n_queues: 2,
            watch_until: 0,
            sampled_at: 0,
            waited_for: None,
            ports: vec![PortFaults::default(); n_ports].into(),
        }
    }

    /// On the core's own thread: the number is read from now on.
    pub(crate) fn begin(&mut self) {
        self.looked = userfault::usage();
        self.due = 0;
    }

    /// Reads the number, and says whether to watch.
    #[cold]
    #[inline(never)]
    pub(crate) fn look(&mut self, now: Nanos, n_rxqs: usize) {
        // About as many again are sent to.
        self.n_queues = 2 * (n_rxqs.max(1) as u64);
        let (usage, cycles) = (userfault::usage(), sys::cycles());
        let (then, cycles_then) = std::mem::replace(&mut self.then, (now, cycles));
        self.due = now.saturating_add(LOOK_EVERY);
        let before = std::mem::replace(&mut self.looked, usage);
        let n_new = usage.n_faults.wrapping_sub(before.n_faults);
        let n_told = std::mem::take(&mut self.n_told);
        (self.read, self.read_at) = (usage, cycles);
        let has_slept = std::mem::take(&mut self.has_slept);
        if cycles_then == 0 {
            return;
        }
        let n_cycles = cycles.wrapping_sub(cycles_then).max(1);
        self.pace = now.saturating_sub(then).min(1 << 40).saturating_mul(1024) / n_cycles;
        // They count, but for no port.
        self.pay(now, n_new.saturating_sub(n_told).saturating_mul(self.cost));
        if n_new
            .saturating_mul(self.cost)
            .saturating_mul(WORTH_WATCHING)
            > n_cycles
        {
            self.watch_for(now, WATCH_FOR);
        }
        let is_long = now.saturating_sub(then) > LONG_TURN + LOOK_EVERY;
        if is_long && !has_slept && usage.n_waits != before.n_waits {
            self.watch_for(now, WATCH_FOR_WAITS);
        }
        let is_sample = n_new > 0 && now.saturating_sub(self.sampled_at) > SAMPLE_EVERY;
        if is_sample {
            self.sampled_at = now;
        }
        self.is_watching = is_sample || now < self.watch_until;
    }

    fn watch_for(&mut self, now: Nanos, time: Nanos) {
        self.watch_until = self.watch_until.max(now.saturating_add(time));
    }

    /// The core slept: what it waited for was no memory.
    #[cold]
    pub(crate) fn slept(&mut self) {
        self.has_slept = true;
        if self.is_watching {
            self.skip();
        }
    }

    /// Queues of several ports are going to be looked at, each for a moment unless the core has to
    /// wait for a page.
    pub(crate) fn begin_visits(&mut self) {
        if self.due != Nanos::MAX {
            self.skip();
        }
    }

    /// A look at a queue of this port is over, which began at this cycle: until when the port
    /// pauses, if the core had to wait in it.
    #[inline]
    pub(crate) fn visited(&mut self, now: Nanos, begun: u64, port: PortId) -> Option<Nanos> {
        let took = sys::cycles().wrapping_sub(begun);
        if self.nanos(took) < WAIT_MIN {
            return None;
        }
        let since = self.read();
        if since.n_faults > 0 && since.has_waited {
            self.waited(now, took, port)
        } else {
            None
        }
    }

    /// Until when nothing of the port's memory is to be touched, if it isn't.
    pub(crate) fn paused_until(&self, now: Nanos, port: PortId) -> Option<Nanos> {
        self.ports
            .get(usize::from(port))
            .map(|port| port.paused_until)
            .filter(|&until| now < until)
    }

    /// Whose page the core waited for since this was last asked.
    pub(crate) fn take_waited_for(&mut self) -> Option<PortId> {
        self.waited_for.take()
    }

    /// Whether the port was paused within this time.
    pub(crate) fn was_paused(&self, now: Nanos, port: PortId, time: Nanos) -> bool {
        self.ports.get(usize::from(port)).is_some_and(|port| {
            port.paused_until > 0 && now < port.paused_until.saturating_add(time)
        })
    }

    /// Something ended that touched memory of this port alone, and began at this cycle: until when
    /// the queue has to pause for the faults that were in it, if it has to.
    pub(crate) fn until(&mut self, now: Nanos, begun: u64, port: PortId) -> Option<Nanos> {
        let took = sys::cycles().wrapping_sub(begun);
        if took < NO_FAULT {
            return None;
        }
        let since = self.read();
        if since.n_faults == 0 {
            return None;
        }
        if since.has_waited && self.nanos(took) >= WAIT_MIN {
            return self.waited(now, took, port);
        }
        let n = since.n_faults;
        // The CPU may have been taken away meanwhile, which is no fault of theirs. Pages that cost
        // more are known after some.
        let took = took.min(n.saturating_mul(DEARER * self.cost));
        self.cost = (3 * self.cost + took / n) / 4;
        self.told(now, n, took, port)
    }

    /// What there was until now counts for no port.
    pub(crate) fn skip(&mut self) {
        self.read();
    }

    fn read(&mut self) -> Since {
        let (now, at) = (userfault::usage(), sys::cycles());
        let before = std::mem::replace(&mut self.read, now);
        Since {
            n_faults: now.n_faults.wrapping_sub(before.n_faults),
            n_cycles: at.wrapping_sub(std::mem::replace(&mut self.read_at, at)),
            has_waited: now.n_waits != before.n_waits && now.n_preempted == before.n_preempted,
        }
    }

    /// The same however short that was, and of all since the last reading, whatever they took: what
    /// is read now is nobody's next.
    pub(crate) fn until_now(&mut self, now: Nanos, port: PortId) -> Option<Nanos> {
        let since = self.read();
        if since.n_faults > 0 && since.has_waited && self.nanos(since.n_cycles) >= WAIT_MIN {
            return self.waited(now, since.n_cycles, port);
        }
        self.told(
            now,
            since.n_faults,
            since.n_faults.saturating_mul(self.cost),
            port,
        )
    }

    /// It is known whose these faults are: until when they pause.
    fn told(&mut self, now: Nanos, n: u64, n_cycles: u64, port: PortId) -> Option<Nanos> {
        if n == 0 {
            return None;
        }
        self.n_told += n;
        let price = self.pay(now, n_cycles) / SHARE;
        let per_nano = OWN_SHARE * self.n_queues;
        let saved = AT_ONCE.saturating_mul(per_nano);
        let port = self.ports.get_mut(usize::from(port))?;
        let paid_until = port
            .paid_until
            .max(now)
            .saturating_add(price.saturating_mul(per_nano));
        port.paid_until = paid_until.min(now.saturating_add(saved + PAUSE_MAX));
        let until = self.paid_until.saturating_sub(SAVED);
        let must_pause = until > now && port.paid_until > now.saturating_add(saved);
        must_pause.then(|| {
            port.paused_until = port.paused_until.max(until);
            until
        })
    }

    /// It is known whose page it was that the core waited for: until when they pause.
    #[cold]
    fn waited(&mut self, now: Nanos, n_cycles: u64, port: PortId) -> Option<Nanos> {
        let wait = self.nanos(n_cycles);
        self.waited_for = Some(port);
        let port = self.ports.get_mut(usize::from(port))?;
        // The time at which the turn began is behind by the wait.
        let until = now
            .saturating_add(wait)
            .saturating_add(port.waited(now, wait));
        port.paused_until = port.paused_until.max(until);
        self.watch_until = self.watch_until.max(until.saturating_add(WATCH_FOR_WAITS));
        self.is_watching = true;
        Some(until)
    }

    fn nanos(&self, n_cycles: u64) -> Nanos {
        n_cycles.min(1 << 40).saturating_mul(self.pace) >> 10
    }

    /// Gives the price.
    fn pay(&mut self, now: Nanos, n_cycles: u64) -> Nanos {
        let price = self.nanos(n_cycles).saturating_mul(SHARE);
        let most = now.saturating_add(SAVED + PAUSE_MAX);
        self.paid_until = self.paid_until.max(now).saturating_add(price).min(most);
        price
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_one_cycle_a_nanosecond() -> PageFaults {
        PageFaults {
            pace: 1024,
            ..PageFaults::new(3)
        }
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
        assert_eq!(
            (PageFaults::new(3).due, PageFaults::new(3).is_watching),
            (Nanos::MAX, false)
        );
    }

    #[test]
    fn port_that_makes_the_core_wait_pauses_for_longer_each_time_until_it_is_forgiven() {
        let mut port = PortFaults::default();
        let second = 1_000_000_000;
        let now = 100 * second;
        assert_eq!(
            [(); 3].map(|()| port.waited(now, second)),
            [13, 26, 52].map(|n| n * second)
        );
        assert_eq!(
            (0..20).map(|_| port.waited(now, second)).max(),
            Some(WAIT_PAUSE_MAX)
        );
        assert_eq!(port.waited(now + FORGIVEN + 1, second), 13 * second);
        // Short ones, of a guest whose memory comes from a swap device, are a part of the time and
        // no more.
        let mut port = PortFaults::default();
        assert!((0..1000).all(|_| port.waited(now, 1_000_000) == 13_000_000));
    }

    #[test]
    fn port_has_at_once_what_a_guest_that_starts_needs_and_its_account_is_its_own() {
        let mut faults = at_one_cycle_a_nanosecond();
        faults.n_queues = 130;
        let now = 1_000_000_000;
        // Others have used up what there is for all.
        while faults.told(now, 1, 100_000, 0).is_none() {}
        assert!((0..29).all(|_| faults.told(now, 1, 100_000, 1).is_none()));
        let until = (0..3).find_map(|_| faults.told(now, 1, 100_000, 1));
        assert!(until.is_some() && faults.paused_until(now, 1) == until);
        assert_eq!(faults.paused_until(now, 2), None);
        assert!(
            faults.was_paused(until.unwrap() + 5, 1, 10)
                && !faults.was_paused(until.unwrap() + 10, 1, 10)
        );
        assert!(!faults.was_paused(5, 2, 10));
    }
}
