//! What one VM may send and get, over all its NICs and queues and on all cores.
//!
//! A limit on what it *sends* holds frames back in its rings and never drops one
//! ([`crate::limit::gate`]); a limit on what it *gets* holds them in their senders' rings, and
//! those that can't stay there in a bounded queue ([`crate::limit::queue`]), or, without a queue,
//! drops them as [`flowtable::DropReason::Limit`]. Both count Ethernet frames without FCS, and a
//! frame that asks for segmentation as what it becomes.
//!
//! Control makes the value and keeps it as long as the VM is there; ports that come and go share
//! it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use super::one_way::Limit;
use super::options::{LimitOptions, LimitReport, QueueOptions, QueueReport};
use super::vm_queue::VmQueue;
use crate::amount::Amount;
use crate::lock::lock;
use crate::time::Nanos;

/// Both limits of a VM, and for how long the one on what it sends has held frames back.
#[derive(Debug)]
pub struct VmLimits {
    /// On what the VM sends.
    pub(crate) from_vm: Limit,
    /// On what it gets.
    pub(crate) to_vm: Limit,
    /// What is held at the limit on what it gets, as soon as anything may be; none: it drops.
    queue: OnceLock<VmQueue>,
    /// Whether more may be held there.
    has_queue: AtomicBool,
    throttled: Throttled,
    /// Queues of the VM whose gates are shut with frames behind them.
    n_waiting: AtomicU64,
    /// Of what it sends and of what it gets. No core locks this.
    options: Mutex<[LimitOptions; 2]>,
}

impl Default for VmLimits {
    fn default() -> Self {
        Self::new(LimitOptions::default(), LimitOptions::default())
    }
}

/// Written only when a queue is let go again, a few thousand times a second at most.
#[derive(Debug, Default)]
struct Throttled {
    ns: AtomicU64,
    /// Up to when it is counted, so that the time of several queues counts once.
    until: AtomicU64,
}

impl VmLimits {
    /// From the options of each direction.
    pub fn new(from_vm: LimitOptions, to_vm: LimitOptions) -> Self {
        let limit = Limit::of(&to_vm);
        let queue = OnceLock::new();
        if let Some(held) = wanted(&to_vm).map(|wanted| VmQueue::new(&to_vm, wanted, &limit)) {
            let _ = queue.set(held);
        }
        Self {
            from_vm: Limit::of(&from_vm),
            to_vm: limit,
            has_queue: AtomicBool::new(queue.get().is_some()),
            queue,
            throttled: Throttled::default(),
            n_waiting: AtomicU64::new(0),
            options: Mutex::new([from_vm, to_vm]),
        }
    }

    /// Other options from now on, for all queues and cores at once, as [`crate::Cores::limit`]
    /// says. What is saved up or owed stays that many bytes and packets, and what is held waits on,
    /// in order. Without a queue what is over the limit is dropped from now on. Memory for what is
    /// held grows as needed, and is given back with the VM.
    pub(crate) fn change(&self, from_vm: LimitOptions, to_vm: LimitOptions, now: Nanos) {
        let mut options = lock(&self.options);
        self.from_vm.change(now, &from_vm);
        self.to_vm.change(now, &to_vm);
        let wanted = wanted(&to_vm);
        if let Some(wanted) = wanted {
            let queue = self
                .queue
                .get_or_init(|| VmQueue::new(&to_vm, wanted, &self.to_vm));
            queue.change(&to_vm, wanted, &self.to_vm, now);
        }
        // Release, pairs with the Acquire in `queue`: it is there.
        self.has_queue.store(wanted.is_some(), Ordering::Release);
        *options = [from_vm, to_vm];
    }

    /// Whether there is any limit now.
    pub fn is_limited(&self) -> bool {
        self.from_vm.is_on() || self.to_vm.is_on()
    }

    /// The limit on what it gets: while there is one, or while anything waits at the last one.
    #[inline(always)]
    pub(crate) fn to_vm(&self) -> Option<&Limit> {
        (self.to_vm.is_on() || self.is_draining()).then_some(&self.to_vm)
    }

