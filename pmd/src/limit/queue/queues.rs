//! All queues of held frames that one core has.
#![expect(clippy::cast_possible_truncation, reason = "numbers of queues")]

use std::sync::Arc;

use flowtable::{DropReason, PortId};

use super::fifo::Fifo;
use super::held::{Flow, Held};
use super::pace::{Pace, Waiting};
use crate::burst::Burst;
use crate::limit::vm::VmLimits;
use crate::stats::CoreStats;
use crate::time::Nanos;

/// Queues of one core. What they take up is touched when there are as many.
pub(crate) const QUEUES_MAX: usize = 2048;

/// A queue in use, and what tells whether a port that goes down has to do with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) slot: u16,
    pub(super) from: PortId,
    pub(super) to: PortId,
}

/// All queues of one core. Has room for as many as it will ever have.
#[derive(Debug)]
pub(crate) struct LimitQueues {
    /// As many as there ever were at a time, with room for all.
    pub(super) slots: Vec<Option<Held>>,
    /// Of them, those that are free.
    free: Vec<u16>,
    pub(super) live: Vec<Live>,
    /// Of them, those of frames that could have stayed where they were.
    n_local: usize,
    /// By port: the queues of frames from it.
    n_from: Box<[u16]>,
    /// By hash of whose frames a queue has: the first there, and one; 0: none. As many places as
    /// there may be queues, a power of two, so that a frame finds its queue in one step or two,
    /// however many send to the same VM.
    table: Box<[u16; QUEUES_MAX]>,
    /// When the first of them may be looked at; the end of time: there is none.
    pub(crate) due_at: Nanos,
    /// How often rules have changed.
    pub(super) rules: u32,
}

impl LimitQueues {
    /// For a switch whose ports have ids below `n_ports`.
    pub(crate) fn new(n_ports: usize) -> Self {
        Self {
            slots: Vec::with_capacity(QUEUES_MAX),
            free: Vec::with_capacity(QUEUES_MAX),
            live: Vec::with_capacity(QUEUES_MAX),
            n_local: 0,
            n_from: vec![0; n_ports].into(),
            table: Box::new([0; QUEUES_MAX]),
            due_at: Nanos::MAX,
            rules: 0,
        }
    }

    /// Whether no frame waits here.
    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// When the queue of these frames is looked at next; `None`: none wait.
    pub(crate) fn opens_at(&self, who: u32, to: PortId) -> Option<Nanos> {
        Some(self.slots[self.find(who, to)?].as_ref()?.opens_at)
    }

    /// Where the table finds the queue of these frames.
    fn hash(&self, who: u32, to: PortId) -> usize {
        let key = u64::from(who) << 16 | u64::from(to);
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % QUEUES_MAX
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
        let has_room = held.push(burst, k, now);
        if !has_room && held.fifo.n_frames() == 0 {
            self.remove(slot);
        }
        has_room
    }

    /// A queue with nothing in it yet.
    fn add(&mut self, limits: &Arc<VmLimits>, flow: Flow, now: Nanos) -> Option<usize> {
        // Guests that send to everybody must not take the wire's, nor a port of many queues
        // another's: it may have as many as it leaves.
        let n_from = usize::from(self.n_from[usize::from(flow.from)]);
        let n_left = QUEUES_MAX - self.live.len();
        let n_left_local = (QUEUES_MAX / 2).saturating_sub(self.n_local);
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
        let (fifo, pace) = (Fifo::new(flow.is_local), Pace::default());
        let (blocked_since, rules, n_stale) = (None, self.rules, 0);
        let held = Held {
            flow,
            before: 0,
            next: 0,
            place: 0,
            waiting,
            fifo,
            pace,
            opens_at: now,
            blocked_since,
            rules,
            n_stale,
        };
        let slot = self.free_slot()?;
        self.enter(slot, held);
        self.due_at = now;
        Some(usize::from(slot))
    }

    /// Enters a queue at a free place, in the list of those in use and in the table.
    pub(super) fn enter(&mut self, slot: u16, mut held: Held) {
        let flow = held.flow;
        let hash = self.hash(flow.who, flow.to);
        held.before = 0;
        held.next = std::mem::replace(&mut self.table[hash], slot + 1);
        if let Some(behind) = self.at(held.next) {
            behind.before = slot + 1;
        }
        held.place = self.live.len() as u16;
        self.slots[usize::from(slot)] = Some(held);
        self.live.push(Live {
            slot,
            from: flow.from,
            to: flow.to,
        });
        self.n_local += usize::from(flow.is_local);
        self.n_from[usize::from(flow.from)] += 1;
    }

    /// One that is free, if any is.
    pub(super) fn free_slot(&mut self) -> Option<u16> {
        self.free.pop().or_else(|| {
            let slot = self.slots.len();
            // Within what was allocated.
            (slot < QUEUES_MAX).then(|| {
                self.slots.push(None);
                slot as u16
            })
        })
    }

    /// The queue of this number, and one.
    fn at(&mut self, number: u16) -> Option<&mut Held> {
        self.slots
            .get_mut(usize::from(number).wrapping_sub(1))?
            .as_mut()
    }

    /// Forgets a queue in which nothing is left. The last in the list takes its place there.
    fn remove(&mut self, slot: usize) {
        drop(self.leave(slot));
    }

    /// Takes a queue out. The last in the list takes its place there.
    pub(super) fn leave(&mut self, slot: usize) -> Option<Held> {
        let held = self.slots[slot].take()?;
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
        Some(held)
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

    /// The limits at which frames for this port wait have changed: they are looked at again at
    /// once.
    pub(crate) fn look_again_at(&mut self, port: PortId, now: Nanos) {
        for live in self.live.iter().filter(|live| live.to == port) {
            if let Some(held) = &mut self.slots[usize::from(live.slot)] {
                held.opens_at = held.opens_at.min(now);
                self.due_at = self.due_at.min(now);
            }
        }
    }

    /// The queue at a place in the list of those in use; `None`: there are not as many.
    pub(crate) fn slot_at(&self, place: usize) -> Option<usize> {
        self.live.get(place).map(|live| live.slot.into())
    }

    /// A queue by its slot, and how often rules have changed.
    pub(crate) fn held(&mut self, slot: usize) -> Option<(&mut Held, u32)> {
        Some((self.slots[slot].as_mut()?, self.rules))
    }

    /// When a queue that was served may be looked at again. `None`: nothing is left in it, and the
    /// last in the list has taken its place.
    pub(crate) fn keep(&mut self, slot: usize) -> Option<Nanos> {
        match &self.slots[slot] {
            Some(held) if held.fifo.n_frames() > 0 => Some(held.opens_at),
            _ => {
                self.remove(slot);
                None
            }
        }
    }

    /// Rules have changed: what waits is judged by them before it goes.
    pub(crate) fn rules_changed(&mut self) {
        self.rules = self.rules.wrapping_add(1);
    }
}

#[cfg(test)]
#[path = "queues_tests.rs"]
mod tests;
