//! Turns that a receive queue has reserved: at a lock ([`crate::port::lock`]), or at a receiver
//! without room ([`crate::blocked::next_sender`]).
//!
//! Both keep others out, so a queue that has no use for its turn any more must not keep it: its
//! guest has rewritten the frame or emptied the ring, a limit holds it back now, its port goes
//! down. Then it is given back when the queue is looked at next.

use arrayvec::ArrayVec;

use super::sender::{OUTS_MAX, Out, Sender};
use crate::blocked::hold::Reserved;
use crate::port::RxQueue;
use crate::port::views::{Views, lock_at};
use crate::time::Nanos;

impl Sender<'_> {
    /// The burst is over, and some of it was held up, or something of one before. Gives back what
    /// no frame of it wanted.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle_hold(
        &self,
        outs: &mut ArrayVec<Out<'_>, OUTS_MAX>,
        rxq: &mut RxQueue,
        was_held: bool,
        was_cut: bool,
    ) {
        if was_held {
            self.stats.port(rxq.port).held();
        }
        if let Some(reserved) = rxq.hold.take_replaced() {
            self.give_back_at(outs, rxq, reserved.slot);
        }
        if let Some(reserved) = rxq.hold.reserved_before(self.burst)
            && self.give_back_at(outs, rxq, reserved.slot)
        {
            rxq.hold.reserves_nothing();
        }
        if !was_held && !was_cut {
            rxq.hold.release();
        }
    }

    /// Gives back what a queue has reserved there; whether that was done.
    fn give_back_at(
        &self,
        outs: &mut ArrayVec<Out<'_>, OUTS_MAX>,
        rxq: &RxQueue,
        slot: usize,
    ) -> bool {
        // The burst itself may have the queue locked.
        match self
            .place_of(Some(slot))
            .and_then(|place| outs.get_mut(place))
        {
            Some(out) => {
                out.queue.next_sender.release(rxq.who);
                out.lock.give_turn_back(rxq.who, self.now);
                true
            }
            None => give_back_at(rxq.who, slot, self.views, self.now),
        }
    }
}

/// A queue gives back what it has reserved, if anything: as far as that can be done now, which it
/// can but while another core is in the midst of a burst there.
#[cold]
#[inline(never)]
pub(crate) fn give_back(rxq: &mut RxQueue, views: &Views, now: Nanos) {
    let Some(Reserved { slot, .. }) = rxq.hold.reserved() else {
        return;
    };
    if give_back_at(rxq.who, slot, views, now) {
        rxq.hold.reserves_nothing();
    }
}

fn give_back_at(who: u32, slot: usize, views: &Views, now: Nanos) -> bool {
    let Some(lock) = lock_at(views, slot) else {
        return true;
    };
    lock.give_turn_back(who, now);
    lock.look().is_some_and(|mut txq| {
        txq.next_sender.release(who);
        true
    })
}