    #[cold]
    fn is_draining(&self) -> bool {
        self.queue.get().is_some_and(|queue| queue.n_waiting() > 0)
    }

    /// What is held at the limit on what it gets, if anything may be or is.
    #[inline(always)]
    pub(crate) fn queue(&self) -> Option<&VmQueue> {
        self.queue.get()
    }

    /// Whether what is over the limit on what it gets may wait, and is not dropped.
    pub(crate) fn may_wait(&self) -> bool {
        self.has_queue.load(Ordering::Acquire) || !self.to_vm.is_on()
    }

    /// The limit on what it gets and what is held at it, if it holds anything.
    pub(crate) fn held(&self) -> Option<(&Limit, &VmQueue)> {
        Some((&self.to_vm, self.queue.get()?))
    }

    /// Frames of one of its queues are held back from now on.
    pub(crate) fn begin_waiting(&self) {
        self.n_waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Those frames were held back from `since` to `until`. Times of several queues that overlap
    /// count once, if they are told about in the order of their ends, which is nearly so.
    pub(crate) fn end_waiting(&self, since: Nanos, until: Nanos) {
        self.n_waiting.fetch_sub(1, Ordering::Relaxed);
        let counted = self.throttled.until.fetch_max(until, Ordering::Relaxed);
        self.throttled
            .ns
            .fetch_add(until.saturating_sub(since.max(counted)), Ordering::Relaxed);
    }

    /// The time in which a queue may take so much, as long as others wait; zero where none does.
    #[cold]
    pub(crate) fn pace(&self, limit: &Limit, amount: Amount) -> Nanos {
        match self.n_waiting.load(Ordering::Relaxed) {
            0 => 0,
            n_others => limit.time(amount).saturating_mul(n_others + 1),
        }
    }

    /// Nanoseconds during which the limit on what it sends held frames back.
    pub fn throttled_ns(&self) -> u64 {
        self.throttled.ns.load(Ordering::Relaxed)
    }

    /// The state of the limit on what it sends.
    pub fn from_report(&self, now: Nanos) -> Option<LimitReport> {
        let [options, _] = *lock(&self.options);
        self.from_vm
            .is_on()
            .then(|| self.from_vm.report(&options, now))
    }

    /// The state of the limit on what it gets.
    pub fn to_report(&self, now: Nanos) -> Option<LimitReport> {
        let [_, options] = *lock(&self.options);
        let limit = &self.to_vm;
        let queue = self.queue.get().filter(|_| wanted(&options).is_some());
        let queue = queue.map(|queue| {
            let (n_bytes, bytes_max) = queue.n_bytes();
            let n_frames = queue.n_frames();
            let ring_delay = limit.time(Amount {
                n_frames: 256,
                n_bytes: 256 * 1514,
            });
            QueueReport {
                n_bytes,
                bytes_max,
                delay: limit.time(Amount { n_frames, n_bytes }),
                ring_delay,
            }
        });
        limit.is_on().then(|| LimitReport {
            queue,
            ..limit.report(&options, now)
        })
    }

    /// For control, now and then: see [`super::rate::Limiter::refresh`].
    pub fn refresh(&self, now: Nanos) {
        // Not while they change.
        let _options = lock(&self.options);
        self.from_vm.refresh(now);
        self.to_vm.refresh(now);
        self.queue
            .get()
            .into_iter()
            .for_each(|queue| queue.refresh(now));
    }
}

/// What may wait at a limit on what a VM gets; none: nothing, or there is no limit.
fn wanted(to_vm: &LimitOptions) -> Option<QueueOptions> {
    let has_rate = to_vm.bits_per_sec.is_some() || to_vm.packets_per_sec.is_some();
    to_vm.queue.filter(|_| has_rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_several_queues_counts_once() {
        let limits = VmLimits::default();
        for (since, until) in [(100, 200), (150, 250), (120, 240), (300, 310)] {
            limits.begin_waiting();
            limits.end_waiting(since, until);
        }
        assert_eq!(limits.throttled_ns(), 160);
    }
}
