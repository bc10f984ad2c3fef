//! What one VM may send and get, over all its NICs and queues and on all cores.
//!
//! A limit on what it *sends* holds frames back in its rings and never drops one ([`crate::limit::gate`]);
//! a limit on what it *gets* holds them in their senders' rings, and those that can't stay there in
//! a bounded queue ([`crate::limit::queue`]), or, without a queue, drops them as
//! [`flowtable::DropReason::Limit`]. Both count Ethernet frames without FCS, and a frame that asks
//! for segmentation as what it becomes.
//!
//! Control makes the value and keeps it as long as the VM is there; ports that come and go share
//! it.

use crate::limit::queue::VmQueue;
use crate::limit::rate::{Credit, Limiter};
use crate::time::Nanos;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit as it is asked for: each part may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOptions {
    /// Bits a second.
    pub bits_per_sec: Option<u64>,
    /// Packets a second.
    pub packets_per_sec: Option<u64>,
    /// Bytes that may pass at once; none: 64 KiB, or four milliseconds' worth. Of no meaning
    /// without `bits_per_sec`.
    pub burst_bytes: Option<u64>,
    /// Whether, and for how long, what is over a limit on what a VM gets may wait; none: it is
    /// dropped. Of no meaning to a limit on what it sends, which waits in its rings.
    pub queue: Option<QueueOptions>,
}

/// How much of what is over a limit may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// What passes in this time.
    pub time: Nanos,
    /// And no more bytes than this, but for a few frames.
    pub bytes_max: u64,
}

/// Frames and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Frames on a wire.
    pub n_frames: u64,
    /// Their bytes, without FCS.
    pub n_bytes: u64,
}

/// What a burst may hold: frames are taken as long as those before them stay below both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Frames, at least one.
    pub n_frames: usize,
    /// Bytes, at least one; the frame that crosses them is still taken.
    pub n_bytes: u32,
}

impl Allowance {
    /// More than any burst.
    pub const ALL: Self = Self {
        n_frames: usize::MAX,
        n_bytes: u32::MAX,
    };
}

/// One direction's limit: bits, packets, or both.
#[derive(Debug)]
#[repr(align(128))]
pub struct Limit {
    bytes: Option<Limiter>,
    packets: Option<Limiter>,
    options: LimitOptions,
}

impl Limit {
    /// None where nothing is asked for.
    pub fn new(options: LimitOptions) -> Option<Self> {
        let bytes = options
            .bits_per_sec
            .map(|bits| Limiter::of_bits(bits, options.burst_bytes));
        let packets = options
            .packets_per_sec
            .map(|packets| Limiter::of_packets(packets, None));
        (bytes.is_some() || packets.is_some()).then_some(Self {
            bytes,
            packets,
            options,
        })
    }

    /// What may pass now.
    ///
    /// # Errors
    /// Nothing may; how long it takes until something does.
    #[inline(always)]
    pub fn allowance(&self, now: Nanos) -> Result<Allowance, Nanos> {
        let mut allowance = Allowance::ALL;
        if let Some(limiter) = &self.bytes {
            let units = limiter.units(limiter.credit(now));
            allowance.n_bytes = u32::try_from(units).unwrap_or(u32::MAX);
        }
        if let Some(limiter) = &self.packets {
            let units = limiter.units(limiter.credit(now));
            allowance.n_frames = usize::try_from(units).unwrap_or(usize::MAX);
        }
        if allowance.n_bytes == 0 || allowance.n_frames == 0 {
            Err(self.wait(now))
        } else {
            Ok(allowance)
        }
    }

    /// Charges what has passed. Gives how long it takes until more may: zero, if it may now.
    #[inline(always)]
    pub fn charge(&self, now: Nanos, amount: Amount) -> Nanos {
        let bytes = self
            .bytes
            .as_ref()
            .map_or(0, |limiter| limiter.charge(now, amount.n_bytes).wait());
        let packets = self
            .packets
            .as_ref()
            .map_or(0, |limiter| limiter.charge(now, amount.n_frames).wait());
        bytes.max(packets)
    }

    #[cold]
    fn wait(&self, now: Nanos) -> Nanos {
        let wait = |limiter: &Option<Limiter>| {
            limiter
                .as_ref()
                .map(|limiter| limiter.credit(now))
                .map_or(0, Credit::wait)
        };
        wait(&self.bytes).max(wait(&self.packets))
    }

