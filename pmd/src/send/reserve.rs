//! Places at a destination for frames of a burst.
#![expect(clippy::cast_possible_truncation, reason = "places in a burst")]

use arrayvec::ArrayVec;
use flowtable::{DropReason, PortId};

use super::outcome::{Block, Way};
use super::sender::{OUTS_MAX, Out, Sender};
use crate::burst::Burst;
use crate::limit::OutLimit;
use crate::port::Room;
use crate::port::views::{TXQS_MAX, Views, queue_of};

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
        let (queue, n) = match queue_of(view, self.tx_index, burst, k) {
            None => return (0, Way::Lost(DropReason::PortDown)),
            Some((queue, true)) => (queue, n),
            Some((queue, false)) => (queue, 1),
        };
        let slot = usize::from(to) * TXQS_MAX + queue;
        let place = usize::from(self.slots[slot]);
        let mut limit = match place {
            0 => OutLimit::new(view.to_vm()),
            at => outs[at - 1].limit,
        };
        let n = match limit.to_ask() {
            None => n,
            Some(to_vm) => {
                let n_admitted = match view.limit_queue() {
                    Some(queue)
                        if queue.n_waiting() > 0 && self.is_behind(to_vm, queue, to, is_copy) =>
                    {
                        0
                    }
                    _ => limit.admit(burst, k, n, place == 0 && !is_copy, self.now),
                };
                match n_admitted {
                    0 if is_copy && view.may_pass_ahead(self.now, burst.lens[k]) => n,
                    0 if is_copy => return (0, Way::Lost(DropReason::Limit)),
                    0 => return (0, self.over(view)),
                    n_admitted => n_admitted,
                }
            }
        };
        let out = match place {
            0 => match self.open(view, queue, outs, (to, slot), limit) {
                Some(out) => {
                    self.slots[slot] = outs.len() as u16;
                    out
                }
                None => return (0, Way::Blocked(Block::Locked)),
            },
            n => n - 1,
        };
        let out = &mut outs[out];
        if out.queue.next_sender.must_wait(self.who, self.now) {
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
            out.queue.next_sender.release(self.who);
        }
        out.frames |= (((1u64 << n) - 1) << k) as u32;
        limit.charge(burst, k, n, self.now);
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
