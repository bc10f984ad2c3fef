//! Signals to a guest's eventfds: by the core, or by a thread of the port's own when that may take
//! long.
//!
//! The kernel signals an eventfd by going through all who watch it, under a spinlock; a front-end
//! may have 50,000 watchers there (five milliseconds), or keep that lock busy by signals of its
//! own. The first such signal can't be foreseen. So each is measured: one that took long makes the
//! port *suspect*, and while it is, the CPU time of its signals is read too, since a core that was
//! preempted has lost time through no fault of the guest's. One that took long by that measure as
//! well makes the port's signals *indirect* for a minute, and for twice as long each time after
//! that: the core sets a bit, and the port's thread signals. The same becomes of a port whose
//! signals take less than that each, but together over a thirteenth of the time beyond what
//! ordinary ones take. All this is kept by port, for as long as the switch runs: a front-end that
//! connects again gets no second try.
//!
//! Where the kernel has no asynchronous requests left (`fs.aio-max-nr`), a core could only signal
//! by a system call that may block; then all signals are indirect. The thread that blocks there is
//! that port's alone.
//!
//! Control adds to and removes from what a core sleeps in, and measures that likewise
//! ([`Calls::measured`]): it takes the same spinlock.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, Thread, park_timeout};
use std::time::Duration;

use flowtable::PortId;
use hashbrown::HashMap;

use crate::error::SetupError;
use crate::lock::lock;
use crate::sys::{self, Epoll, EventFd};

/// Cycles of a signal that took long: 50 µs at 4 GHz, 100 µs at 2 GHz.
const LONG: u64 = 200_000;
/// Cycles of an ordinary one at most, 5 to 10 µs: one that wakes a sleeping guest takes three or
/// four.
const ORDINARY: u64 = 20_000;
/// What others take beyond that may be this part of the time, of which so much is saved up: a
/// thirtieth of a second at 4 GHz.
const SHARE: u64 = 13;
const SAVED: u64 = 1 << 27;
/// Cycles in a nanosecond, at the most.
const CYCLES_MAX: u64 = 4;
/// The same in CPU time.
const LONG_NS: u64 = 50_000;
/// Cycles in about a minute.
const MINUTE: u64 = 1 << 37;
/// How long a port stays suspect after a signal that took long.
const SUSPECT_FOR: u64 = 16 * MINUTE;
/// How long signals are indirect at most; who took no longer than it should for so long begins
/// anew.
const INDIRECT_MAX: u64 = 64 * MINUTE;
/// A port's thread ends when it has had nothing to do for so long.
const IDLE: Duration = Duration::from_secs(10);
/// What a port's thread signalled is followed by a rest of so many times as long, and at most that:
/// a CPU of control's is shared.
const REST: (u32, Duration) = (9, Duration::from_secs(1));
/// Stack of these threads, which go nowhere deep.
const STACK: usize = 128 << 10;
/// When no thread could be started, it is tried again after this.
const RETRY_NS: u64 = 100_000_000;

/// What a port's signals are known to take, and what waits to be signalled for it.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Eventfds that the port's thread has to signal, as [`call_bit`] and [`error_bit`] number
    /// them.
    pending: AtomicU64,
    /// Up to which cycle signals are indirect, and suspect; for how many they will be indirect the
    /// next time.
    indirect_until: AtomicU64,
    suspect_until: AtomicU64,
    period: AtomicU64,
    /// Up to which cycle is paid what was not ordinary.
    paid_until: AtomicU64,
    /// Signals that took long, the CPU's time being no other's.
    n_long: AtomicU64,
    /// The eventfds of the queues that are up. No core locks this.
    files: Mutex<Vec<(u64, Arc<EventFd>)>>,
    thread: Mutex<Option<Thread>>,
    bell: Arc<Bell>,
}

/// The bit of a queue's call eventfd.
pub(crate) fn call_bit(index: u16) -> u64 {
    1 << (index % 32)
}

/// The bit of a queue's eventfd for errors.
pub(crate) fn error_bit(index: u16) -> u64 {
    1 << (32 + index % 32)
}

