//! One queue of frames that are held at a VM's limit.

use std::sync::atomic::Ordering;

use flowtable::{Action, DropReason, PortId};

use super::ecn;
use super::fifo::{Fifo, Taken};
use super::pace::{Pace, Waiting};
use crate::burst::{BURST_MAX, Burst};
use crate::limit::gate::SHUT_MIN;
use crate::limit::vm_queue::VmQueue;
use crate::stats::CoreStats;
use crate::time::Nanos;

/// How long a receiver may take nothing of what was held for it, before that is dropped: as a
/// receiver without room anywhere else.
const BLOCKED_MAX: Nanos = 10_000_000;
/// A queue of several that take turns is looked at this often at least: fewer may wait than before.
const LOOK_AGAIN: Nanos = 2_000_000;

/// Whose frames a queue has: those of one receive queue for one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) from: PortId,
    /// The receive queue, as receivers know it.
    pub(crate) who: u32,
    pub(crate) to: PortId,
    /// Which transmit queue of a device they leave by.
    pub(crate) tx_index: u16,
    /// They could have stayed where they were.
    pub(crate) is_local: bool,
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) flow: Flow,
    /// The queues before and behind it of those that the table finds in the same place, and one; 0:
    /// none.
    pub(super) before: u16,
    pub(super) next: u16,
    /// Where it is in the list of those in use.
    pub(super) place: u16,
    pub(super) waiting: Waiting,
    pub(super) fifo: Fifo,
    pub(super) pace: Pace,
    /// It isn't looked at before.
    pub(super) opens_at: Nanos,
    /// Since when its receiver takes nothing.
    pub(super) blocked_since: Option<Nanos>,
    /// The rules by which its frames were decided, all but so many at its head.
    pub(super) rules: u32,
    pub(super) n_stale: usize,
}

impl Held {
    /// Whether the first frames were decided by other rules than these.
    pub(crate) fn is_stale(&mut self, rules: u32) -> bool {
        if self.rules != rules {
            (self.rules, self.n_stale) = (rules, self.fifo.n_frames());
        }
        self.n_stale > 0
    }

    /// Copies frame `k` behind the others, and marks it if they are many; false: there is no room.
    pub(super) fn push(&mut self, burst: &mut Burst, k: usize, now: Nanos) -> bool {
        let Some((limit, queue)) = self.waiting.at() else {
            return false;
        };
        // Behind what waits at a limit that is no more, until that has gone, a moment later.
        let has_limit = limit.is_on();
        let is_over = |fifo: &Fifo, parts| {
            has_limit && queue.is_over(fifo.n_frames(), fifo.n_charged(), parts)
        };
        if is_over(&self.fifo, 1) {
            ecn::mark(&mut burst.headers[k], burst.lens[k] as usize);
        }
        if is_over(&self.fifo, 2) || !self.fifo.push(&queue.chunks, burst, k, now) {
            return false;
        }
        queue.n_frames.fetch_add(1, Ordering::Relaxed);
        queue
            .n_bytes
            .fetch_add(burst.lens[k].into(), Ordering::Relaxed);
        true
    }

    /// Takes the first `n` frames off.
    pub(crate) fn pop(&mut self, n: usize, stats: &CoreStats) {
        let Some((_, queue)) = self.waiting.at() else {
            return;
        };
        let taken = self.fifo.pop(&queue.chunks, n);
        self.n_stale = self.n_stale.saturating_sub(n);
        self.count(taken, stats);
    }

    /// Drops the first `n` frames.
    pub(crate) fn drop_first(&mut self, n: usize, reason: DropReason, stats: &CoreStats) {
        self.pop(n, stats);
        stats.lost_many(
            self.flow.from,
            Action::Unicast(self.flow.to),
            reason,
            n as u64,
        );
    }

    /// Drops all frames, which costs the same however many they are.
    pub(super) fn drop_all(&mut self, reason: DropReason, stats: &CoreStats) {
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

    /// Drops frames that have waited for too long.
    pub(crate) fn drop_old(&mut self, now: Nanos, stats: &CoreStats) {
        for _ in 0..BURST_MAX {
            let Some((_, queue)) = self.waiting.at() else {
                return;
            };
            let is_old = |since| now.saturating_sub(since) > queue.age_max();
            if !self.fifo.since(&queue.chunks).is_some_and(is_old) {
                return;
            }
            self.drop_first(1, DropReason::Limit, stats);
        }
    }

    /// What may go now, with the ports that it comes from and goes to. None: nothing may; when to
    /// look again is set.
    pub(crate) fn next_burst<'b>(
        &mut self,
        burst: &'b mut Burst,
        now: Nanos,
    ) -> Option<(&'b mut Burst, PortId, PortId)> {
        let (limit, queue) = self.waiting.at()?;
        let opens_at = self.pace.opens_at(now, limit, queue);
        let most = look_again(now, queue);
        let Some(allowance) = limit.allowance(now).ok().filter(|_| opens_at <= now) else {
            self.opens_at = opens_at.clamp(now + 1, most);
            return None;
        };
        self.fifo.peek(&queue.chunks, burst, allowance);
        (0..burst.n).for_each(|k| burst.actions[k] = Action::Unicast(self.flow.to));
        Some((burst, self.flow.from, self.flow.to))
    }

    /// The first `n` frames of the burst have gone: when more may.
    pub(crate) fn went(&mut self, now: Nanos, burst: &Burst, n: usize) {
        let Some((limit, queue)) = self.waiting.at() else {
            return;
        };
        if n > 0 {
            self.pace
                .served(now, limit.time(burst.amount(0, n)), queue.n_waiting());
        }
        let opens_at = self.pace.opens_at(now, limit, queue);
        self.opens_at = if opens_at > now {
            opens_at.clamp(now + SHUT_MIN, look_again(now, queue))
        } else {
            now
        };
    }

    /// Nothing of it could go, for another reason than its limit: it is looked at again soon.
    /// Whether its receiver has taken nothing for too long.
    pub(crate) fn is_blocked(&mut self, now: Nanos) -> bool {
        self.opens_at = now + SHUT_MIN;
        let since = *self.blocked_since.get_or_insert(now);
        now.saturating_sub(since) >= BLOCKED_MAX
    }

    /// Its receiver took something of it, or its limit alone holds it back.
    pub(crate) fn is_not_blocked(&mut self) {
        self.blocked_since = None;
    }

    /// When it may be looked at.
    pub(crate) fn opens_at(&self) -> Nanos {
        self.opens_at
    }

    /// Whose frames it has.
    pub(crate) fn flow(&self) -> Flow {
        self.flow
    }
}

/// When a queue is looked at again at the latest.
fn look_again(now: Nanos, queue: &VmQueue) -> Nanos {
    if queue.n_waiting() > 1 {
        now + LOOK_AGAIN
    } else {
        Nanos::MAX - 1
    }
}
