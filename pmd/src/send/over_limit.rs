//! Frames for a VM that is at the limit on what it gets: which wait where, and which are dropped.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions in a ring are 16 bits, as are ports"
)]

use std::sync::Arc;

use arrayvec::ArrayVec;
use flowtable::{Action, DropReason, PortId};

use super::outcome::{Block, Over, Way};
use super::sender::{OUTS_MAX, Out, Sender};
use crate::burst::Burst;
use crate::limit::queue::Flow;
use crate::limit::{Limit, VmQueue};
use crate::port::views::{TXQS_MAX, Views, limits_of};
use crate::port::{PortView, RxQueue};

impl Sender<'_> {
    /// Whether a frame to this VM has to wait although there may be an allowance: frames of its own
    /// receive queue wait there, or others, whose turn it is. Copies of floods don't wait, nor what
    /// comes out of a queue.
    #[cold]
    #[inline(never)]
    pub(crate) fn is_behind(
        &self,
        limit: &Limit,
        queue: &VmQueue,
        to: PortId,
        is_copy: bool,
    ) -> bool {
        let Some(queues) = self.queues.as_deref().filter(|_| !is_copy) else {
            return false;
        };
        if queues.opens_at(self.rxq, to).is_some() {
            return true;
        }
        self.turn_at != Some(to) && limit.until_saved(self.now, queue.slack()) > 0
    }

    /// What becomes of a frame to a VM at its limit, before it is known whether it may wait.
    #[cold]
    pub(crate) fn over(&self, view: &PortView) -> Way {
        if view.limits().is_some_and(|limits| limits.may_wait()) {
            Way::Blocked(Block::Limit)
        } else {
            Way::Lost(DropReason::Limit)
        }
    }

    /// Frame `k` is blocked by its receiver's limit. What may stay where it is does as long as
    /// nothing behind it could go elsewhere; everything else is queued.
    #[cold]
    #[inline(never)]
    pub(crate) fn over_limit<'v>(
        &mut self,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &mut Burst,
        k: usize,
        rxq: &mut RxQueue,
        can_hold: bool,
    ) -> Over
    where
        Self: 'v,
    {
        let Action::Unicast(to) = burst.actions[k] else {
            return Over::Lost;
        };
        let views = self.views;
        let is_another_vms =
            |slot| goes_elsewhere(views, Action::Unicast((slot / TXQS_MAX) as PortId), to);
        let is_another_behind =
            can_hold && self.another_could_go(outs, burst, k, rxq, is_another_vms);
        if can_hold {
            if is_another_behind
                || burst.actions[..k]
                    .iter()
                    .any(|&action| goes_elsewhere(self.views, action, to))
            {
                rxq.turn.is_mixed_at(self.now);
            }
            if !rxq.turn.is_mixed(self.now) {
                return Over::Held;
            }
        }
        let limits = limits_of(self.views, to);
        let (Some(limits), Some(queues)) = (limits, self.queues.as_deref_mut()) else {
            return Over::Lost;
        };
        let flow = Flow {
            from: rxq.port,
            who: self.rxq,
            to,
            tx_index: self.tx_index,
            is_local: can_hold,
        };
        let is_queued = queues.push(limits, flow, burst, k, self.now);
        if !is_queued && can_hold && !is_another_behind {
            return Over::Held;
        }
        // That it goes now is no pace of the ring's own.
        rxq.ahead
            .dropped(rxq.position().wrapping_add(k as u16 + 1), self.now);
        if is_queued { Over::Queued } else { Over::Lost }
    }
}

/// Whether a frame goes to another VM than the one of port `to`.
fn goes_elsewhere(views: &Views, action: Action, to: PortId) -> bool {
    let limits = |port: PortId| limits_of(views, port).map(Arc::as_ptr);
    match action {
        Action::Unicast(port) => limits(port) != limits(to),
        Action::Flood(_) => true,
        Action::Drop(_) | Action::Refused(_) => false,
    }
}
