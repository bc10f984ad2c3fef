//! Receive queues, transmit queues, and what every core knows of a port.

use super::afxdp::{self, AfXdpRx, AfXdpTx};
use super::lock::TxLock;
use super::mem::{MemPort, MemRx, MemTx};
use super::tap::{TapRx, TapTx};
use super::vhost::{Features, VhostRx, VhostTx};
use crate::blocked::ahead::Ahead;
use crate::blocked::claim::Claim;
use crate::blocked::hold::Hold;
use crate::blocked::room::RoomWait;
use crate::blocked::stall::Stall;
use crate::burst::Burst;
use crate::error::{GuestFault, SetupError};
use crate::limit::flood_budget::FloodBudget;
use crate::limit::gate::Gate;
use crate::limit::limits::{Allowance, Limit, VmLimits};
use crate::limit::queue::VmQueue;
use crate::limit::queue::ring::RingTurn;
use crate::ring::QueueSpec;
use crate::ring::frames::Ledger;
use crate::ring::split::SplitRing;
use crate::shm::{GuestMemory, damage};
use crate::time::Nanos;
use flowtable::{DropReason, Ingress, PortId};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A queue that frames are taken from. Belongs to one core.
#[derive(Debug)]
pub struct RxQueue {
    /// The port it is part of.
    pub port: PortId,
    /// Whether frames had to wait in it in the last turn.
    pub(crate) is_held: bool,
    /// All that comes by it is dropped: the front-end has disabled it.
    pub(crate) discards: bool,
    /// What receivers know it by: no two of a switch have the same, and none has 0.
    pub(crate) who: u32,
    /// Whether its kicks wake the core that polls it.
    pub(crate) can_wake: bool,
    pub(crate) hold: Hold,
    /// What it waits for where all of it waits for the same.
    pub(crate) room: RoomWait,
    /// What waits behind its burst, as far as it was looked at.
    pub(crate) ahead: Box<Ahead>,
    /// What holds it back for its VM's limit.
    pub(crate) gate: Gate,
    /// Its turn at the limit of a VM that its frames are for.
    pub(crate) turn: RingTurn,
    pub(crate) kind: RxKind,
}

#[derive(Debug)]
pub(crate) enum RxKind {
    Vhost(VhostRx),
    AfXdp(Box<AfXdpRx>),
    Tap(Box<TapRx>),
    Mem(MemRx),
}

impl RxQueue {
    /// A guest's transmit virtqueue.
    ///
    /// # Errors
    /// When its rings do not lie in `memory` as they must.
    pub fn vhost(
        port: PortId,
        memory: Arc<GuestMemory>,
        spec: &QueueSpec,
        features: Features,
    ) -> Result<Self, SetupError> {
        let queue = Self::new(port, RxKind::Vhost(VhostRx::new(memory, spec, features)?));
        Ok(Self {
            discards: spec.discards,
            ..queue
        })
    }

    /// A queue of an uplink, or of a container's veth.
    pub fn afxdp(port: PortId, rx: AfXdpRx) -> Self {
        Self::new(port, RxKind::AfXdp(Box::new(rx)))
    }

    /// The receiving side of a tap.
    pub fn tap(port: PortId, rx: TapRx) -> Self {
        Self::new(port, RxKind::Tap(Box::new(rx)))
    }

    /// The receiving side of a port in plain memory.
    pub fn mem(port: PortId, ends: &MemPort) -> Self {
        Self::new(port, RxKind::Mem(MemRx::new(ends)))
    }

    fn new(port: PortId, kind: RxKind) -> Self {
        let (hold, gate, turn) = (Hold::default(), Gate::default(), RingTurn::default());
        let (is_held, discards, can_wake, who) = (false, false, false, 0);
        let ahead = Box::default();
        let mut queue = Self {
            port,
            is_held,
            discards,
            who,
            can_wake,
            hold,
            room: RoomWait::default(),
            ahead,
            gate,
            turn,
            kind,
        };
        queue.who = u32::from(port) << 16 | (u32::from(queue.index()) + 1);
        queue
    }

