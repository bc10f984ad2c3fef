//! Places at a destination for frames of a burst.
#![expect(clippy::cast_possible_truncation, reason = "places in a burst")]

use super::outcome::{Block, Way};
use super::sender::{OUTS_MAX, Out, Sender};
use crate::burst::Burst;
use crate::limit::policer::{self, Pass};
use crate::port::Room;
use crate::port::views::{TXQS_MAX, Views, queue_of};
use arrayvec::ArrayVec;
use flowtable::{DropReason, PortId};

impl Sender<'_> {
    /// Places for the `n` frames from `k` on at port `to`, as many as go to one queue; gives how
    /// many got one, and what became of the next. `is_copy`: they are copies of a flood.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "it is part of its callers")]
    pub(crate) fn reserve<'v>(
        &mut self,
        views: &'v Views,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        n: usize,
        is_copy: bool,
        to: PortId,
    ) -> (usize, Way) {
        let Some(view) = views.get(usize::from(to)).and_then(Option::as_deref) else {
            return (0, self.absent(to));
        };
        let (queue, n) = match queue_of(view, self.core, burst, k) {
            None => return (0, Way::Lost(DropReason::PortDown)),
            Some((queue, true)) => (queue, n),
            Some((queue, false)) => (queue, 1),
        };
        let slot = usize::from(to) * TXQS_MAX + queue;
        let place = usize::from(self.slots[slot]);
        let (mut n, mut bill) = (n, None);
        // One that lets the whole burst pass is asked once.
        let mut limit = view
            .to_vm()
            .filter(|_| place == 0 || outs[place - 1].bill.is_none());
        if let Some(asked) = limit {
            let pass = match view.limit_queue() {
                Some(queue)
                    if queue.n_waiting() > 0 && self.is_behind(asked, queue, to, is_copy) =>
                {
                    Pass::Some(0)
                }
                _ => policer::pass(asked, burst, k, n, is_copy, self.now),
            };
            match pass {
                Pass::All if place == 0 => bill = limit.take(),
                Pass::All => {}
                Pass::Some(0) if is_copy && view.may_pass_ahead(self.now, burst.lens[k]) => {}
                Pass::Some(0) if is_copy => return (0, Way::Lost(DropReason::Limit)),
                Pass::Some(0) => return (0, self.over(view)),
                Pass::Some(n_within) => n = n_within,
            }
        }
        let out = match place {
            0 => match self.open(view, queue, outs, to, slot) {
                Some(out) => {
                    self.slots[slot] = outs.len() as u16;
                    outs[out].bill = bill;
                    out
                }
                None => return (0, Way::Blocked(Block::Locked)),
            },
            n => n - 1,
        };
        let out = &mut outs[out];
        if out.queue.claim.bars(self.who, self.now) {
            return (0, self.barred(out, view));
        }
        let (lens, hint) = (&burst.lens[k..k + n], (burst.n - k) as u16);
        let (n, room) = match self.faults.is_watching {
            false => out.queue.reserve(lens, hint, &self.walked),
            true => {
                let n_before = out.frames.count_ones() as usize;
                out.queue.reserve_watched(
                    lens,
                    n_before,
                    (hint, &self.walked),
                    (to, self.faults),
                    self.now,
                )
            }
        };
        if n > 0 {
            out.queue.claim.redeem(self.who);
        }
        out.frames |= (((1u64 << n) - 1) << k) as u32;
        if let Some(limit) = limit {
            limit.charge(self.now, burst.amount(k, n));
        }
        let way = match room {
            Room::Reserved => Way::Reserved,
            Room::Full => self.no_room(out, view, Block::Full),
            Room::Short => self.no_room(out, view, Block::Short),
            Room::Later => self.no_room(out, view, Block::Later),
            Room::TooBig => Way::Lost(DropReason::TooBig),
            Room::Stopped => Way::Lost(DropReason::PortDown),
        };
        (n, way)
    }
}
