//! Bounds the time that a core spends in page faults on guests' memory.
//!
//! A small page that its file lacks is allocated by the thread that touches it first. When a core
//! puts a frame there, this costs it microseconds. A guest that offers only such pages, because it
//! gives them back each time, would take most of a core this way. The kernel counts the faults of a
//! thread, and a core reads that count once a millisecond ([`PageFaults::look`]). While faults take
//! more than a fiftieth of its time it also *measures*: it reads the count before and after each
//! step that touches one guest's memory, and charges the time of the faults to that guest's port.
//!
//! All charges go to one account of the core, at [`SHARE`] times their length. When that account is
//! more than [`SAVED`] ahead of the time, the queue that was charged last pauses until it is not.
//! So queues that share a core take turns, and together they get at most one part in [`SHARE`] of
//! it. A port doesn't pause for what others took while its own charges are small: less than its
//! part of half of that ([`OWN_SHARE`]), or no more at once than a guest that starts needs
//! ([`AT_ONCE`]).
//!
//! A page may also make the core *wait*: while its front-end releases it, or while it is read from
//! a swap device. Such a wait has no bound, so the first one has none either. But after a wait the
//! core measures for a hundred times as long, and the port that causes the next one pauses for
//! [`SHARE`] times its length, and longer each time ([`PortFaults::waited`]). When the pause ends,
//! the core measures once more.
//!
//! While it measures, the core first copies what it reads of a sender to memory of its own. The
//! copy to a receiver then touches the receiver's pages alone, and a fault in it is the receiver's,
//! whatever happens to the sender's pages meanwhile.
//!
//! Accounts belong to a port and live as long as the core, so setting queues up anew changes
//! nothing. What is done to the queues is in `port::watched`.
//!
//! Times are measured in cycles, and converted to the core's time at the rate of the two between
//! the last two looks.

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
/// For how long a core measures after a look that found more than that: turns may be far apart, and
/// in one that isn't measured a queue does all that it can.
const WATCH_FOR: Nanos = 1_000_000_000;
/// For how long a core measures after a wait: so many times as long as that took; at least and at
/// most.
const WATCH_TIMES: u64 = 100;
const WATCH_MIN: Nanos = 10_000_000;
const WATCH_MAX: Nanos = 60_000_000_000;
/// What counts as having waited; of what operators are told; and what counts as having waited for
/// long, which makes the next pause for it longer, until none was for ten minutes.
const WAIT_MIN: Nanos = 50_000;
const TOLD_MIN: Nanos = 500_000;
const LONG_WAIT: Nanos = 5_000_000;
const FORGIVEN: Nanos = 600_000_000_000;
/// The longest pause for a wait.
const WAIT_PAUSE_MAX: Nanos = 600_000_000_000;
/// Where there are few faults, what one of them costs is measured so often, for one look: it may be
/// a large page's.
const SAMPLE_EVERY: Nanos = 100_000_000;
/// Cycles of a fault, as long as none was measured; and at most.
const COST: u64 = 6_000;
const COST_MAX: u64 = 100_000;
/// How many times as much as so far one may cost.
const DEARER: u64 = 4;
/// What takes fewer cycles had no fault: the exception alone takes more.
const NO_FAULT: u64 = 500;
/// For how long queues of a port that was paused do little at a time.
pub(crate) const SLOW_FOR: Nanos = 1_000_000_000;

/// One core's account.
#[derive(Debug)]
pub(crate) struct PageFaults {
    /// When the count is read next.
    pub(crate) due: Nanos,
    /// Whether a port's pause is looked up before its memory is touched.
    pub(crate) is_watching: bool,
    /// Whether the count is read around each step. Implies `is_watching`.
    pub(crate) is_measuring: bool,
    /// The counts at the last reading, and when that was, in cycles; the counts at the last look;
    /// and the faults since then that were charged to a port.
    read: Usage,
    read_at: u64,
    looked: Usage,
    n_told: u64,
    /// Faults since the visit to a receive queue began that no receiver caused.
    aside: Since,
    /// Waits since the last look whose cause is known: a port's page, or the core slept.
    n_known_waits: u64,
    /// Cycles that one fault takes.
    cost: u64,
    /// When the last look was, by both clocks; and nanoseconds in 1,024 cycles since the one
    /// before.
    then: (Nanos, u64),
    pace: u64,
    /// Cycles for which the core has slept since the last look.
    slept: u64,
    /// When all charges will be paid off.
    paid_until: Nanos,
    /// Queues that share the core.
    n_queues: u64,
    /// The core measures until then.
    watch_until: Nanos,
    /// When the next pause for a wait ends, and when the last pause does.
    resumes_at: Nanos,
    paused_until: Nanos,
    sampled_at: Nanos,
    /// The port whose page the core waited for last; `None` once it was taken.
    waited_for: Option<PortId>,
    /// By id.
    ports: Box<[PortFaults]>,
    /// Those that made the core wait and are watched when they resume, each once. There is room for
    /// all.
    resuming: Vec<PortId>,
    /// The core's own memory for the frames of a burst, while it measures.
    own: Box<[u8]>,
}

