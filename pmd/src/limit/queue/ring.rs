//! A ring whose first frame is held at a VM's limit, and all behind it: when it is looked at again.

use std::sync::Arc;

use flowtable::{Action, PortId};

use super::pace::{Pace, Waiting};
use super::queues::LimitQueues;
use crate::burst::Burst;
use crate::limit::gate::SHUT_MIN;
use crate::limit::vm::VmLimits;
use crate::time::Nanos;

/// A ring is looked at this often at least: meanwhile, frames for others may have come behind those
/// that are held.
const LOOK_AGAIN: Nanos = 2_000_000;
/// For how long a ring that had frames for another VM counts as one that will have more of them.
const MIXED_TIME: Nanos = 20_000_000;

/// A receive queue's turn at a limit. Belongs to the core that polls the queue.
#[derive(Debug, Default)]
pub(crate) struct RingTurn {
    /// None: its frames are held at no limit.
    waiting: Option<Waiting>,
    /// The port that they are for.
    port: PortId,
    pace: Pace,
    due_at: Nanos,
    /// Until when frames for others are likely to come behind those that are held.
    mixed_until: Nanos,
}

impl RingTurn {
    /// Whether it waits at a limit.
    #[inline(always)]
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Frames for others are among those of a VM at its limit.
    pub(crate) fn is_mixed_at(&mut self, now: Nanos) {
        self.mixed_until = now + MIXED_TIME;
    }

    /// Whether that was so lately.
    pub(crate) fn is_mixed(&self, now: Nanos) -> bool {
        now < self.mixed_until
    }

    /// The port whose limit it waited at, if its turn has come.
    pub(crate) fn port(&self, now: Nanos) -> Option<PortId> {
        (self.is_waiting() && now >= self.due_at).then_some(self.port)
    }

    /// It was found empty, or its port went down.
    #[cold]
    pub(crate) fn leave(&mut self) {
        self.waiting = None;
    }

    /// Whether it waits at the limit of this port.
    pub(crate) fn is_at(&self, port: PortId) -> bool {
        self.is_waiting() && self.port == port
    }

    /// A port goes down: a ring that waits at its limit has no part in that any more, so that
    /// control can free it.
    pub(crate) fn leave_port(&mut self, port: PortId) {
        if self.port == port {
            self.waiting = None;
        }
    }

    /// The first `n` frames of the burst went, and what is behind them is held at the limit of
    /// `at`, a port with the limits of its VM, if at any. Gives when to look again.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle(
        &mut self,
        now: Nanos,
        burst: &Burst,
        n: usize,
        at: Option<(PortId, Option<&Arc<VmLimits>>)>,
        held: Option<Nanos>,
    ) -> Option<Nanos> {
        if let Some((limit, queue)) = self.waiting.as_ref().and_then(Waiting::at) {
            let mut sent = (0..n)
                .filter(|&k| burst.actions[k] == Action::Unicast(self.port))
                .peekable();
            if sent.peek().is_some() {
                let cost = sent.map(|k| limit.time(burst.amount(k, 1))).sum();
                self.pace.served(now, cost, queue.n_waiting());
            }
        }
        let Some((to, limits)) = at else {
            self.waiting = None;
            return None;
        };
        if let Some(opens_at) = held {
            // Others of its frames wait there already, and have the turn.
            self.waiting = None;
            return Some(opens_at.clamp(now + SHUT_MIN, now + self.look_again(now)));
        }
        let limits = limits?;
        if !self
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.is_at(limits))
        {
            self.waiting = Waiting::new(limits);
        }
        if self.port != to {
            (self.port, self.pace) = (to, Pace::default());
        }
        let (limit, queue) = limits.held()?;
        self.due_at = self.pace.opens_at(now, limit, queue);
        Some(
            self.due_at
                .clamp(now + SHUT_MIN, now + self.look_again(now)),
        )
    }

    fn look_again(&self, now: Nanos) -> Nanos {
        if self.is_mixed(now) {
            SHUT_MIN
        } else {
            LOOK_AGAIN
        }
    }
}

impl LimitQueues {
    /// When the queue of held frames is looked at that a ring's frames would have to go behind.
    #[cold]
    pub(crate) fn before_ring(&self, who: u32, at: Option<PortId>) -> Option<Nanos> {
        self.opens_at(who, at?)
    }
}
