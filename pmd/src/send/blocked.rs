//! What becomes of frames that can't go now: for how long they wait, and when they are dropped.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions in a ring are 16 bits"
)]

use arrayvec::ArrayVec;
use flowtable::{Action, DropReason, PortId};

use super::outcome::{Block, Wait, Way};
use super::sender::{OUTS_MAX, Out, Sender};
use crate::burst::Burst;
use crate::port::lock::TxLock;
use crate::port::views::{TXQS_MAX, destination, lock_at};
use crate::port::{PortView, RxQueue};
use crate::time::Nanos;

/// Frames that a receiver must have taken of a burst for the next ones to wait for the next turn as
/// a matter of course: a burst with fewer of them is held up by it.
const WELL_USED: u32 = 8;
/// How long a frame that can wait tries a lock before the next turn at it is reserved: most come by
/// luck.
const RESERVE_AFTER: Nanos = 50_000;

/// A frame to a receiver that is not waited for.
fn stalled(view: &PortView) -> Way {
    Way::Lost(match view.reason_full {
        DropReason::ReceiverFull => DropReason::ReceiverStalled,
        reason => reason,
    })
}

impl Sender<'_> {
    /// Frame `k` is blocked: how it waits where it is, and all behind it.
    ///
    /// # Errors
    /// When it may not wait, or no longer: the reason to drop it.
    #[cold]
    #[inline(never)]
    pub(crate) fn blocked<'v>(
        &mut self,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        rxq: &mut RxQueue,
        why: Block,
        can_hold: bool,
    ) -> Result<Wait, DropReason>
    where
        Self: 'v,
    {
        rxq.hold.forget_flood();
        let slot = destination(self.views, self.tx_index, burst, k);
        rxq.hold.wants(slot, self.burst);
        if can_hold && why == Block::Later && self.has_used_well(outs, slot) {
            return Ok(Wait::Next);
        }
        let verdict = match can_hold {
            true => self.wait(outs, burst, k, rxq, why, slot),
            // What is off the wire can wait for another core's burst, but not for a receiver.
            false if why != Block::Locked => Err(DropReason::ReceiverFull),
            false if self.may_wait_for_lock(rxq, slot, k) => Ok(()),
            false => Err(DropReason::ReceiverLocked),
        };
        verdict
            .map(|()| Wait::Held)
            .map_err(|reason| match burst.actions[k] {
                Action::Unicast(to) if reason == DropReason::ReceiverFull => self.reason_full(to),
                _ => reason,
            })
    }

    /// What becomes of a frame to a port that isn't there.
    #[cold]
    pub(crate) fn absent(&self, port: PortId) -> Way {
        match self.changing.get(usize::from(port)) {
            Some(&until) if self.now < until => Way::Blocked(Block::Full),
            _ => Way::Lost(DropReason::PortDown),
        }
    }

    /// What becomes of a frame that found no room at a queue that it could look at.
    #[cold]
    pub(crate) fn no_room(&self, out: &mut Out<'_>, view: &PortView, why: Block) -> Way {
        if out.queue.is_stalled(self.now) {
            stalled(view)
        } else {
            Way::Blocked(why)
        }
    }

    /// What becomes of a frame to a queue that is reserved for another, or paused.
    #[cold]
    pub(crate) fn barred(&self, out: &Out<'_>, view: &PortView) -> Way {
        if out.queue.next_sender.is_paused_for_long(self.now) {
            stalled(view)
        } else {
            Way::Blocked(Block::Full)
        }
    }

    /// What a frame is dropped for that could not wait until this port has room.
    #[cold]
    pub(crate) fn reason_full(&self, to: PortId) -> DropReason {
        let view = self.views.get(usize::from(to)).and_then(Option::as_ref);
        view.map_or(DropReason::ReceiverFull, |view| view.reason_full)
    }

    /// Whether the receiver behind a place in `slots` took many of this burst, so that it is
    /// nobody's fault if the rest takes another.
    pub(crate) fn has_used_well(
        &self,
        outs: &ArrayVec<Out<'_>, OUTS_MAX>,
        slot: Option<usize>,
    ) -> bool {
        self.place_of(slot)
            .is_some_and(|place| outs[place].frames.count_ones() >= WELL_USED)
    }

    /// Frame `k`, which goes to `slot`, is blocked: it waits while nothing behind it could go
    /// instead, or for its part of the time.
    ///
    /// # Errors
    /// When it may not wait any longer: the reason to drop it.
    fn wait<'v>(
        &mut self,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        rxq: &mut RxQueue,
        why: Block,
        slot: Option<usize>,
    ) -> Result<(), DropReason>
    where
        Self: 'v,
    {
        if k > 0 || why == Block::Full {
            rxq.hold.begin_anew();
        }
        match why {
            Block::Locked if self.wait_for_lock(rxq, slot, false) => return Ok(()),
            Block::Short if !rxq.hold.may_wait_for_more(self.now) => {
                return Err(DropReason::TooBig);
            }
            Block::Later if !rxq.hold.may_wait_for_more(self.now) => {
                return Err(DropReason::ReceiverFull);
            }
            _ => {}
        }
        if self.another_could_go(outs, burst, k, rxq, |_| true) && !rxq.hold.may_hold(self.now) {
            rxq.ahead
                .dropped(rxq.position().wrapping_add(k as u16 + 1), self.now);
            return Err(if why == Block::Locked {
                DropReason::ReceiverLocked
            } else {
                DropReason::ReceiverFull
            });
        }
        self.reserve_next(outs, rxq, slot);
        if why == Block::Full {
            rxq.room.may_wait_at(self.all_go_to(burst, k, slot), k);
        }
        Ok(())
    }

    #[cold]
    fn may_wait_for_lock(&self, rxq: &mut RxQueue, slot: Option<usize>, k: usize) -> bool {
        if k > 0 {
            rxq.hold.begin_anew();
        }
        self.wait_for_lock(rxq, slot, true)
    }

    /// Whether to wait for a transmit queue's lock, by its place in `slots`. What `is_lost`
    /// otherwise has the next turn there reserved at once when it has to come again, others if they
    /// have waited for half of what they may.
    pub(crate) fn wait_for_lock(
        &self,
        rxq: &mut RxQueue,
        slot: Option<usize>,
        is_lost: bool,
    ) -> bool {
        let lock = slot.and_then(|slot| lock_at(self.views, slot));
        let may_wait = rxq
            .hold
            .may_wait_for_lock(lock.map_or(0, TxLock::holder), self.now);
        let patience = if is_lost { 1 } else { RESERVE_AFTER };
        if let Some(lock) = lock.filter(|_| may_wait && rxq.hold.lock_waited(self.now) >= patience)
        {
            lock.reserve_turn(self.rxq, self.now);
            rxq.hold.reserve(slot.unwrap_or(0), self.burst);
        }
        may_wait
    }

    /// A frame waits for its receiver. If this queue has got nothing there, the receiver's next
    /// buffers are reserved for it.
    #[cold]
    fn reserve_next(
        &self,
        outs: &mut ArrayVec<Out<'_>, OUTS_MAX>,
        rxq: &mut RxQueue,
        slot: Option<usize>,
    ) {
        if let Some(out) = self
            .place_of(slot)
            .and_then(|place| outs.get_mut(place))
            .filter(|out| out.frames == 0)
        {
            out.queue.next_sender.reserve(self.who, self.now);
            rxq.hold.reserve(slot.unwrap_or(0), self.burst);
        }
    }

    /// Whether a frame behind `k` goes elsewhere, to where there seems to be room: in this burst,
    /// or behind it as far as that was looked at. One that will be dropped waits as well as any
    /// other. `counts`: whether a transmit queue other than that of `k`, by its place in `slots`,
    /// is elsewhere enough.
    pub(crate) fn another_could_go(
        &mut self,
        outs: &mut ArrayVec<Out<'_>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        rxq: &mut RxQueue,
        counts: impl Fn(usize) -> bool,
    ) -> bool {
        let (views, tx_index, at) = (self.views, self.tx_index, (self.stats.n_turns(), self.now));
        let blocked = destination(views, tx_index, burst, k);
        if rxq.ahead.knows(k, blocked, self.now) {
            return true;
        }
        let mut has_room = |slot| counts(slot) && self.has_room(outs, slot);
        let could_go = |&later: &usize| match burst.actions[later] {
            Action::Unicast(_) => destination(views, tx_index, burst, later)
                .is_some_and(|slot| Some(slot) != blocked && has_room(slot)),
            Action::Flood(_) => true,
            Action::Drop(_) | Action::Refused(_) => false,
        };
        let mut found = (k + 1..burst.n).find(could_go);
        if found.is_none() {
            let waiting = (rxq.position(), burst.n, rxq.n_waiting());
            found = rxq
                .ahead
                .could_go(waiting, blocked, at, has_room)
                .then_some(burst.n);
        }
        rxq.ahead.remember(found, blocked, at.1)
    }

    /// Whether a transmit queue has room for a small frame now.
    pub(crate) fn has_room(&mut self, outs: &mut ArrayVec<Out<'_>, OUTS_MAX>, slot: usize) -> bool {
        let at = ((slot / TXQS_MAX) as PortId, &mut *self.faults);
        match self.slots[slot] {
            0 => lock_at(self.views, slot)
                .and_then(TxLock::look)
                .is_some_and(|mut txq| txq.looks_open(&self.walked, at, self.now)),
            n => outs[usize::from(n) - 1]
                .queue
                .looks_open(&self.walked, at, self.now),
        }
    }

    /// The transmit queue that a burst's frames from `k` on go to, if all go there: `slot`.
    fn all_go_to(&self, burst: &Burst, k: usize, slot: Option<usize>) -> Option<usize> {
        let goes_there = |later| match burst.actions[later] {
            Action::Unicast(_) => destination(self.views, self.tx_index, burst, later) == slot,
            Action::Flood(_) => false,
            Action::Drop(_) | Action::Refused(_) => true,
        };
        slot.filter(|_| (k + 1..burst.n).all(goes_there))
    }
}
