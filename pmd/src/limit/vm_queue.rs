//! What is held at the limit on what one VM gets, over all cores.

use std::sync::atomic::{AtomicU64, Ordering};

use super::chunks::{CHARGED, CHUNK_BYTES, Chunks, ROOM};
use super::one_way::Limit;
use super::options::{LimitOptions, QueueOptions};
use super::rate::{Limiter, Setting};
use crate::amount::Amount;
use crate::time::Nanos;

/// Bytes of a full Ethernet frame without FCS.
const FRAME_BYTES: u64 = 1514;
/// Full frames that may wait at any rate: with fewer, TCP has no means to notice that one was lost.
const FRAMES_MIN: u64 = 6;
/// Chunks for local frames, and for those off a wire, besides those that their bytes need: a queue
/// goes beyond its part by one frame, of 64 KiB at most, of 9 KiB off a wire, and has a chunk at
/// either end that is not full. Off a wire there are two frames of 3,498 bytes, four chunks, for
/// each of 16 queues besides, since a queue may always hold two.
const CHUNKS_MORE_LOCAL: u64 = 64;
const CHUNKS_MORE: u64 = 80;
/// The longest that what is saved up is kept for one whose turn it is.
const SLACK_MAX: Nanos = 2_000_000;
/// Copies of floods that pass ahead each second, and at once: in no second more than a thousand.
const FLOODS_PER_SEC: u64 = 950;
const FLOODS_AT_ONCE: u64 = 50;
/// What is held at the limit on what one VM gets, over all cores: whose memory it is in, and how
/// much of it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct VmQueue {
    /// Queues and rings that wait.
    pub(crate) n_waiting: AtomicU64,
    /// Frames in all queues, and their bytes.
    pub(super) n_frames: AtomicU64,
    pub(super) n_bytes: AtomicU64,
    pub(crate) chunks: Chunks,
    bytes_max: AtomicU64,
    frames_max: AtomicU64,
    age_max: AtomicU64,
    slack: AtomicU64,
    /// What floods may be charged without an allowance: copies, and bytes, a quarter of the limit,
    /// so that they leave it the rest.
    flood_copies: Limiter,
    flood_bytes: Limiter,
}

/// What follows from a limit for what is held at it.
struct Bounds {
    n_bytes: u64,
    n_frames: u64,
    age: Nanos,
    slack: Nanos,
    /// Chunks of all queues, and of those of local frames.
    n_chunks: [usize; 2],
    flood_bytes: Setting,
}

impl Bounds {
    fn new(options: &LimitOptions, wanted: QueueOptions, limit: &Limit) -> Self {
        let in_time = |per_second: u64| {
            let n = u128::from(per_second) * u128::from(wanted.time) / 1_000_000_000;
            u64::try_from(n).unwrap_or(u64::MAX)
        };
        let n_frames = options
            .packets_per_sec
            .map_or(u64::MAX, |packets| in_time(packets).max(FRAMES_MIN));
        let by_bits = options.bits_per_sec.map(|bits| in_time(bits / 8));
        let n_bytes = by_bits
            .unwrap_or(n_frames.saturating_mul(FRAME_BYTES))
            .min(wanted.bytes_max);
        let n_bytes = n_bytes.max(FRAMES_MIN * FRAME_BYTES);
        // All local queues together have room for what one may hold that waits alone, and a wire's
        // queues for as much again: so one of these never lacks a chunk while it is within its
        // part, whatever guests do. Several get theirs as those before them shrink to theirs.
        let n_chunks = (n_bytes * ROOM / CHARGED).div_ceil(CHUNK_BYTES as u64);
        let n_local = n_chunks + CHUNKS_MORE_LOCAL;
        let least = Amount {
            n_frames: FRAMES_MIN + 1,
            n_bytes: (FRAMES_MIN + 1) * FRAME_BYTES,
        };
        Self {
            n_bytes,
            n_frames,
            age: (wanted.time.saturating_mul(9) / 4).max(limit.time(least)),
            slack: (limit.burst_time() / 4).min(SLACK_MAX),
            n_chunks: [n_local + n_chunks + CHUNKS_MORE, n_local]
                .map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            flood_bytes: options
                .bits_per_sec
                .map_or(Setting::OFF, |bits| Setting::of_bits(bits / 4, None)),
        }
    }
}