impl Calls {
    fn new(bell: Arc<Bell>) -> Self {
        Self {
            pending: AtomicU64::new(0),
            indirect_until: AtomicU64::new(0),
            suspect_until: AtomicU64::new(0),
            period: AtomicU64::new(MINUTE),
            paid_until: AtomicU64::new(0),
            n_long: AtomicU64::new(0),
            files: Mutex::default(),
            thread: Mutex::default(),
            bell,
        }
    }

    /// Signals `event`, which is the port's eventfd number `bit`, or sees to it that the port's
    /// thread does. Never waits, and takes long at most twice, and then about once a period.
    pub(crate) fn signal(&self, event: &EventFd, bit: u64) {
        if !self.is_indirect() && self.measured(|| event.try_signal()) {
            return;
        }
        if self.pending.fetch_or(bit, Ordering::AcqRel) == 0 {
            self.bell.event.signal();
        }
    }

    /// Whether the port's eventfds are not to be touched by a core.
    pub(crate) fn is_indirect(&self) -> bool {
        sys::cycles() < self.indirect_until.load(Ordering::Relaxed)
    }

    /// Does something to an eventfd of the port, and remembers if that took long.
    pub(crate) fn measured<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = sys::cycles();
        let cpu = (begun < self.suspect_until.load(Ordering::Relaxed)).then(sys::thread_cpu_ns);
        let result = work();
        let now = sys::cycles();
        let took = now.wrapping_sub(begun);
        if took > ORDINARY {
            self.took_more(
                now,
                took,
                cpu.map(|before| sys::thread_cpu_ns().saturating_sub(before)),
            );
        }
        result
    }

    /// Something took more cycles than it should; `cpu`: of the CPU, in nanoseconds, if that was
    /// measured.
    #[cold]
    fn took_more(&self, now: u64, took: u64, cpu: Option<u64>) {
        let is_over = self.is_over(
            now,
            cpu.map_or(took, |ns| took.min(ns.saturating_mul(CYCLES_MAX))),
        );
        if took <= LONG && !is_over {
            return;
        }
        self.suspect_until
            .store(now + SUSPECT_FOR, Ordering::Relaxed);
        if cpu.is_none_or(|ns| ns < LONG_NS && !is_over) {
            return;
        }
        let is_long_ago = now > self.indirect_until.load(Ordering::Relaxed) + INDIRECT_MAX;
        let period = if is_long_ago {
            MINUTE
        } else {
            self.period.load(Ordering::Relaxed)
        };
        self.period
            .store((2 * period).min(INDIRECT_MAX), Ordering::Relaxed);
        self.indirect_until.store(now + period, Ordering::Relaxed);
        self.n_long.fetch_add(1, Ordering::Relaxed);
    }

    /// Charges a signal of so many cycles. Whether that is more than was saved up; then it begins
    /// anew.
    fn is_over(&self, now: u64, n_cycles: u64) -> bool {
        let price = n_cycles.saturating_sub(ORDINARY).saturating_mul(SHARE);
        let paid_until = self
            .paid_until
            .load(Ordering::Relaxed)
            .max(now)
            .saturating_add(price);
        let is_over = paid_until > now.saturating_add(SAVED);
        // Relaxed, and not one step: a core's charge that another one's hides is charged soon
        // again.
        self.paid_until
            .store(if is_over { now } else { paid_until }, Ordering::Relaxed);
        is_over
    }

    /// There is something to signal: the port's thread does it, and is started if there is none.
    /// False: it can't be.
    fn wake_thread(self: &Arc<Self>) -> bool {
        let mut thread = lock(&self.thread);
        if let Some(thread) = &*thread {
            thread.unpark();
            return true;
        }
        let calls = self.clone();
        let started = Builder::new()
            .name("calls".to_owned())
            .stack_size(STACK)
            .spawn(move || calls.work());
        *thread = started.ok().map(|handle| handle.thread().clone());
        thread.is_some()
    }

    fn work(&self) {
        while !self.bell.is_over.load(Ordering::Acquire) {
            let bits = self.pending.swap(0, Ordering::AcqRel);
            if bits != 0 {
                self.signal_all(bits);
                continue;
            }
            park_timeout(IDLE);
            let mut thread = lock(&self.thread);
            if self.pending.load(Ordering::Acquire) == 0 {
                *thread = None;
                return;
            }
        }
    }

    fn signal_all(&self, bits: u64) {
        let files: Vec<_> = lock(&self.files)
            .iter()
            .filter(|(bit, _)| bits & bit != 0)
            .cloned()
            .collect();
        let begun = sys::thread_cpu_ns();
        files.iter().for_each(|(_, file)| file.signal());
        let took = Duration::from_nanos(sys::thread_cpu_ns().saturating_sub(begun));
        std::thread::sleep((took * REST.0).min(REST.1));
    }
}

