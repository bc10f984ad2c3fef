//! What a core does each turn with frames that wait at limits: those that may go now are sent, in
//! bursts like any other.

use super::queues::{Held, VmQueue};
use crate::burst::{BURST_MAX, Burst};
use crate::limit::gate::SHUT_MIN;
use crate::poll::{Core, Turn, next_burst};
use crate::send::Block;
use crate::send::Sender;
use crate::shm::damage;
use crate::sys;
use crate::time::Nanos;
use flowtable::{Action, DropReason, Networks, PortId, Tuple};

/// How long a receiver may take nothing of what was held for it, before that is dropped: as a
/// receiver without room anywhere else.
const BLOCKED_MAX: Nanos = 10_000_000;
/// A queue of several that take turns is looked at this often at least: fewer may wait than before.
const LOOK_AGAIN: Nanos = 2_000_000;

impl Core {
    /// Sends a burst of each queue whose VM may get it now.
    #[cold]
    #[inline(never)]
    pub(crate) fn release(&mut self, now: Nanos, turn: &mut Turn) {
        if now < self.queues.due_at {
            return turn.opens(self.queues.due_at);
        }
        // What is held is in memory of our own.
        damage::forget();
        let then = sys::cycles();
        let (mut due_at, mut place) = (Nanos::MAX, 0);
        while let Some(live) = self.queues.live.get(place) {
            let slot = usize::from(live.slot);
            self.release_from(slot, now, turn);
            match &self.queues.slots[slot] {
                Some(held) if held.fifo.n_frames() > 0 => {
                    due_at = due_at.min(held.opens_at);
                    place += 1;
                }
                _ => self.queues.remove(slot),
            }
        }
        self.queues.due_at = due_at;
        if due_at > now && due_at < Nanos::MAX {
            turn.opens(due_at);
        }
        turn.is_pending |= due_at <= now;
        self.stats.flushed(sys::cycles().wrapping_sub(then));
    }

    /// Sends what may go of one queue, and sets when it is looked at again.
    fn release_from(&mut self, slot: usize, now: Nanos, turn: &mut Turn) {
        let rules = self.queues.rules;
        let Some(held) = &mut self.queues.slots[slot] else {
            return;
        };
        if now < held.opens_at {
            return;
        }
        let is_stale = held.is_stale(rules);
        held.drop_old(now, &self.stats);
        let Some((burst, from, to)) = held.next_burst(&mut self.burst, now) else {
            return;
        };
        if is_stale {
            judge(burst, from, to, self.lookup.networks());
        }
        self.n_bursts = next_burst(self.n_bursts);
        let mut sender = Sender {
            core: self.id,
            views: &self.views,
            changing: &self.changing,
            networks: self.lookup.networks(),
            stats: &self.stats,
            slots: &mut self.slots,
            // They can wait, but not for long, so they take no turns.
            who: 0,
            queues: None,
            // At a lock they may have the turn of their receive queue.
            rxq: held.flow.who,
            burst: self.n_bursts,
            turn_at: None,
            flushes: &mut self.flushes,
            walked: std::cell::Cell::new(0),
            faults: &mut self.faults,
            now,
        };
        let (n, block) = sender.send_held(burst, from, to);
        if n == 0 && block == Some(Block::Locked) {
            sender.reserve_for_held(burst, to);
        }
        held.pop(n, &self.stats);
        held.went(now, burst, n);
        if n == 0 && block.is_some_and(|block| block != Block::Limit) {
            turn.n_held += 1;
            held.opens_at = now + SHUT_MIN;
            let since = *held.blocked_since.get_or_insert(now);
            if now.saturating_sub(since) >= BLOCKED_MAX {
                let reason = self
                    .views
                    .get(usize::from(to))
                    .and_then(Option::as_ref)
                    .map(|view| view.reason_full);
                held.drop_first(burst.n, reason.unwrap_or(DropReason::PortDown), &self.stats);
            }
        } else {
            held.blocked_since = None;
        }
        turn.n_frames += n;
        turn.n_throttled += n;
    }
}

impl Held {
    /// Drops frames that have waited for too long.
    fn drop_old(&mut self, now: Nanos, stats: &crate::stats::CoreStats) {
        for _ in 0..BURST_MAX {
            let Some((_, queue)) = self.waiting.at() else {
                return;
            };
            let is_old = |since| now.saturating_sub(since) > queue.age_max;
            if !self.fifo.since(&queue.chunks).is_some_and(is_old) {
                return;
            }
            self.drop_first(1, DropReason::Limit, stats);
        }
    }

    /// What may go now, with the ports that it comes from and goes to. None: nothing may; when to
    /// look again is set.
    fn next_burst<'b>(
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
    fn went(&mut self, now: Nanos, burst: &Burst, n: usize) {
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
}

/// When a queue is looked at again at the latest.
fn look_again(now: Nanos, queue: &VmQueue) -> Nanos {
    if queue.n_waiting() > 1 {
        now + LOOK_AGAIN
    } else {
        Nanos::MAX - 1
    }
}

/// What rules that have changed make of frames that were decided before.
fn judge(burst: &mut Burst, from: PortId, to: PortId, networks: &Networks) {
    for k in 0..burst.n {
        let tuple = Tuple::parse(&burst.headers[k], burst.lens[k] as usize);
        burst.actions[k] = networks.judge(from, Action::Unicast(to), &tuple);
    }
}
