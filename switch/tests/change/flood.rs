//! Guests that forward at full rate while others come and go: two that send each other numbered
//! frames, and one that sends to another as fast as a limit lets it, by which is seen when another
//! limit holds.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guest::flood::{LoadConfig, LoadPort};
use guest::flows::{Flows, Vary};
use guest::numbers::Numbers;
use guest::stack::{Host, Mac};
use guest::sys::cycles;
use guest::{Guest, Manner, Options, Socket};

use crate::rig::{Daemon, PATIENCE};

/// Frames of the limited guest, in bytes.
const LIMITED_BYTES: usize = 1500;
/// So many of them in a row, within [`FAST`], are a burst at the higher rate; at the lower one each
/// takes longer than that.
const BURST: usize = 16;
const FAST: Duration = Duration::from_millis(1);
/// So many of them that take longer than this are at the lower rate.
const SLOW: Duration = Duration::from_millis(20);

/// The guests, driven by one thread.
pub(crate) struct Flood {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Ended>>,
}

struct Shared {
    begin: Instant,
    may_send: AtomicBool,
    stop: AtomicBool,
    /// Of the two at full rate.
    n_received: AtomicU64,
    /// Of these, numbers that were left out, came twice or came late.
    n_wrong: AtomicU64,
    is_slow: AtomicBool,
    is_armed: AtomicBool,
    /// When the first burst at the higher rate was seen, in nanoseconds from `begin`.
    seen_at: AtomicU64,
}

/// What came of the two at full rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Frames that the switch took from either.
    pub(crate) n_sent: [u64; 2],
    /// What of them came to the other.
    pub(crate) got: [Numbers; 2],
}

impl Ended {
    /// Frames that were taken and didn't come, and such that came twice or late.
    pub(crate) fn n_lost(&self) -> u64 {
        let [a, b] = self.got;
        let got = [b, a];
        let of = |(n_sent, got): (u64, Numbers)| n_sent.abs_diff(got.n_good) + got.n_late;
        self.n_sent.into_iter().zip(got).map(of).sum()
    }
}

impl Flood {
    /// Guests at the sockets of `a` and `b`, who send each other as much as goes, and at those of
    /// `c` and `d`, of whom `c` sends.
    pub(crate) fn start(daemon: &mut Daemon) -> Self {
        let shared = Arc::new(Shared {
            begin: Instant::now(),
            may_send: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            n_received: AtomicU64::new(0),
            n_wrong: AtomicU64::new(0),
            is_slow: AtomicBool::new(false),
            is_armed: AtomicBool::new(false),
            seen_at: AtomicU64::new(0),
        });
        let (seen, dir) = (shared.clone(), daemon.path(""));
        let thread = std::thread::spawn(move || {
            keep_off_the_core();
            drive(ports(&dir), &seen)
        });
        let flood = Self {
            shared,
            thread: Some(thread),
        };
        for name in ["a", "b", "c", "d"] {
            daemon.until_state(&format!("{name}/net0"), "up");
        }
        flood.shared.may_send.store(true, Ordering::Release);
        flood.until_more(10_000);
        flood
    }

    /// Frames that have come so far to the two at full rate.
    pub(crate) fn n_received(&self) -> u64 {
        self.shared.n_received.load(Ordering::Relaxed)
    }

    /// Numbers that were left out so far, came twice or came late.
    pub(crate) fn n_wrong(&self) -> u64 {
        self.shared.n_wrong.load(Ordering::Relaxed)
    }

    /// Waits until so many more have come.
    pub(crate) fn until_more(&self, n: u64) {
        let until = self.n_received() + n;
        self.wait("frames come", || self.n_received() >= until);
    }

    /// Waits until the limited guest is at the lower rate. From then on [`Flood::seen`] is about
    /// the first burst at the higher one.
    pub(crate) fn arm(&self) {
        self.shared.is_slow.store(false, Ordering::Relaxed);
        self.wait("the limited guest is slow", || {
            self.shared.is_slow.load(Ordering::Relaxed)
        });
        self.shared.seen_at.store(0, Ordering::Relaxed);
        self.shared.is_armed.store(true, Ordering::Release);
    }

