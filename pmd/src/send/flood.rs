//! Copies of a flooded frame: one for each member of its network but the port that it came from.
//!
//! Members are served in the order of their list, and a flood may stop at any of them: when the
//! burst has made all the copies it may, or where a member's queue is locked by another core. Then
//! the frame stays where it is, the copies that were made go out, and the next turn goes on with
//! the member at which it stopped. It waits for no receiver, and for a lock only as long as whoever
//! has it is running. No lock is kept meanwhile, so two floods can't wait for each other.
//!
//! **What floods may cost.** Each port has a budget of copies a second
//! ([`crate::limit::flood_budget`]), limit or no limit; the first copy of a frame is free, as of
//! one that is not flooded. Without budget a guest's frame waits in its ring; one off a wire is
//! dropped.

use arrayvec::ArrayVec;
use flowtable::{Action, DropReason, NetworkId, PortId, Tuple};

use super::outcome::{Block, Flooded, Way};
use super::sender::{OUTS_MAX, Out, Sender};
use crate::blocked::hold::FloodAt;
use crate::burst::{Burst, COPIED_BYTES_MAX, COPIES_MAX};
use crate::port::views::slot_of;
use crate::port::{PortView, RxQueue};
use crate::ring::chain::DESCRIPTORS_MAX;

/// What the floods of a burst have copied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copied {
    /// Members that were looked at, whatever became of that.
    n: usize,
    n_bytes: usize,
    n_descriptors: usize,
}

impl Copied {
    /// Whether another copy of so many bytes would be too much. Of any length, the first may be
    /// made.
    fn is_enough(self, len: u32) -> bool {
        self.n >= COPIES_MAX
            || self.n_bytes + len as usize > COPIED_BYTES_MAX
            || self.n_descriptors >= DESCRIPTORS_MAX
    }
}

/// What became of one copy.
enum Copy {
    Sent,
    Dropped(DropReason),
    /// The member is not there: no copy was due.
    Absent,
    /// The flood stops here.
    Stop(Flooded),
}