/// One port's account.
#[derive(Clone, Copy, Debug, Default)]
struct PortFaults {
    /// Up to when what it took is paid for at its own share.
    paid_until: Nanos,
    paused_until: Nanos,
    /// When it may be touched again after it made the core wait, and for how long that is watched.
    resumes_at: Nanos,
    watch_for: Nanos,
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
        self.watch_for = watch_for(wait);
        wait.saturating_mul(times).min(WAIT_PAUSE_MAX)
    }
}

/// What was read since the last time.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    n_faults: u64,
    n_cycles: u64,
    n_waits: u64,
    /// The core gave its CPU up, and nobody took it away.
    has_waited: bool,
}

impl Since {
    fn and(self, other: Self) -> Self {
        Self {
            n_faults: self.n_faults + other.n_faults,
            n_cycles: self.n_cycles + other.n_cycles,
            n_waits: self.n_waits + other.n_waits,
            has_waited: self.has_waited | other.has_waited,
        }
    }
}

/// For how long what took so long is watched for.
fn watch_for(time: Nanos) -> Nanos {
    time.saturating_mul(WATCH_TIMES).clamp(WATCH_MIN, WATCH_MAX)
}

impl PageFaults {
    /// Of a core that never looks, until [`PageFaults::begin`]; for so many ports.
    pub(crate) fn new(n_ports: usize) -> Self {
        Self {
            due: Nanos::MAX,
            is_watching: false,
            is_measuring: false,
            read: Usage::default(),
            read_at: 0,
            looked: Usage::default(),
            n_told: 0,
            aside: Since::default(),
            n_known_waits: 0,
            cost: COST,
            then: (0, 0),
            pace: 0,
            slept: 0,
            paid_until: 0,
            n_queues: 2,
            watch_until: 0,
            resumes_at: Nanos::MAX,
            paused_until: 0,
            sampled_at: 0,
            waited_for: None,
            ports: vec![PortFaults::default(); n_ports].into(),
            resuming: Vec::with_capacity(n_ports),
            own: Box::default(),
        }
    }

    /// On the core's own thread: the number is read from now on. `own_bytes`: of a burst.
    pub(crate) fn begin(&mut self, own_bytes: usize) {
        // Written, so that its pages are there.
        self.own = vec![1; own_bytes].into();
        self.looked = userfault::usage();
        self.due = 0;
    }

    /// Another port has this id from now on, with an account of its own.
    pub(crate) fn forget(&mut self, port: PortId) {
        if let Some(account) = self.ports.get_mut(usize::from(port)) {
            *account = PortFaults::default();
        }
        self.resuming.retain(|&other| other != port);
        self.waited_for = self.waited_for.filter(|&other| other != port);
    }

    /// Reads the number, and says whether to watch.
    #[cold]
    #[inline(never)]
    pub(crate) fn look(&mut self, now: Nanos, n_rxqs: usize) {
        // About as many again are sent to.
        self.n_queues = 2 * (n_rxqs.max(1) as u64);
        self.weigh(now, userfault::usage(), sys::cycles());
    }

    /// What was read says whether to watch.
    fn weigh(&mut self, now: Nanos, usage: Usage, cycles: u64) {
        let (then, cycles_then) = std::mem::replace(&mut self.then, (now, cycles));
        self.due = now.saturating_add(LOOK_EVERY);
        let before = std::mem::replace(&mut self.looked, usage);
        let n_new = usage.n_faults.wrapping_sub(before.n_faults);
        let n_told = std::mem::take(&mut self.n_told);
        (self.read, self.read_at) = (usage, cycles);
        let slept = std::mem::take(&mut self.slept);
        let n_known = std::mem::take(&mut self.n_known_waits);
        if cycles_then == 0 {
            return;
        }
        let n_cycles = cycles.wrapping_sub(cycles_then).max(1);
        self.pace = now.saturating_sub(then).min(1 << 40).saturating_mul(1024) / n_cycles;
        // They count, but for no port.
        self.pay(now, n_new.saturating_sub(n_told).saturating_mul(self.cost));
        let n_spent = n_new.saturating_mul(self.cost);
        if n_spent.saturating_mul(WORTH_WATCHING) > n_cycles {
            self.measure_for(now, WATCH_FOR);
        }
        let n_waits = usage.n_waits.wrapping_sub(before.n_waits);
        if n_new > 0 && n_waits > n_known {
            let time = self.nanos(n_cycles.saturating_sub(slept));
            self.measure_for(now, watch_for(time));
        }
        if now >= self.resumes_at {
            self.watch_those_who_resume(now);
        }
        let is_sample = n_new > 0 && now.saturating_sub(self.sampled_at) > SAMPLE_EVERY;
        if is_sample {
            self.sampled_at = now;
        }
        self.is_measuring = is_sample || now < self.watch_until;
        self.is_watching = self.is_measuring || now < self.paused_until.saturating_add(SLOW_FOR);
    }

