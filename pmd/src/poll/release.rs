//! What a core does each turn with frames that wait at limits: those that may go now are sent, in
//! bursts like any other.

use flowtable::{Action, DropReason, Networks, PortId, Tuple};

use super::core::{Core, next_burst};
use super::outcome::Turn;
use crate::burst::Burst;
use crate::send::{Block, Sender};
use crate::shm::damage;
use crate::sys;
use crate::time::Nanos;

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
        while let Some(slot) = self.queues.slot_at(place) {
            self.release_from(slot, now, turn);
            if let Some(opens_at) = self.queues.keep(slot) {
                due_at = due_at.min(opens_at);
                place += 1;
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
        let Some((held, rules)) = self.queues.held(slot) else {
            return;
        };
        if now < held.opens_at() {
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
            tx_index: held.flow().tx_index,
            views: &self.views,
            changing: &self.changing,
            networks: self.lookup.networks(),
            stats: &self.stats,
            slots: &mut self.slots,
            // They can wait, but not for long, so they take no turns.
            who: 0,
            queues: None,
            // At a lock they may have the turn of their receive queue.
            rxq: held.flow().who,
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
            if held.is_blocked(now) {
                let reason = self
                    .views
                    .get(usize::from(to))
                    .and_then(Option::as_ref)
                    .map(|view| view.reason_full);
                held.drop_first(burst.n, reason.unwrap_or(DropReason::PortDown), &self.stats);
            }
        } else {
            held.is_not_blocked();
        }
        turn.n_frames += n;
        turn.n_throttled += n;
    }
}

/// What rules that have changed make of frames that were decided before.
fn judge(burst: &mut Burst, from: PortId, to: PortId, networks: &Networks) {
    for k in 0..burst.n {
        let tuple = Tuple::parse(&burst.headers[k], burst.lens[k] as usize);
        burst.actions[k] = networks.judge(from, Action::Unicast(to), &tuple);
    }
}