    /// Virtqueue index, or number of the device's queue; a port in memory has one queue, 1, and so
    /// has a tap.
    pub fn index(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.index(),
            RxKind::AfXdp(queue) => queue.index(),
            RxKind::Tap(_) | RxKind::Mem(_) => 1,
        }
    }

    /// Position in the ring, for a front-end that asks.
    pub fn base(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.base(),
            RxKind::AfXdp(_) | RxKind::Tap(_) | RxKind::Mem(_) => 0,
        }
    }

    /// Where in its ring the next burst begins, modulo 2^16.
    pub(crate) fn position(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.base(),
            RxKind::Mem(queue) => queue.position(),
            RxKind::AfXdp(_) | RxKind::Tap(_) => 0,
        }
    }

    /// Frames that wait from there on, as far as they can be looked at: of others than guests not
    /// beyond a burst.
    pub(crate) fn n_waiting(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.n_waiting(),
            RxKind::Mem(queue) => queue.n_waiting(),
            RxKind::AfXdp(_) | RxKind::Tap(_) => 0,
        }
    }

    /// Puts the `n` frames that stand `from` behind [`RxQueue::position`] into `burst`, as far as
    /// it goes, their headers alone. Nothing is taken, counted or remembered.
    pub(crate) fn peek_ahead(&mut self, from: u16, n: usize, burst: &mut Burst) {
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.peek_ahead(from, n, burst),
            RxKind::Mem(queue) => queue.peek_ahead(from, n, burst),
            RxKind::AfXdp(_) | RxKind::Tap(_) => burst.clear(),
        }
    }

    /// The fault for which it was stopped; only setting it up anew lets it run again.
    pub fn stopped_for(&self) -> Option<GuestFault> {
        match &self.kind {
            RxKind::Vhost(queue) => queue.stopped_for(),
            RxKind::AfXdp(_) | RxKind::Tap(_) | RxKind::Mem(_) => None,
        }
    }

    /// Where the frames of a device's queue are; others keep no ledger.
    pub fn ledger(&self) -> Option<Ledger> {
        if let RxKind::AfXdp(queue) = &self.kind {
            Some(queue.ledger())
        } else {
            None
        }
    }

    /// A guest's ring.
    pub(crate) fn guest_ring(&mut self) -> Option<&mut SplitRing> {
        if let RxKind::Vhost(queue) = &mut self.kind {
            Some(&mut queue.ring)
        } else {
            None
        }
    }

    /// What becomes readable when frames come while the core sleeps, if anything does.
    pub(crate) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            RxKind::Vhost(queue) => queue.ring.spec().kick.as_deref().map(AsFd::as_fd),
            RxKind::AfXdp(queue) => queue.wake_fd(),
            RxKind::Tap(queue) => Some(queue.wake_fd()),
            RxKind::Mem(_) => None,
        }
    }

    /// Looks at what waits, oldest first, as far as `allowance` goes; nothing is consumed. Gives
    /// the number of frames now in `burst`.
    #[inline(always)]
    pub(crate) fn peek(
        &mut self,
        burst: &mut Burst,
        allowance: Allowance,
        stats: &crate::stats::PortStats,
    ) -> usize {
        damage::forget();
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.peek(burst, allowance, stats),
            other => other.peek(burst, allowance),
        }
    }

    /// Whether nothing was found only because a guest's memory is not to be touched yet.
    #[inline]
    pub(crate) fn takes_wait(&mut self) -> bool {
        if let RxKind::Vhost(queue) = &mut self.kind {
            queue.takes_wait()
        } else {
            false
        }
    }

    /// Whether anything waits, asked afresh.
    pub(crate) fn has_more(&mut self) -> bool {
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.has_more(),
            RxKind::AfXdp(queue) => queue.has_more(),
            RxKind::Tap(queue) => queue.has_more(),
            RxKind::Mem(queue) => queue.has_more(),
        }
    }

    /// Gives the first `n` frames of the burst back to where they came from.
    #[inline(always)]
    pub(crate) fn consume(&mut self, burst: &Burst, n: usize) {
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.consume(burst, n),
            other => other.consume(n),
        }
    }

    /// Its VM's limit is used up: it isn't looked at before `opens_at`.
    #[cold]
    pub(crate) fn shut(&mut self, now: Nanos, opens_at: Nanos) {
        let has_more = self.has_more();
        self.gate.shut(now, opens_at, has_more);
    }

    /// Whether frames may wait where they are. What came off a wire can't.
    #[inline(always)]
    pub(crate) fn can_hold(&self) -> bool {
        match &self.kind {
            RxKind::Vhost(_) | RxKind::Tap(_) => true,
            RxKind::AfXdp(_) => false,
            RxKind::Mem(queue) => queue.can_hold(),
        }
    }
}

