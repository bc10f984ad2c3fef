//! All queues of held frames that one core has, and what a VM has of them.
#![expect(clippy::cast_possible_truncation, reason = "numbers of queues")]

use super::chunks::{CHUNK_BYTES, Chunks};
use super::fifo::{Fifo, Taken};
use super::pace::{Pace, Waiting};
use crate::burst::Burst;
use crate::limit::limits::{Amount, Limit, LimitOptions, VmLimits};
use crate::limit::rate::Limiter;
use crate::stats::CoreStats;
use crate::time::Nanos;
use flowtable::{Action, DropReason, PortId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
/// Queues of one core: for each port that the switch may have, at least, and at most.
const QUEUES_A_PORT: usize = 16;
const QUEUES_MIN: usize = 256;
const QUEUES_MAX: usize = 2048;

/// What is held at the limit on what one VM gets, over all cores: whose memory it is in, and how
/// much of it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct VmQueue {
    /// Queues and rings that wait.
    pub(crate) n_waiting: AtomicU64,
    /// Frames in all queues, and their bytes.
    n_frames: AtomicU64,
    n_bytes: AtomicU64,
    pub(crate) chunks: Chunks,
    bytes_max: u64,
    frames_max: u64,
    /// A frame that waited for longer is dropped.
    pub(crate) age_max: Nanos,
    /// What has been saved up for longer than this is for anybody.
    pub(crate) slack: Nanos,
    /// What floods may be charged without an allowance: copies, and bytes, a quarter of the limit,
    /// so that they leave it the rest.
    flood_copies: Limiter,
    flood_bytes: Option<Limiter>,
}

impl VmQueue {
    /// None where what is over the limit is dropped.
    pub(crate) fn new(options: &LimitOptions, limit: &Limit) -> Option<Self> {
        let asked = options.queue?;
        let in_time = |per_second: u64| {
            let n = u128::from(per_second) * u128::from(asked.time) / 1_000_000_000;
            u64::try_from(n).unwrap_or(u64::MAX)
        };
        let frames_max = options
            .packets_per_sec
            .map_or(u64::MAX, |packets| in_time(packets).max(FRAMES_MIN));
        let by_bits = options.bits_per_sec.map(|bits| in_time(bits / 8));
        let bytes_max = by_bits
            .unwrap_or(frames_max.saturating_mul(FRAME_BYTES))
            .min(asked.bytes_max);
        let bytes_max = bytes_max.max(FRAMES_MIN * FRAME_BYTES);
        // All local queues together have room for what one may hold that waits alone, and a wire's
        // queues for as much again: so one of these never lacks a chunk while it is within its
        // part, whatever guests do. Several get theirs as those before them shrink to theirs.
        let n_chunks =
            (bytes_max * super::fifo::ROOM / super::fifo::CHARGED).div_ceil(CHUNK_BYTES as u64);
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
            age_max: (asked.time.saturating_mul(9) / 4).max(limit.time(least)),
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
    fn is_over(&self, fifo: &Fifo, parts: u64) -> bool {
        // Who shares the rate shares the room, so that the time in a queue is the same however many
        // there are.
        let n = self.n_waiting().max(1) * 2;
        let (n_frames, n_bytes) = (fifo.n_frames() as u64, fifo.n_charged());
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

/// Whose frames a queue has: those of one receive queue for one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) from: PortId,
    /// The receive queue, as receivers know it.
    pub(crate) who: u32,
    pub(crate) to: PortId,
    /// They could have stayed where they were.
    pub(crate) is_local: bool,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) flow: Flow,
    /// The queues before and behind it of those that the table finds in the same place, and one; 0:
    /// none.
    before: u16,
    next: u16,
    /// Where it is in the list of those in use.
    place: u16,
    pub(super) waiting: Waiting,
    pub(super) fifo: Fifo,
    pub(super) pace: Pace,
    /// It isn't looked at before.
    pub(super) opens_at: Nanos,
    /// Since when its receiver takes nothing.
    pub(super) blocked_since: Option<Nanos>,
    /// The rules by which its frames were decided, all but so many at its head.
    pub(super) rules: u32,
    n_stale: usize,
}

/// A queue in use, and what tells whether a port that goes down has to do with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) slot: u16,
    from: PortId,
    to: PortId,
}

