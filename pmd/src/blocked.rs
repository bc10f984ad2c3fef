//! What becomes of frames that can't go now: for how long they wait, and when they are dropped.
//!
//! - [`hold`]: for how long a blocked frame may hold up those behind it
//! - [`claim`]: whose turn it is at a receiver that can't take all

pub(crate) mod claim;
pub mod hold;

use crate::burst::Burst;
use crate::port::PortView;
use crate::send::{OUTS_MAX, Out, Sender, TXQS_MAX, Way};
use arrayvec::ArrayVec;
use flowtable::{Action, DropReason, PortId};
use hold::Hold;

/// Why a frame can't go now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// The receiver has no buffers.
    Full,
    /// It has some, but too few for this frame.
    Short,
    /// Another core is sending there.
    Locked,
    /// The burst has used up what it may look at.
    Later,
}

impl Sender<'_> {
    /// Frame `k` is blocked: whether it waits where it is, and all behind it.
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
        hold: &mut Hold,
        why: Block,
        can_hold: bool,
    ) -> Result<(), DropReason>
    where
        Self: 'v,
    {
        let verdict = match can_hold {
            true => self.wait(outs, burst, k, hold, why),
            // What is off the wire can wait for another core's burst, but not for a receiver.
            false if why == Block::Locked && self.may_wait_for_lock(hold, k) => Ok(()),
            false => Err(DropReason::ReceiverFull),
        };
        verdict.map_err(|reason| match burst.actions[k] {
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

    /// What a frame is dropped for that could not wait until this port has room.
    #[cold]
    pub(crate) fn reason_full(&self, to: PortId) -> DropReason {
        let view = self.views.get(usize::from(to)).and_then(Option::as_ref);
        view.map_or(DropReason::ReceiverFull, |view| view.reason_full)
    }

    /// Frame `k` is blocked: it waits while nothing behind it could go instead, or for its part of the time.
    ///
    /// # Errors
    /// When it may not wait any longer: the reason to drop it.
    fn wait<'v>(
        &mut self,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        hold: &mut Hold,
        why: Block,
    ) -> Result<(), DropReason>
    where
        Self: 'v,
    {
        if k > 0 || why == Block::Full {
            hold.begin_anew();
        }
        match why {
            Block::Locked if hold.may_wait_for_lock(self.now) => return Ok(()),
            Block::Short if !hold.may_wait_for_more(self.now) => return Err(DropReason::TooBig),
            _ => {}
        }
        if self.another_could_go(outs, burst, k) && !hold.may_hold(self.now) {
            return Err(DropReason::ReceiverFull);
        }
        self.claim(outs, burst, k);
        Ok(())
    }

    #[cold]
    fn may_wait_for_lock(&self, hold: &mut Hold, k: usize) -> bool {
        if k > 0 {
            hold.begin_anew();
        }
        hold.may_wait_for_lock(self.now)
    }

    /// Frame `k` waits for its receiver. If this queue has got nothing there, the receiver is to serve it next.
    #[cold]
    fn claim(&self, outs: &mut ArrayVec<Out<'_>, OUTS_MAX>, burst: &Burst, k: usize) {
        let place = self.slot_of(burst, k).map_or(0, |slot| usize::from(self.slots[slot]));
        if let Some(out) = place.checked_sub(1).and_then(|place| outs.get_mut(place)).filter(|out| out.frames == 0) {
            out.queue.claim.lay(self.who, self.now);
        }
    }

    /// Whether a frame behind `k` goes elsewhere, to where there seems to be room. One that will be dropped waits as well as
    /// any other.
    fn another_could_go(&mut self, outs: &mut ArrayVec<Out<'_>, OUTS_MAX>, burst: &Burst, k: usize) -> bool {
        let blocked = self.slot_of(burst, k);
        (k + 1..burst.n).any(|later| match burst.actions[later] {
            Action::Unicast(to) => match (self.slot_of(burst, later), &self.views[usize::from(to)]) {
                (Some(slot), Some(view)) if Some(slot) != blocked => has_room(view, slot, self.slots, outs),
                _ => false,
            },
            Action::Flood(_) => true,
            Action::Drop(_) | Action::Refused(_) => false,
        })
    }
}

/// Whether a transmit queue has room for a small frame now.
fn has_room(view: &PortView, slot: usize, slots: &[u16], outs: &mut ArrayVec<Out<'_>, OUTS_MAX>) -> bool {
    match slots[slot] {
        0 => view.txqs.get(slot % TXQS_MAX).is_some_and(|txq| txq.try_lock().is_ok_and(|mut txq| txq.has_room())),
        n => outs[usize::from(n) - 1].queue.has_room(),
    }
}