/// All kinds but a guest's, out of its way: a burst between guests is a hundred instructions, and
/// each further kind among them would cost some.
impl RxKind {
    #[inline(never)]
    fn peek(&mut self, burst: &mut Burst, allowance: Allowance) -> usize {
        match self {
            RxKind::AfXdp(queue) => queue.peek(burst, allowance),
            RxKind::Tap(queue) => queue.peek(burst, allowance),
            RxKind::Mem(queue) => queue.peek(burst, allowance),
            RxKind::Vhost(_) => 0,
        }
    }

    #[inline(never)]
    fn consume(&mut self, n: usize) {
        match self {
            RxKind::AfXdp(queue) => queue.consume(n),
            RxKind::Tap(queue) => queue.consume(n),
            RxKind::Mem(queue) => queue.consume(n),
            RxKind::Vhost(_) => {}
        }
    }
}

/// A queue that frames are given to. Reached by every core, one at a time.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) claim: Claim,
    stall: Stall,
    pub(crate) kind: TxKind,
}

#[derive(Debug)]
pub(crate) enum TxKind {
    Vhost(Box<VhostTx>),
    AfXdp(Box<AfXdpTx>),
    Tap(Box<TapTx>),
    Mem(MemTx),
}

/// What became of frames that the kernel was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// All are out, and their memory has come back.
    All,
    /// All are out; the memory of some comes back later.
    Sent,
    /// The kernel has not taken all of them yet.
    Unsent,
}

/// Whether a frame can go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Room is set aside for it.
    Reserved,
    /// Not now.
    Full,
    /// Not now: there are buffers, but too few for this frame.
    Short,
    /// Not in this burst, which has used up what it may look at; perhaps in the next.
    Later,
    /// Never: it is longer than what the receiver offers.
    TooBig,
    /// The queue was stopped.
    Stopped,
}

impl TxQueue {
    /// A guest's receive virtqueue.
    ///
    /// # Errors
    /// When its rings do not lie in `memory` as they must.
    pub fn vhost(
        memory: Arc<GuestMemory>,
        spec: &QueueSpec,
        features: Features,
    ) -> Result<Self, SetupError> {
        Ok(Self::new(TxKind::Vhost(Box::new(VhostTx::new(
            memory, spec, features,
        )?))))
    }

    /// A queue of an uplink, or of a container's veth.
    pub fn afxdp(tx: AfXdpTx) -> Self {
        Self::new(TxKind::AfXdp(Box::new(tx)))
    }

    /// The sending side of a tap.
    pub fn tap(tx: TapTx) -> Self {
        Self::new(TxKind::Tap(Box::new(tx)))
    }

    /// The sending side of a port in plain memory.
    pub fn mem(ends: &MemPort) -> Self {
        Self::new(TxKind::Mem(MemTx::new(ends)))
    }

    fn new(kind: TxKind) -> Self {
        Self {
            claim: Claim::default(),
            stall: Stall::default(),
            kind,
        }
    }

    /// Virtqueue index, or number of the device's queue; a port in memory has one queue, 0, and so
    /// has a tap.
    pub fn index(&self) -> u16 {
        match &self.kind {
            TxKind::Vhost(queue) => queue.index(),
            TxKind::AfXdp(queue) => queue.index(),
            TxKind::Tap(_) | TxKind::Mem(_) => 0,
        }
    }