/// All queues of one core. Has room for as many as it will ever have.
#[derive(Debug)]
pub(crate) struct LimitQueues {
    pub(super) slots: Box<[Option<Held>]>,
    free: Vec<u16>,
    pub(super) live: Vec<Live>,
    /// Of them, those of frames that could have stayed where they were.
    n_local: usize,
    /// By port: the queues of frames from it.
    n_from: Box<[u16]>,
    /// By hash of whose frames a queue has: the first there, and one; 0: none. As many places as
    /// there may be queues, a power of two, so that a frame finds its queue in one step or two,
    /// however many send to the same VM.
    table: Box<[u16]>,
    /// When the first of them may be looked at; the end of time: there is none.
    pub(crate) due_at: Nanos,
    /// How often rules have changed.
    pub(super) rules: u32,
}

impl LimitQueues {
    /// For a switch of so many ports.
    pub(crate) fn new(n_ports: usize) -> Self {
        let n_max = (n_ports * QUEUES_A_PORT).clamp(QUEUES_MIN, QUEUES_MAX);
        Self {
            slots: (0..n_max).map(|_| None).collect(),
            free: (0..n_max as u16).rev().collect(),
            live: Vec::with_capacity(n_max),
            n_local: 0,
            n_from: vec![0; n_ports].into(),
            table: vec![0; n_max.next_power_of_two()].into(),
            due_at: Nanos::MAX,
            rules: 0,
        }
    }

    /// When the queue of these frames is looked at next; `None`: none wait.
    pub(crate) fn opens_at(&self, who: u32, to: PortId) -> Option<Nanos> {
        Some(self.slots[self.find(who, to)?].as_ref()?.opens_at)
    }

    /// Where the table finds the queue of these frames.
    fn hash(&self, who: u32, to: PortId) -> usize {
        let key = u64::from(who) << 16 | u64::from(to);
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & (self.table.len() - 1)
    }

    fn find(&self, who: u32, to: PortId) -> Option<usize> {
        let mut next = self.table[self.hash(who, to)];
        while next != 0 {
            let slot = usize::from(next - 1);
            let held = self.slots[slot].as_ref()?;
            if (held.flow.who, held.flow.to) == (who, to) {
                return Some(slot);
            }
            next = held.next;
        }
        None
    }

    /// Copies frame `k` behind those of its receive queue that wait for this port; false: there is
    /// no room for it.
    pub(crate) fn push(
        &mut self,
        limits: &Arc<VmLimits>,
        flow: Flow,
        burst: &mut Burst,
        k: usize,
        now: Nanos,
    ) -> bool {
        let Some(slot) = self
            .find(flow.who, flow.to)
            .or_else(|| self.add(limits, flow, now))
        else {
            return false;
        };
        let Some(held) = &mut self.slots[slot] else {
            return false;
        };
        let Some((_, queue)) = held.waiting.at() else {
            return false;
        };
        if queue.is_over(&held.fifo, 1) {
            super::ecn::mark(&mut burst.headers[k], burst.lens[k] as usize);
        }
        let has_room =
            !queue.is_over(&held.fifo, 2) && held.fifo.push(&queue.chunks, burst, k, now);
        if has_room {
            queue.n_frames.fetch_add(1, Ordering::Relaxed);
            queue
                .n_bytes
                .fetch_add(burst.lens[k].into(), Ordering::Relaxed);
        } else if held.fifo.n_frames() == 0 {
            self.remove(slot);
        }
        has_room
    }

    /// A queue with nothing in it yet.
    fn add(&mut self, limits: &Arc<VmLimits>, flow: Flow, now: Nanos) -> Option<usize> {
        // Guests that send to everybody must not take the wire's, nor a port of many queues
        // another's: it may have as many as it leaves.
        let n_from = usize::from(self.n_from[usize::from(flow.from)]);
        let n_left = self.free.len();
        let n_left_local = (self.slots.len() / 2).saturating_sub(self.n_local);
        if n_from
            >= if flow.is_local {
                n_left.min(n_left_local)
            } else {
                n_left
            }
        {
            return None;
        }
        let waiting = Waiting::new(limits)?;
        let slot = self.free.pop()?;
        let hash = self.hash(flow.who, flow.to);
        let next = std::mem::replace(&mut self.table[hash], slot + 1);
        if let Some(behind) = self.at(next) {
            behind.before = slot + 1;
        }
        let place = self.live.len() as u16;
        let (fifo, pace) = (Fifo::new(flow.is_local), Pace::default());
        let (before, blocked_since, rules, n_stale) = (0, None, self.rules, 0);
        let held = Held {
            flow,
            before,
            next,
            place,
            waiting,
            fifo,
            pace,
            opens_at: now,
            blocked_since,
            rules,
            n_stale,
        };
        self.slots[usize::from(slot)] = Some(held);
        self.live.push(Live {
            slot,
            from: flow.from,
            to: flow.to,
        });
        self.n_local += usize::from(flow.is_local);
        self.n_from[usize::from(flow.from)] += 1;
        self.due_at = now;
        Some(usize::from(slot))
    }

