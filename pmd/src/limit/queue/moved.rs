//! Queues of held frames that go to another core, with the receive queue that their frames came in
//! by: so what came first still goes first.

use flowtable::{DropReason, PortId};

use super::held::Held;
use super::queues::LimitQueues;
use crate::stats::CoreStats;
use crate::time::Nanos;

impl LimitQueues {
    /// Moves the queues of this receive queue of port `from` into `held`, as far as its capacity
    /// goes, which [`super::QUEUES_MAX`] is enough for.
    pub(crate) fn take_of(&mut self, from: PortId, who: u32, held: &mut Vec<Held>) {
        // From the last on, since the last takes the place of one that is taken out.
        for at in (0..self.live.len()).rev() {
            let live = self.live[at];
            let slot = usize::from(live.slot);
            let is_of = |held: &Held| held.flow.who == who;
            if live.from == from
                && self.slots[slot].as_ref().is_some_and(is_of)
                && held.len() < held.capacity()
                && let Some(taken) = self.leave(slot)
            {
                held.push(taken);
            }
        }
    }

    /// Takes in one that was another core's. Its frames are judged by this core's rules before they
    /// go. Where there are as many queues as there may be, they are dropped as over the limit.
    pub(crate) fn put(&mut self, mut held: Held, stats: &CoreStats, now: Nanos) {
        (held.rules, held.n_stale) = (self.rules, held.fifo.n_frames());
        held.opens_at = held.opens_at.min(now);
        match self.free_slot() {
            Some(slot) => {
                self.enter(slot, held);
                self.due_at = self.due_at.min(now);
            }
            None => held.drop_all(DropReason::Limit, stats),
        }
    }
}

impl Held {
    /// The port that its frames are for.
    pub(crate) fn to(&self) -> PortId {
        self.flow.to
    }

    /// Drops its frames, which are on no core: one of two ports has gone down.
    pub(crate) fn drop_between_cores(&mut self, stats: &CoreStats) {
        self.drop_all(DropReason::PortDown, stats);
    }
}
