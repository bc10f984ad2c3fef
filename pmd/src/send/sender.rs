//! From decisions to destinations: reserve for each frame in order, cut where one may not go now,
//! then copy and publish, one visit to each destination.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in a burst, and numbers of destinations"
)]

use super::flood::{Copied, Flooded};
use crate::burst::checksum;
use crate::burst::{BURST_MAX, Burst};
use crate::limit::limits::{Amount, Limit};
use crate::limit::policer::{self, Pass};
use crate::limit::queue::LimitQueues;
use crate::page_faults::PageFaults;
use crate::port::lock::TxLock;
use crate::port::{PortView, Room, RxQueue, TxQueue};
use crate::send::{Block, Over, Wait};
use crate::stats::CoreStats;
use crate::time::Nanos;
use arrayvec::ArrayVec;
use flowtable::wire::header::symmetric_hash;
use flowtable::{Action, DropReason, Exit, Networks, PortId};
use std::cell::Cell;
use std::sync::{Arc, MutexGuard};

/// Destinations that one burst may have.
pub(crate) const OUTS_MAX: usize = 1024;
/// Transmit queues of one port.
pub(crate) const TXQS_MAX: usize = 16;

/// What a core knows of every port, by id.
pub(crate) type Views = [Option<Arc<PortView>>];

/// A destination that this burst has locked, and the frames that go there.
pub(crate) struct Out<'a> {
    pub(crate) queue: MutexGuard<'a, TxQueue>,
    port: PortId,
    slot: usize,
    pub(crate) lock: &'a TxLock,
    pub(crate) frames: u32,
    /// What its frames are charged to, all at once when they go; none: nothing, or it was done for
    /// each.
    pub(crate) bill: Option<&'a Limit>,
}

/// Whether a frame got a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Reserved,
    Blocked(Block),
    Lost(DropReason),
}

/// Everything that sending a burst needs, borrowed from the core for one call.
pub(crate) struct Sender<'a> {
    pub(crate) views: &'a Views,
    /// By port: until when one that isn't there is only being changed.
    pub(crate) changing: &'a [Nanos],
    pub(crate) networks: &'a Networks,
    pub(crate) stats: &'a CoreStats,
    /// By port and queue: which of `outs` it is, and one; 0: none. All zero between bursts.
    pub(crate) slots: &'a mut [u16],
    /// The receive queue that the burst is from, as receivers know it; 0: it takes no turns at a
    /// receiver.
    pub(crate) who: u32,
    /// The same whether or not it takes turns there.
    pub(crate) rxq: u32,
    /// What waits at limits, for more to be put there. None for what comes from there.
    pub(crate) queues: Option<&'a mut LimitQueues>,
    /// The port at whose limit the receive queue has waited, and may go now.
    pub(crate) turn_at: Option<PortId>,
    /// Which burst this is, no other core having one of this number; not 0.
    pub(crate) burst: u32,
    /// Transmit queues that have to be flushed when the turn ends. There is room for all of them.
    pub(crate) flushes: &'a mut Vec<(PortId, u16)>,
    /// Descriptors of chains that this burst has read so far, at all destinations; none to begin
    /// with.
    pub(crate) walked: Cell<usize>,
    /// What is known of pages that memory lacks.
    pub(crate) faults: &'a mut PageFaults,
    /// Which core this is.
    pub(crate) core: usize,
    pub(crate) now: Nanos,
}

/// What became of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Frames dealt with, from the first one on; the rest stays where it is.
    pub(crate) n: usize,
    /// The port at whose limit the rest waits.
    pub(crate) at_limit: Option<PortId>,
}