    /// The queue of this number, and one.
    fn at(&mut self, number: u16) -> Option<&mut Held> {
        self.slots
            .get_mut(usize::from(number).wrapping_sub(1))?
            .as_mut()
    }

    /// Forgets a queue in which nothing is left. The last in the list takes its place there.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(held) = self.slots[slot].take() else {
            return;
        };
        let hash = self.hash(held.flow.who, held.flow.to);
        match self.at(held.before) {
            Some(before) => before.next = held.next,
            None => self.table[hash] = held.next,
        }
        if let Some(behind) = self.at(held.next) {
            behind.before = held.before;
        }
        self.live.swap_remove(usize::from(held.place));
        if let Some(&Live { slot, .. }) = self.live.get(usize::from(held.place))
            && let Some(moved) = &mut self.slots[usize::from(slot)]
        {
            moved.place = held.place;
        }
        self.free.push(slot as u16);
        self.n_local -= usize::from(held.flow.is_local);
        self.n_from[usize::from(held.flow.from)] -= 1;
        if self.live.is_empty() {
            self.due_at = Nanos::MAX;
        }
    }

    /// Drops what comes from or goes to this port, which is going down: up to `n_max` queues of it,
    /// whose number is taken off, each at once however much it holds. True: nothing is left.
    pub(crate) fn drop_all_of(
        &mut self,
        port: PortId,
        n_max: &mut usize,
        stats: &CoreStats,
    ) -> bool {
        // From the last on, since the last takes the place of one that is removed.
        for at in (0..self.live.len()).rev() {
            let Live { slot, from, to } = self.live[at];
            if from != port && to != port {
                continue;
            }
            let Some(left) = n_max.checked_sub(1) else {
                return false;
            };
            *n_max = left;
            if let Some(held) = &mut self.slots[usize::from(slot)] {
                held.drop_all(DropReason::PortDown, stats);
            }
            self.remove(usize::from(slot));
        }
        true
    }

    /// Rules have changed: what waits is judged by them before it goes.
    pub(crate) fn rules_changed(&mut self) {
        self.rules = self.rules.wrapping_add(1);
    }
}

impl Held {
    /// Whether the first frames were decided by other rules than these.
    pub(super) fn is_stale(&mut self, rules: u32) -> bool {
        if self.rules != rules {
            (self.rules, self.n_stale) = (rules, self.fifo.n_frames());
        }
        self.n_stale > 0
    }

    /// Takes the first `n` frames off.
    pub(super) fn pop(&mut self, n: usize, stats: &CoreStats) {
        let Some((_, queue)) = self.waiting.at() else {
            return;
        };
        let taken = self.fifo.pop(&queue.chunks, n);
        self.n_stale = self.n_stale.saturating_sub(n);
        self.count(taken, stats);
    }

    /// Drops the first `n` frames.
    pub(super) fn drop_first(&mut self, n: usize, reason: DropReason, stats: &CoreStats) {
        self.pop(n, stats);
        stats.lost_many(
            self.flow.from,
            Action::Unicast(self.flow.to),
            reason,
            n as u64,
        );
    }

    /// Drops all frames, which costs the same however many they are.
    fn drop_all(&mut self, reason: DropReason, stats: &CoreStats) {
        let Some((_, queue)) = self.waiting.at() else {
            return;
        };
        let taken = self.fifo.clear(&queue.chunks);
        self.count(taken, stats);
        stats.lost_many(
            self.flow.from,
            Action::Unicast(self.flow.to),
            reason,
            taken.n_frames as u64,
        );
    }

    /// These wait no longer.
    fn count(&self, Taken { n_frames, n_bytes }: Taken, stats: &CoreStats) {
        let Some((_, queue)) = self.waiting.at() else {
            return;
        };
        queue.n_frames.fetch_sub(n_frames as u64, Ordering::Relaxed);
        queue.n_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
        stats.port(self.flow.from).unqueued(n_frames as u64);
    }
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod queue_tests;