    /// Where the frames of a device's queue are; others keep no ledger.
    pub fn ledger(&self) -> Option<Ledger> {
        if let TxKind::AfXdp(queue) = &self.kind {
            Some(queue.ledger())
        } else {
            None
        }
    }

    /// A guest's ring.
    pub(crate) fn guest_ring(&mut self) -> Option<&mut SplitRing> {
        if let TxKind::Vhost(queue) = &mut self.kind {
            Some(queue.ring_mut())
        } else {
            None
        }
    }

    /// Position in the ring, for a front-end that asks.
    pub fn base(&self) -> u16 {
        match &self.kind {
            TxKind::Vhost(queue) => queue.base(),
            TxKind::AfXdp(_) | TxKind::Tap(_) | TxKind::Mem(_) => 0,
        }
    }

    /// The fault for which it was stopped, as for a receive queue.
    pub fn stopped_for(&self) -> Option<GuestFault> {
        match &self.kind {
            TxKind::Vhost(queue) => queue.stopped_for(),
            TxKind::AfXdp(_) | TxKind::Tap(_) | TxKind::Mem(_) => None,
        }
    }

    /// Descriptors of chains that this burst has walked there since that was asked before.
    pub(crate) fn take_walked(&mut self) -> usize {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.take_walked(),
            TxKind::AfXdp(_) | TxKind::Tap(_) | TxKind::Mem(_) => 0,
        }
    }

    /// Sets room aside for frames of these lengths, behind what is reserved already; gives how many
    /// got theirs, and what became of the next. `hint`: frames that may come in all. `walked`:
    /// descriptors of chains that the burst has read so far.
    #[inline(always)]
    pub(crate) fn reserve(
        &mut self,
        lens: &[u32],
        hint: u16,
        walked: &Cell<usize>,
    ) -> (usize, Room) {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.reserve(lens, hint, walked),
            other => other.reserve(lens),
        }
    }

    /// A frame found no room: whether that is so since the receiver has stalled.
    #[cold]
    pub(crate) fn is_stalled(&mut self, now: Nanos) -> bool {
        let n_used = match &self.kind {
            TxKind::Vhost(queue) => queue.n_used(),
            TxKind::AfXdp(queue) => queue.n_used(),
            TxKind::Mem(queue) => queue.n_used(),
            TxKind::Tap(_) => 0,
        };
        self.stall.is_stalled(n_used, now)
    }

    /// Whether a small frame would find room now.
    pub(crate) fn has_room(&mut self, now: Nanos, walked: &Cell<usize>) -> bool {
        if self.claim.is_paused(now) {
            return false;
        }
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.has_room(walked),
            TxKind::AfXdp(queue) => queue.has_room(),
            TxKind::Tap(queue) => queue.has_room(),
            TxKind::Mem(queue) => queue.has_room(),
        }
    }

    /// Copies the frames of `mask` to where room was reserved for them, in the same order, and
    /// shows them. Gives their bytes.
    ///
    /// `tag`: the VLAN id of the tag they get, which no guest's port is asked for.
    #[inline(always)]
    pub(crate) fn commit(&mut self, burst: &Burst, mask: u32, tag: Option<u16>) -> u64 {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.commit(burst, mask),
            other => other.commit(burst, mask, tag),
        }
    }

    /// Whether the receiver does itself what a frame's sender left to do.
    #[cold]
    pub(crate) fn takes_wishes(&self) -> bool {
        match &self.kind {
            TxKind::Vhost(queue) => queue.takes_checksums(),
            TxKind::Tap(_) => true,
            TxKind::AfXdp(_) | TxKind::Mem(_) => false,
        }
    }

    /// Whether the queue has to be flushed when the turn ends, and nobody knows yet: from now on
    /// the caller does.
    #[inline(always)]
    pub(crate) fn wants_flush(&mut self) -> bool {
        match &mut self.kind {
            TxKind::AfXdp(queue) => queue.wants_flush(),
            TxKind::Vhost(_) | TxKind::Tap(_) | TxKind::Mem(_) => false,
        }
    }

    /// Tells the kernel of frames that it has not seen, and takes back the memory of those that are
    /// out. The queue is locked for moments only.
    pub(crate) fn flush(this: &TxLock) -> Flushed {
        afxdp::flush(|| match &mut this.look()?.kind {
            TxKind::AfXdp(queue) => Some(queue.look()),
            TxKind::Vhost(_) | TxKind::Tap(_) | TxKind::Mem(_) => Some(afxdp::Look::NOTHING),
        })
    }

    /// The last fault since this was asked before, and how many there were.
    pub(crate) fn take_fault(&mut self) -> Option<(GuestFault, u64)> {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.take_fault(),
            TxKind::AfXdp(_) | TxKind::Tap(_) | TxKind::Mem(_) => None,
        }
    }
}