/// By which cores say that some port's thread has something to do.
#[derive(Debug)]
struct Bell {
    event: EventFd,
    /// What the thread that hears it sleeps in. Made with it, so that the number of files that are
    /// open stays what it is.
    epoll: Epoll,
    is_over: AtomicBool,
}

impl Bell {
    fn new() -> Result<Self, SetupError> {
        let (event, epoll) = (EventFd::new()?, Epoll::new()?);
        if !epoll.add(event.as_fd()) {
            return Err(SetupError::new(
                "the kernel lets this user watch no more files (fs.epoll.max_user_watches)",
            ));
        }
        Ok(Self {
            event,
            epoll,
            is_over: AtomicBool::new(false),
        })
    }
}

/// All ports' signals, and the thread that wakes theirs.
#[derive(Debug)]
pub(crate) struct Callers {
    bell: Arc<Bell>,
    ports: Arc<Mutex<HashMap<PortId, Arc<Calls>>>>,
    is_running: Mutex<bool>,
}

impl Callers {
    /// None so far.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub(crate) fn new() -> Result<Self, SetupError> {
        Ok(Self {
            bell: Arc::new(Bell::new()?),
            ports: Arc::default(),
            is_running: Mutex::default(),
        })
    }

    /// A port comes up with these eventfds to be signalled.
    pub(crate) fn up(&self, port: PortId, files: Vec<(u64, Arc<EventFd>)>) -> Arc<Calls> {
        self.run();
        let calls = lock(&self.ports)
            .entry(port)
            .or_insert_with(|| Arc::new(Calls::new(self.bell.clone())))
            .clone();
        let before = std::mem::replace(&mut *lock(&calls.files), files);
        drop(before);
        calls
    }

    /// A port is down: its eventfds are the front-end's alone again.
    pub(crate) fn down(&self, port: PortId) {
        let before = self
            .of(port)
            .map(|calls| std::mem::take(&mut *lock(&calls.files)));
        drop(before);
    }

    /// A port is gone: what was known of it is nothing to the next one of its id.
    pub(crate) fn remove(&self, port: PortId) {
        let before = lock(&self.ports).remove(&port);
        drop(before);
    }

    /// Those of a port that was up before, with eventfds.
    pub(crate) fn of(&self, port: PortId) -> Option<Arc<Calls>> {
        lock(&self.ports).get(&port).cloned()
    }

    /// Signals of a port that took long, and whether its signals are indirect for that.
    pub(crate) fn report(&self, port: PortId) -> (u64, bool) {
        self.of(port).map_or((0, false), |calls| {
            (calls.n_long.load(Ordering::Relaxed), calls.is_indirect())
        })
    }

    fn run(&self) {
        let mut is_running = lock(&self.is_running);
        if *is_running {
            return;
        }
        let (bell, ports) = (self.bell.clone(), self.ports.clone());
        let started = Builder::new()
            .name("callers".to_owned())
            .stack_size(STACK)
            .spawn(move || wake_threads(&bell, &ports));
        *is_running = started.is_ok();
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.bell.is_over.store(true, Ordering::Release);
        self.bell.event.signal();
    }
}

fn wake_threads(bell: &Bell, ports: &Mutex<HashMap<PortId, Arc<Calls>>>) {
    let mut again = false;
    while !bell.is_over.load(Ordering::Acquire) {
        bell.epoll.wait(again.then_some(RETRY_NS));
        bell.event.clear();
        again = false;
        for calls in lock(ports)
            .values()
            .filter(|calls| calls.pending.load(Ordering::Acquire) != 0)
        {
            again |= !calls.wake_thread();
        }
    }
    lock(ports)
        .values()
        .filter_map(|calls| lock(&calls.thread).take())
        .for_each(|thread| thread.unpark());
}

#[cfg(all(test, not(miri)))]
#[path = "calls_tests.rs"]
mod tests;