    /// How long it takes until what passes in `time` is saved up: zero, if it is. `time` is at most
    /// [`Limit::burst_time`].
    pub(crate) fn until_saved(&self, now: Nanos, time: Nanos) -> Nanos {
        let wait = |limiter: &Option<Limiter>| {
            limiter
                .as_ref()
                .map_or(0, |limiter| limiter.until_saved(now, time))
        };
        wait(&self.bytes).max(wait(&self.packets))
    }

    /// The time in which what may pass at once is saved up.
    pub(crate) fn burst_time(&self) -> Nanos {
        let time =
            |limiter: &Option<Limiter>| limiter.as_ref().map_or(Nanos::MAX, Limiter::burst_time);
        time(&self.bytes).min(time(&self.packets))
    }

    /// The time in which so much may pass.
    pub(crate) fn time(&self, amount: Amount) -> Nanos {
        let bytes = self
            .bytes
            .as_ref()
            .map_or(0, |limiter| limiter.time(amount.n_bytes));
        let packets = self
            .packets
            .as_ref()
            .map_or(0, |limiter| limiter.time(amount.n_frames));
        bytes.max(packets)
    }

    fn report(&self, now: Nanos) -> LimitReport {
        LimitReport {
            bits_per_sec: self.options.bits_per_sec,
            packets_per_sec: self.options.packets_per_sec,
            burst_bytes: self.bytes.as_ref().map(Limiter::burst),
            burst_packets: self.packets.as_ref().map(Limiter::burst),
            left_bytes: self.bytes.as_ref().map(|limiter| limiter.left(now)),
            left_packets: self.packets.as_ref().map(|limiter| limiter.left(now)),
            queue: None,
        }
    }
}

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

/// How a limit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitReport {
    /// Bits a second; none: no such limit.
    pub bits_per_sec: Option<u64>,
    /// Packets a second; none: no such limit.
    pub packets_per_sec: Option<u64>,
    /// Bytes that may pass at once.
    pub burst_bytes: Option<u64>,
    /// Packets that may pass at once.
    pub burst_packets: Option<u64>,
    /// Bytes that may pass now; below zero: a debt.
    pub left_bytes: Option<i64>,
    /// Packets that may pass now.
    pub left_packets: Option<i64>,
    /// What waits; none: what is over the limit is dropped, or stays in the VM's rings.
    pub queue: Option<QueueReport>,
}

/// What waits at a limit, in memory of the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueReport {
    /// Bytes of frames that wait now.
    pub n_bytes: u64,
    /// Bytes that may.
    pub bytes_max: u64,
    /// The time in which what waits now passes.
    pub delay: Nanos,
    /// The time in which a ring of another VM passes that is full of frames for this one, which
    /// wait there: 256 of 1,514 bytes.
    pub ring_delay: Nanos,
}

impl VmLimits {
    /// From what is asked for in each direction.
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

    /// How the limit on what it sends stands.
    pub fn from_report(&self, now: Nanos) -> Option<LimitReport> {
        self.from_vm.as_ref().map(|limit| limit.report(now))
    }

    /// How the limit on what it gets stands.
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

    /// For control, now and then: see [`Limiter::refresh`].
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

    const NONE: LimitOptions = LimitOptions {
        bits_per_sec: None,
        packets_per_sec: None,
        burst_bytes: None,
        queue: None,
    };

    #[test]
    fn limit_of_nothing_is_none() {
        assert!(Limit::new(NONE).is_none());
        assert!(
            Limit::new(LimitOptions {
                burst_bytes: Some(5),
                ..NONE
            })
            .is_none()
        );
    }

    #[test]
    fn tighter_of_bits_and_packets_binds() {
        let options = LimitOptions {
            bits_per_sec: Some(8_000_000),
            packets_per_sec: Some(1000),
            ..NONE
        };
        let limit = Limit::new(options).unwrap();
        // Everything saved up: 64 packets, and 64 KiB.
        let start = 1_000_000_000;
        let allowance = limit.allowance(start).unwrap();
        assert!(
            (65_536..65_540).contains(&allowance.n_bytes) && (64..66).contains(&allowance.n_frames),
            "{allowance:?}"
        );
        // Small frames: packets are spent first.
        let wait = limit.charge(
            start,
            Amount {
                n_frames: 65,
                n_bytes: 65 * 60,
            },
        );
        assert!((1_000_000..1_000_100).contains(&wait), "{wait}");
        assert_eq!(limit.allowance(start), Err(wait));
        assert!(limit.allowance(start + wait).is_ok());
        // Large ones: bytes.
        let wait = limit.charge(
            start + 100 * wait,
            Amount {
                n_frames: 60,
                n_bytes: 90_000,
            },
        );
        assert!((20_000_000..30_000_000).contains(&wait), "{wait}");
    }

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