impl VmQueue {
    /// Of a limit with these options, at which so much may wait.
    pub(crate) fn new(options: &LimitOptions, wanted: QueueOptions, limit: &Limit) -> Self {
        let bounds = Bounds::new(options, wanted, limit);
        let [n_all, n_local] = bounds.n_chunks;
        Self {
            n_waiting: AtomicU64::new(0),
            n_frames: AtomicU64::new(0),
            n_bytes: AtomicU64::new(0),
            chunks: Chunks::new(n_all, n_local),
            bytes_max: AtomicU64::new(bounds.n_bytes),
            frames_max: AtomicU64::new(bounds.n_frames),
            age_max: AtomicU64::new(bounds.age),
            slack: AtomicU64::new(bounds.slack),
            flood_copies: Limiter::of_packets(FLOODS_PER_SEC, Some(FLOODS_AT_ONCE)),
            flood_bytes: Limiter::new(bounds.flood_bytes),
        }
    }

    /// Of the same limit, which has changed. What is held stays; memory for more is added where
    /// there was less. For one control thread at a time.
    pub(super) fn change(
        &self,
        options: &LimitOptions,
        wanted: QueueOptions,
        limit: &Limit,
        now: Nanos,
    ) {
        let bounds = Bounds::new(options, wanted, limit);
        let [n_all, n_local] = bounds.n_chunks;
        // First, so that what the new bounds allow has chunks.
        self.chunks.grow(n_all, n_local);
        for (bound, value) in [
            (&self.bytes_max, bounds.n_bytes),
            (&self.frames_max, bounds.n_frames),
            (&self.age_max, bounds.age),
            (&self.slack, bounds.slack),
        ] {
            bound.store(value, Ordering::Relaxed);
        }
        self.flood_bytes.change(now, bounds.flood_bytes);
    }

    /// A frame that waited for longer is dropped.
    pub(crate) fn age_max(&self) -> Nanos {
        self.age_max.load(Ordering::Relaxed)
    }

    /// What has been saved up for longer than this may be used by any sender.
    pub(crate) fn slack(&self) -> Nanos {
        self.slack.load(Ordering::Relaxed)
    }

    /// Queues and rings that wait here.
    #[inline(always)]
    pub(crate) fn n_waiting(&self) -> u64 {
        self.n_waiting.load(Ordering::Relaxed)
    }

    /// Frames that wait here now.
    pub(crate) fn n_frames(&self) -> u64 {
        self.n_frames.load(Ordering::Relaxed)
    }

    /// Bytes that wait here now, and that may.
    pub(crate) fn n_bytes(&self) -> (u64, u64) {
        (
            self.n_bytes.load(Ordering::Relaxed),
            self.bytes_max.load(Ordering::Relaxed),
        )
    }

    /// Whether a queue that holds so much has used up a part of what it may: `parts` of two.
    pub(super) fn is_over(&self, n_frames: usize, n_bytes: u64, parts: u64) -> bool {
        // Senders that share the rate share the room, so that the time in a queue is the same
        // however many there are.
        let n = self.n_waiting().max(1) * 2;
        let n_frames = n_frames as u64;
        let bound = |max: &AtomicU64| max.load(Ordering::Relaxed).saturating_mul(parts);
        n_frames > 1
            && (n_bytes.saturating_mul(n) > bound(&self.bytes_max)
                || n_frames.saturating_mul(n) > bound(&self.frames_max))
    }

    /// Whether a flood's copy of so many bytes may pass without an allowance; it is charged all the
    /// same.
    #[cold]
    pub(crate) fn may_pass_ahead(&self, now: Nanos, n_bytes: u32) -> bool {
        let limiters = [
            (&self.flood_copies, 1),
            (&self.flood_bytes, u64::from(n_bytes)),
        ];
        let may = limiters
            .iter()
            .all(|(limiter, _)| limiter.credit(now).is_some());
        if may {
            limiters.iter().for_each(|(limiter, units)| {
                limiter.charge(now, *units);
            });
        }
        may
    }

    /// For control: see [`Limiter::refresh`].
    pub(crate) fn refresh(&self, now: Nanos) {
        [&self.flood_copies, &self.flood_bytes]
            .into_iter()
            .for_each(|limiter| limiter.refresh(now));
    }
}
