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

use std::sync::atomic::{AtomicU64, Ordering};

use super::one_way::Limit;
use super::options::{LimitOptions, LimitReport, QueueReport};
use super::vm_queue::VmQueue;
use crate::amount::Amount;
use crate::time::Nanos;

/// Both limits of a VM, and for how long the one on what it sends has held frames back.
#[derive(Debug, Default)]
pub struct VmLimits {
    /// On what the VM sends.
    pub from_vm: Option<Limit>,
    /// On what it gets.
    pub to_vm: Option<Limit>,
    /// What is held at the limit on what it gets; none: it drops.
    pub(crate) queue: Option<VmQueue>,
    throttled: Throttled,
    /// Queues of the VM whose gates are shut with frames behind them.
    n_waiting: AtomicU64,
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
        let limit = Limit::new(to_vm);
        let queue = limit.as_ref().and_then(|limit| VmQueue::new(&to_vm, limit));
        Self {
            from_vm: Limit::new(from_vm),
            to_vm: limit,
            queue,
            ..Self::default()
        }
    }

    /// The limit on what it gets and what is held at it, if it holds anything.
    pub(crate) fn held(&self) -> Option<(&Limit, &VmQueue)> {
        self.to_vm.as_ref().zip(self.queue.as_ref())
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
        self.from_vm.as_ref().map(|limit| limit.report(now))
    }

    /// The state of the limit on what it gets.
    pub fn to_report(&self, now: Nanos) -> Option<LimitReport> {
        let limit = self.to_vm.as_ref()?;
        let queue = self.queue.as_ref().map(|queue| {
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
        Some(LimitReport {
            queue,
            ..limit.report(now)
        })
    }

    /// For control, now and then: see [`super::rate::Limiter::refresh`].
    pub fn refresh(&self, now: Nanos) {
        let limits = [&self.from_vm, &self.to_vm];
        let limiters = limits
            .into_iter()
            .flatten()
            .flat_map(|limit| [&limit.bytes, &limit.packets]);
        limiters.flatten().for_each(|limiter| limiter.refresh(now));
        self.queue.iter().for_each(|queue| queue.refresh(now));
    }
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