    /// The core measures for so long at least.
    fn measure_for(&mut self, now: Nanos, time: Nanos) {
        self.watch_until = self.watch_until.max(now.saturating_add(time));
    }

    /// Pauses for waits have ended: what these ports do next is measured.
    #[cold]
    fn watch_those_who_resume(&mut self, now: Nanos) {
        let (mut time, mut resumes_at) = (0, Nanos::MAX);
        let ports = &mut self.ports;
        self.resuming.retain(|&port| {
            let port = &mut ports[usize::from(port)];
            let waits = port.resumes_at > now;
            if waits {
                resumes_at = resumes_at.min(port.resumes_at);
            } else {
                time = time.max(std::mem::take(&mut port.watch_for));
            }
            waits
        });
        self.resumes_at = resumes_at;
        self.measure_for(now, time);
    }

    /// The core sleeps in `sleep`: what it waits for there is nobody's memory.
    #[cold]
    pub(crate) fn asleep(&mut self, sleep: impl FnOnce()) {
        if self.due == Nanos::MAX {
            return sleep();
        }
        let (before, then) = (userfault::usage(), sys::cycles());
        sleep();
        self.skip();
        self.slept += sys::cycles().wrapping_sub(then);
        self.n_known_waits += self.read.n_waits.wrapping_sub(before.n_waits);
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
            self.waited(now, took, since.n_waits, port)
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
    /// the queue has to pause for the faults that were in it, if it has to. `None` while the core
    /// doesn't measure.
    pub(crate) fn until(&mut self, now: Nanos, begun: u64, port: PortId) -> Option<Nanos> {
        let took = sys::cycles().wrapping_sub(begun);
        if !self.is_measuring || took < NO_FAULT {
            return None;
        }
        let since = self.read();
        if since.n_faults == 0 {
            return None;
        }
        if since.has_waited && self.nanos(took) >= WAIT_MIN {
            return self.waited(now, took, since.n_waits, port);
        }
        let n = since.n_faults;
        // The CPU may have been taken away meanwhile, which is no fault of theirs. Pages that cost
        // more are known after some.
        let took = took.min(n.saturating_mul(DEARER * self.cost));
        self.costs(took, n);
        self.told(now, n, took, port)
    }

    /// So many faults took so long.
    fn costs(&mut self, n_cycles: u64, n: u64) {
        self.cost = ((3 * self.cost + n_cycles / n) / 4).min(COST_MAX);
    }

    /// Whatever there was until now is nobody's in particular.
    pub(crate) fn skip(&mut self) {
        self.read();
        self.aside = Since::default();
    }

    /// Whatever there was until now belongs to the visit that is under way, which ends with
    /// [`PageFaults::until_now`].
    pub(crate) fn set_aside(&mut self) {
        self.aside = self.aside.and(self.read());
    }

    /// Memory of the core's own, for the frames of one burst.
    pub(crate) fn own(&mut self) -> &mut [u8] {
        &mut self.own
    }

    fn read(&mut self) -> Since {
        let (now, at) = (userfault::usage(), sys::cycles());
        let before = std::mem::replace(&mut self.read, now);
        Since {
            n_faults: now.n_faults.wrapping_sub(before.n_faults),
            n_cycles: at.wrapping_sub(std::mem::replace(&mut self.read_at, at)),
            n_waits: now.n_waits.wrapping_sub(before.n_waits),
            has_waited: now.n_waits != before.n_waits && now.n_preempted == before.n_preempted,
        }
    }

    /// The same however short that was, and of all since the last reading, whatever they took: what
    /// is read now is nobody's next.
    pub(crate) fn until_now(&mut self, now: Nanos, port: PortId) -> Option<Nanos> {
        if !self.is_measuring {
            return None;
        }
        let since = self.read().and(std::mem::take(&mut self.aside));
        if since.n_faults > 0 && since.has_waited && self.nanos(since.n_cycles) >= WAIT_MIN {
            return self.waited(now, since.n_cycles, since.n_waits, port);
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
            self.paused_until = self.paused_until.max(until);
            until
        })
    }

    /// It is known whose page it was that the core waited for: until when they pause.
    #[cold]
    fn waited(&mut self, now: Nanos, n_cycles: u64, n_waits: u64, port: PortId) -> Option<Nanos> {
        let wait = self.nanos(n_cycles);
        self.n_known_waits += n_waits;
        if wait >= TOLD_MIN {
            self.waited_for = Some(port);
        }
        let id = port;
        let port = self.ports.get_mut(usize::from(port))?;
        if port.watch_for == 0 {
            self.resuming.push(id);
        }
        // The time at which the turn began is behind by the wait.
        let until = now
            .saturating_add(wait)
            .saturating_add(port.waited(now, wait));
        port.paused_until = port.paused_until.max(until);
        port.resumes_at = port.paused_until;
        self.resumes_at = self.resumes_at.min(port.resumes_at);
        self.paused_until = self.paused_until.max(until);
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
#[path = "page_faults_tests.rs"]
mod tests;