impl Sender<'_> {
    /// Places for the copies of a flooded frame; gives how many got one, and how far that came.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "it is part of its caller")]
    pub(crate) fn flood<'v>(
        &mut self,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        from: &PortView,
        rxq: &mut RxQueue,
        network: NetworkId,
        can_hold: bool,
        copied: &mut Copied,
    ) -> (u64, Flooded)
    where
        Self: 'v,
    {
        let port = from.ingress.port;
        let resumed = if k == 0 {
            rxq.hold.resume_flood(network)
        } else {
            None
        };
        if resumed.is_none() {
            rxq.hold.begin_anew();
            rxq.hold.forget_flood();
            if let Err(opens_at) = from.copies.may_begin(network, self.now) {
                if can_hold {
                    return (0, Flooded::WaitsUntil(opens_at));
                }
                self.lose(port, DropReason::FloodLimit, Action::Flood(network));
                return (0, Flooded::Done);
            }
        }
        let is_first = resumed.is_none();
        let FloodAt {
            next, has_copies, ..
        } = resumed.unwrap_or(FloodAt {
            network,
            next: 0,
            has_copies: false,
        });
        let networks = self.networks;
        let members = &networks.network(network).members;
        // The list may have changed meanwhile, not its order, by id: for a member that is gone the
        // next one stands.
        let begin = members.partition_point(|&member| member < next);
        for out in outs.iter_mut() {
            out.limit.settle_before_copies(burst, out.frames, self.now);
        }
        // Copies that can't wait take no turns with those that can.
        let who = std::mem::take(&mut self.who);
        // Read once for all members, and only where one of them has rules.
        let has_rules = !networks.network(network).fields.is_none();
        let tuple = has_rules.then(|| Tuple::parse(&burst.headers[k], burst.lens[k] as usize));
        let (mut n_sent, mut n_tried, mut n_looked, mut end) = (0, 0u64, 0u64, Flooded::Done);
        for &to in members.iter().skip(begin) {
            if to == port {
                continue;
            }
            let copy = match &tuple {
                // To ask rules, and to find no member, costs too.
                _ if copied.is_enough(burst.lens[k]) || outs.is_full() => Copy::Stop(Flooded::Next),
                Some(tuple) if !networks.may_reach(to, tuple) => self.refuse_copy(port, to),
                _ => self.copy(outs, burst, k, to, rxq, can_hold, copied),
            };
            if !matches!(copy, Copy::Stop(_)) {
                copied.n += 1;
                n_looked += 1;
            }
            match copy {
                Copy::Absent => continue,
                Copy::Sent => n_sent += 1,
                Copy::Dropped(DropReason::Denied) => {}
                Copy::Dropped(reason) => self.lose(port, reason, Action::Unicast(to)),
                Copy::Stop(why) => {
                    rxq.hold.stop_flood(FloodAt {
                        network,
                        next: to,
                        has_copies: has_copies || n_tried > 0,
                    });
                    end = why;
                    break;
                }
            }
            n_tried += 1;
        }
        self.who = who;
        // The first is free.
        let n_charged = n_looked.saturating_sub(u64::from(is_first));
        if n_charged > 0 {
            from.copies.charge(network, self.now, n_charged);
        }
        self.count_copies(from, n_tried, has_copies || n_tried > 0, end);
        (n_sent, end)
    }

    /// One copy, to a member whose rules let it come.
    #[expect(clippy::too_many_arguments, reason = "it is part of its caller")]
    fn copy<'v>(
        &mut self,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        to: PortId,
        rxq: &mut RxQueue,
        can_hold: bool,
        copied: &mut Copied,
    ) -> Copy
    where
        Self: 'v,
    {
        let (_, way) = self.reserve(self.views, outs, burst, k, 1, true, to);
        let slot = slot_of(self.views, self.tx_index, burst, k, to);
        match way {
            Way::Reserved => {
                copied.n_bytes += burst.lens[k] as usize;
                copied.n_descriptors += self.n_walked(outs, slot);
                Copy::Sent
            }
            Way::Lost(DropReason::PortDown) => Copy::Absent,
            Way::Lost(reason) => Copy::Dropped(reason),
            Way::Blocked(Block::Locked) if self.wait_for_lock(rxq, slot, true) => {
                Copy::Stop(Flooded::Waits)
            }
            Way::Blocked(Block::Locked) => Copy::Dropped(DropReason::ReceiverLocked),
            // It took many of this burst, and may well have room for this one too.
            Way::Blocked(Block::Later) if can_hold && self.has_used_well(outs, slot) => {
                Copy::Stop(Flooded::Next)
            }
            Way::Blocked(_) => Copy::Dropped(self.reason_full(to)),
        }
    }

    /// The rules of a member don't let a frame come there; of a member that is not there no copy
    /// was due.
    fn refuse_copy(&self, port: PortId, to: PortId) -> Copy {
        if self.views.get(usize::from(to)).is_none_or(Option::is_none) {
            return Copy::Absent;
        }
        self.lose(port, DropReason::Denied, Action::Refused(to));
        Copy::Dropped(DropReason::Denied)
    }

    /// Descriptors beyond one a buffer that had to be read for a copy.
    fn n_walked(&self, outs: &mut ArrayVec<Out<'_>, OUTS_MAX>, slot: Option<usize>) -> usize {
        self.place_of(slot)
            .map_or(0, |place| outs[place].queue.take_walked())
    }

    /// Counts what a frame's copies are more than one frame. As long as a flood is not done, its
    /// frame is not counted either.
    fn count_copies(&self, from: &PortView, n_tried: u64, has_copies: bool, end: Flooded) {
        let stats = self.stats.port(from.ingress.port);
        if end == Flooded::Done && !has_copies {
            return stats.dropped(DropReason::NoDestination, 1);
        }
        // One less for the frame itself: of one that went on to nobody but those before, less than
        // none.
        let n = if end == Flooded::Done {
            n_tried.wrapping_sub(1)
        } else {
            n_tried
        };
        stats.copied(n);
    }
}
