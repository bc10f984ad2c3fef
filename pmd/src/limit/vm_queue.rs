//! What is held at the limit on what one VM gets, over all cores.

use std::sync::atomic::{AtomicU64, Ordering};

use super::chunks::{CHARGED, CHUNK_BYTES, Chunks, ROOM};
use super::one_way::Limit;
use super::options::LimitOptions;
use super::rate::Limiter;
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
    bytes_max: u64,
    frames_max: u64,
    /// A frame that waited for longer is dropped.
    pub(crate) age_max: Nanos,
    /// What has been saved up for longer than this may be used by any sender.
    pub(crate) slack: Nanos,
    /// What floods may be charged without an allowance: copies, and bytes, a quarter of the limit,
    /// so that they leave it the rest.
    flood_copies: Limiter,
    flood_bytes: Option<Limiter>,
}

impl VmQueue {
    /// None where what is over the limit is dropped.
    pub(crate) fn new(options: &LimitOptions, limit: &Limit) -> Option<Self> {
        let wanted = options.queue?;
        let in_time = |per_second: u64| {
            let n = u128::from(per_second) * u128::from(wanted.time) / 1_000_000_000;
            u64::try_from(n).unwrap_or(u64::MAX)
        };
        let frames_max = options
            .packets_per_sec
            .map_or(u64::MAX, |packets| in_time(packets).max(FRAMES_MIN));
        let by_bits = options.bits_per_sec.map(|bits| in_time(bits / 8));
        let bytes_max = by_bits
            .unwrap_or(frames_max.saturating_mul(FRAME_BYTES))
            .min(wanted.bytes_max);
        let bytes_max = bytes_max.max(FRAMES_MIN * FRAME_BYTES);
        // All local queues together have room for what one may hold that waits alone, and a wire's
        // queues for as much again: so one of these never lacks a chunk while it is within its
        // part, whatever guests do. Several get theirs as those before them shrink to theirs.
        let n_chunks = (bytes_max * ROOM / CHARGED).div_ceil(CHUNK_BYTES as u64);
        let n_local = n_chunks + CHUNKS_MORE_LOCAL;
        let [n_all, n_local] = [n_local + n_chunks + CHUNKS_MORE, n_local]
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let least = Amount {
            n_frames: FRAMES_MIN + 1,
            n_bytes: (FRAMES_MIN + 1) * FRAME_BYTES,
        };
        Some(Self {
            n_waiting: AtomicU64::new(0),
            n_frames: AtomicU64::new(0),
            n_bytes: AtomicU64::new(0),
            chunks: Chunks::new(n_all, n_local),
            bytes_max,
            frames_max,
            age_max: (wanted.time.saturating_mul(9) / 4).max(limit.time(least)),
            slack: (limit.burst_time() / 4).min(SLACK_MAX),
            flood_copies: Limiter::of_packets(FLOODS_PER_SEC, Some(FLOODS_AT_ONCE)),
            flood_bytes: options
                .bits_per_sec
                .map(|bits| Limiter::of_bits(bits / 4, None)),
        })
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
        (self.n_bytes.load(Ordering::Relaxed), self.bytes_max)
    }

    /// Whether a queue that holds so much has used up a part of what it may: `parts` of two.
    pub(super) fn is_over(&self, n_frames: usize, n_bytes: u64, parts: u64) -> bool {
        // Senders that share the rate share the room, so that the time in a queue is the same
        // however many there are.
        let n = self.n_waiting().max(1) * 2;
        let n_frames = n_frames as u64;
        n_frames > 1
            && (n_bytes.saturating_mul(n) > self.bytes_max.saturating_mul(parts)
                || n_frames.saturating_mul(n) > self.frames_max.saturating_mul(parts))
    }

    /// Whether a flood's copy of so many bytes may pass without an allowance; it is charged all the
    /// same.
    #[cold]
    pub(crate) fn may_pass_ahead(&self, now: Nanos, n_bytes: u32) -> bool {
        let limiters = [
            Some((&self.flood_copies, 1)),
            self.flood_bytes.as_ref().map(|l| (l, u64::from(n_bytes))),
        ];
        let may = limiters
            .iter()
            .flatten()
            .all(|(limiter, _)| limiter.credit(now).is_some());
        if may {
            limiters.iter().flatten().for_each(|(limiter, units)| {
                limiter.charge(now, *units);
            });
        }
        may
    }

    /// For control: see [`Limiter::refresh`].
    pub(crate) fn refresh(&self, now: Nanos) {
        [Some(&self.flood_copies), self.flood_bytes.as_ref()]
            .into_iter()
            .flatten()
            .for_each(|l| l.refresh(now));
    }
}