impl Sender<'_> {
    /// Sends what may go of a burst that came in by `from`.
    ///
    /// Frames before the cut are sent or dropped, each copy counted. `can_hold`: whether frames may
    /// wait where they are.
    #[inline]
    pub(crate) fn send(
        &mut self,
        burst: &mut Burst,
        from: &PortView,
        rxq: &mut RxQueue,
        can_hold: bool,
    ) -> Sent {
        let mut outs: ArrayVec<Out<'_>, OUTS_MAX> = ArrayVec::new();
        let (views, port) = (self.views, from.ingress.port);
        let (mut n_forwarded, mut k, mut copied) = (0, 0, Copied::default());
        let (mut was_held, mut was_cut, mut at_limit) = (false, false, None);
        while k < burst.n {
            let way = match burst.actions[k] {
                Action::Unicast(to) => {
                    let n_alike = alike(&burst.actions[k..burst.n]);
                    let (n, way) = self.reserve(views, &mut outs, burst, k, n_alike, false, to);
                    n_forwarded += n as u64;
                    k += n;
                    if n == n_alike || way == Way::Reserved {
                        continue;
                    }
                    way
                }
                Action::Drop(reason) => Way::Lost(reason),
                Action::Refused(_) => Way::Lost(DropReason::Denied),
                Action::Flood(network) => {
                    let (n, end) = self.flood(
                        &mut outs,
                        burst,
                        k,
                        from,
                        rxq,
                        network,
                        can_hold,
                        &mut copied,
                    );
                    n_forwarded += n;
                    match end {
                        Flooded::Done => {
                            k += 1;
                            continue;
                        }
                        Flooded::Next => was_cut = true,
                        Flooded::Waits => was_held = true,
                    }
                    break;
                }
            };
            match way {
                Way::Blocked(Block::Limit) => {
                    match self.over_limit(&mut outs, burst, k, rxq, can_hold) {
                        Over::Held => {
                            at_limit = burst.port_of(k);
                            self.stats.port(port).held();
                            break;
                        }
                        Over::Queued => self.stats.port(port).queued(),
                        Over::Lost => self.lose(port, DropReason::Limit, burst.actions[k]),
                    }
                }
                Way::Blocked(why) => match self.blocked(&mut outs, burst, k, rxq, why, can_hold) {
                    Ok(Wait::Next) => break,
                    Ok(Wait::Held) => {
                        was_held = true;
                        break;
                    }
                    Err(reason) => self.lose(port, reason, burst.actions[k]),
                },
                Way::Lost(reason) => self.lose(port, reason, burst.actions[k]),
                Way::Reserved => {}
            }
            k += 1;
        }
        if was_held | rxq.hold.is_used() {
            self.settle_hold(&mut outs, rxq, was_held, was_cut);
        }
        self.commit(&mut outs, burst, self.exit(from));
        self.stats.port(port).forwarded(n_forwarded);
        Sent { n: k, at_limit }
    }

    /// Where frames of this port get a tag. Those of a trunk have lost theirs, and its networks
    /// have no other uplink.
    #[inline(always)]
    fn exit(&self, from: &PortView) -> Option<Exit> {
        if from.ingress.trunk.is_some() {
            None
        } else {
            self.networks.network(from.ingress.network).uplink
        }
    }

    /// Locks a transmit queue for the rest of the burst.
    #[inline(always)]
    fn open<'v>(
        &self,
        view: &'v PortView,
        queue: usize,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        port: PortId,
        slot: usize,
    ) -> Option<usize> {
        let lock = &view.txqs[queue];
        let queue = lock.open(self.burst, self.rxq, self.now)?;
        outs.try_push(Out {
            queue,
            port,
            slot,
            lock,
            frames: 0,
            bill: None,
        })
        .ok()?;
        Some(outs.len() - 1)
    }

    /// Second pass: one visit to each destination.
    #[inline(always)]
    pub(crate) fn commit(
        &mut self,
        outs: &mut ArrayVec<Out<'_>, OUTS_MAX>,
        burst: &mut Burst,
        exit: Option<Exit>,
    ) {
        for out in outs.iter_mut() {
            self.slots[out.slot] = 0;
            out.lock.closes();
            if burst.wishing & out.frames != 0 {
                fulfil(burst, out);
            }
            let tag = exit
                .filter(|exit| exit.port == out.port)
                .and_then(|exit| exit.vlan);
            let n_bytes = match self.faults.is_watching {
                false => out.queue.commit(burst, out.frames, tag),
                true => out.queue.commit_watched(
                    burst,
                    out.frames,
                    tag,
                    (out.port, self.faults),
                    self.now,
                ),
            };
            if out.queue.wants_flush() {
                let queue = (out.port, (out.slot % TXQS_MAX) as u16);
                // It may still be there, for frames that are out.
                if !self.flushes.contains(&queue) {
                    self.flushes.push(queue);
                }
            }
            if let Some((fault, n)) = out.queue.take_fault() {
                self.stats
                    .port(out.port)
                    .faulted(out.queue.index(), fault, n);
            }
            if out.frames != 0 {
                let n_frames = u64::from(out.frames.count_ones());
                self.stats.port(out.port).sent(n_frames, n_bytes);
                if let Some(limit) = out.bill {
                    limit.charge(self.now, Amount { n_frames, n_bytes });
                }
            }
        }
    }

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

    #[cold]
    pub(crate) fn lose(&self, from: PortId, reason: DropReason, action: Action) {
        self.stats.lost(from, action, reason);
    }
}

/// The transmit queue of a port that frame `k` goes to, and whether every other frame for that port
/// does. None: it has no queue.
#[inline(always)]
pub(crate) fn queue_of(
    view: &PortView,
    core: usize,
    burst: &Burst,
    k: usize,
) -> Option<(usize, bool)> {
    match view.txqs.len() {
        0 => None,
        1 => Some((0, true)),
        n_queues if view.is_by_core => Some((core % n_queues.min(TXQS_MAX), true)),
        n_queues => Some((pick_queue(burst, k, n_queues), false)),
    }
}

/// Does what the senders of these frames left to do, for a receiver that would not.
#[cold]
#[inline(never)]
fn fulfil(burst: &mut Burst, out: &Out<'_>) {
    let mut rest = if out.queue.takes_wishes() {
        0
    } else {
        burst.wishing & out.frames
    };
    while rest != 0 {
        checksum::complete(burst, rest.trailing_zeros() as usize);
        rest &= rest - 1;
    }
}

/// How many actions at the beginning are the same.
#[inline(always)]
pub(crate) fn alike(actions: &[Action]) -> usize {
    let first = actions[0];
    actions
        .iter()
        .position(|&action| action != first)
        .unwrap_or(actions.len())
}

/// Which queue a flow goes to: the same for all its frames, in both directions.
#[inline(never)]
fn pick_queue(burst: &Burst, k: usize, n_queues: usize) -> usize {
    let hash = symmetric_hash(
        &burst.headers[k % BURST_MAX],
        burst.lens[k % BURST_MAX] as usize,
    );
    // The high half of a product instead of a remainder: as even, and no division.
    ((u64::from(hash) * n_queues as u64) >> 32) as usize
}