    /// When the first burst at the higher rate came.
    pub(crate) fn seen(&self) -> Instant {
        let at = || self.shared.seen_at.load(Ordering::Acquire);
        self.wait("a burst comes at the higher rate", || at() != 0);
        self.shared.begin + Duration::from_nanos(at())
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "not so: {what}");
            let thread = self.thread.as_ref();
            assert!(thread.is_some_and(|thread| !thread.is_finished()), "{what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// They stop to send; what is on its way still comes.
    pub(crate) fn end(mut self) -> Ended {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// On the CPU that is not polled on, where there are two, and behind whoever else wants it: the
/// daemon's control threads have no CPU of their own here.
fn keep_off_the_core() {
    let first = core_affinity::get_core_ids().unwrap()[0];
    core_affinity::set_for_current(first);
    rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19).unwrap();
}

/// The guests, none of which sends yet.
fn ports(dir: &Path) -> [LoadPort; 4] {
    let addresses = [1, 2, 3, 4].map(|n| (Mac([2, 0, 0, 0, 0, n]), [10, 0, 0, n].into()));
    let port = |name: &str, from: usize, to: usize, len, vary, config: LoadConfig| {
        let options = Options {
            checked: false,
            rx_ring: 1024,
            tx_ring: 1024,
            ..Options::default()
        };
        let socket = Socket::Connect(dir.join(format!("{name}.sock")));
        let guest = Guest::negotiate(socket, options, Manner::default(), PATIENCE).unwrap();
        let flows = Flows::new(addresses[from], addresses[to], len, 1, vary);
        let mut port = LoadPort::new(guest, &flows, config).unwrap();
        port.set_sending(false);
        port
    };
    let numbers_of = |n: usize| LoadConfig {
        numbers_of: Some(addresses[n].0),
        ..LoadConfig::default()
    };
    let sink = LoadConfig {
        send: false,
        ..LoadConfig::default()
    };
    [
        port("a", 0, 1, 60, Vary::Number, numbers_of(1)),
        port("b", 1, 0, 60, Vary::Number, numbers_of(0)),
        port("c", 2, 3, LIMITED_BYTES, Vary::Ip, LoadConfig::default()),
        port("d", 3, 2, LIMITED_BYTES, Vary::Ip, sink),
    ]
}

fn drive(mut ports: [LoadPort; 4], shared: &Shared) -> Ended {
    while !shared.may_send.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
    }
    // So that the switch knows where the last one is.
    let greeting = Host::new(Mac([2, 0, 0, 0, 0, 4]), [10, 0, 0, 4].into());
    let greeting = greeting.arp_request([10, 0, 0, 4].into());
    assert!(ports[3].guest().send(0, &greeting));
    ports.iter_mut().for_each(|port| port.set_sending(true));
    let mut probe = Probe::default();
    let mut now = cycles();
    while !shared.stop.load(Ordering::Relaxed) {
        for _ in 0..8 {
            now = ports[0].turn(now);
            now = ports[1].turn(now);
        }
        now = ports[2].turn(now);
        now = ports[3].turn(now);
        probe.look(ports[3].counters().n_received, shared);
        publish(&ports, shared);
    }
    ports.iter_mut().for_each(|port| port.set_sending(false));
    // Until nothing has come for a while.
    let mut last = (0, Instant::now());
    while last.1.elapsed() < Duration::from_millis(200) {
        for port in &mut ports[..2] {
            now = port.turn(now);
        }
        let sum: u64 = ports[..2]
            .iter()
            .map(|port| port.counters().n_received + port.counters().n_sent)
            .sum();
        if sum != last.0 {
            last = (sum, Instant::now());
        }
    }
    publish(&ports, shared);
    Ended {
        n_sent: [0, 1].map(|n| ports[n].counters().n_sent),
        got: [0, 1].map(|n| ports[n].numbers().unwrap()),
    }
}

fn publish(ports: &[LoadPort; 4], shared: &Shared) {
    let got = [0, 1].map(|n| ports[n].numbers().unwrap());
    let n_good = got.iter().map(|got| got.n_good).sum();
    let n_wrong = got.iter().map(|got| got.n_missing + got.n_late).sum();
    shared.n_received.store(n_good, Ordering::Relaxed);
    shared.n_wrong.store(n_wrong, Ordering::Relaxed);
}

/// When the last frames of the limited guest came.
#[derive(Default)]
struct Probe {
    n_seen: u64,
    arrivals: VecDeque<Instant>,
}

impl Probe {
    fn look(&mut self, n_received: u64, shared: &Shared) {
        let now = Instant::now();
        for _ in self.n_seen..n_received {
            if self.arrivals.len() == BURST {
                self.arrivals.pop_front();
            }
            self.arrivals.push_back(now);
        }
        let has_come = n_received > self.n_seen;
        self.n_seen = n_received;
        let took = self.arrivals.front().map(|first| now - *first);
        let took = took.filter(|_| self.arrivals.len() == BURST);
        shared
            .is_slow
            .store(took.is_some_and(|took| took > SLOW), Ordering::Relaxed);
        if has_come
            && took.is_some_and(|took| took < FAST)
            && shared.is_armed.swap(false, Ordering::AcqRel)
        {
            let at = u64::try_from((now - shared.begin).as_nanos()).unwrap();
            shared.seen_at.store(at, Ordering::Release);
        }
    }
}