/// As for receiving: all kinds but a guest's.
impl TxKind {
    #[inline(never)]
    fn reserve(&mut self, lens: &[u32]) -> (usize, Room) {
        match self {
            TxKind::AfXdp(queue) => queue.reserve(lens),
            TxKind::Tap(queue) => queue.reserve(lens),
            TxKind::Mem(queue) => queue.reserve(lens.len()),
            TxKind::Vhost(_) => (0, Room::Stopped),
        }
    }

    #[inline(never)]
    fn commit(&mut self, burst: &Burst, mask: u32, tag: Option<u16>) -> u64 {
        match self {
            TxKind::AfXdp(queue) => queue.commit(burst, mask, tag),
            TxKind::Tap(queue) => queue.commit(burst, mask, tag),
            TxKind::Mem(queue) => queue.commit(burst, mask, tag),
            TxKind::Vhost(_) => 0,
        }
    }
}

/// What every core knows of a port that is up. Immutable but for the queues behind their locks;
/// replaced as a whole.
#[derive(Debug)]
pub struct PortView {
    /// What decisions about its frames need.
    pub ingress: Ingress,
    /// Its transmit queues.
    pub(crate) txqs: Vec<TxLock>,
    /// What its floods may copy.
    pub(crate) copies: Arc<FloodBudget>,
    /// Those of its VM, if it has any.
    limits: Option<Arc<VmLimits>>,
    /// A core uses the queue of its own number, so that cores don't meet; else a flow decides.
    pub(crate) is_by_core: bool,
    /// What a frame is dropped for that could not wait for room.
    pub(crate) reason_full: DropReason,
}

impl PortView {
    /// With all the queues that the guest has enabled, or the device has.
    pub(crate) fn new(
        ingress: Ingress,
        mut txqs: Vec<TxQueue>,
        limits: Option<Arc<VmLimits>>,
        copies: Arc<FloodBudget>,
    ) -> Self {
        let mut is_device = false;
        for txq in &mut txqs {
            if let TxKind::AfXdp(queue) = &mut txq.kind {
                // Whoever knew that it has to be flushed let go of it.
                queue.forget_flush();
                is_device = true;
            }
        }
        let reason_full = if is_device {
            DropReason::UplinkFull
        } else {
            DropReason::ReceiverFull
        };
        let txqs = txqs.into_iter().map(TxLock::new).collect();
        Self {
            ingress,
            txqs,
            copies,
            limits,
            is_by_core: is_device,
            reason_full,
        }
    }

    /// The limit on what its VM gets.
    #[inline(always)]
    pub(crate) fn to_vm(&self) -> Option<&Limit> {
        self.limits.as_ref()?.to_vm.as_ref()
    }

    /// What is held at that limit; none: what is over it is dropped.
    #[inline(always)]
    pub(crate) fn limit_queue(&self) -> Option<&VmQueue> {
        self.limits.as_ref()?.queue.as_ref()
    }

    /// Whether a flood's copy of so many bytes may pass although there is no allowance.
    #[cold]
    pub(crate) fn may_pass_ahead(&self, now: Nanos, n_bytes: u32) -> bool {
        self.limit_queue()
            .is_some_and(|queue| queue.may_pass_ahead(now, n_bytes))
    }

    /// Those of its VM, if it has any.
    pub(crate) fn limits(&self) -> Option<&Arc<VmLimits>> {
        self.limits.as_ref()
    }
}
