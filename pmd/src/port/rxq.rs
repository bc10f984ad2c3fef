//! Receive queues, of any kind.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use flowtable::PortId;

use super::afxdp::AfXdpRx;
#[cfg(any(test, feature = "test-support"))]
use super::mem::{MemPort, MemRx};
use super::tap::TapRx;
use super::vhost::{Features, VhostRx};
use crate::amount::Allowance;
use crate::blocked::ahead::Ahead;
use crate::blocked::hold::Hold;
use crate::blocked::room::RoomWait;
use crate::burst::Burst;
use crate::error::{GuestFault, SetupError};
use crate::limit::gate::Gate;
use crate::limit::queue::RingTurn;
use crate::ring::xsk::halves::Ledger;
use crate::ring::{QueueSpec, SplitRing};
use crate::shm::{GuestMemory, damage};
use crate::stats::{PortStats, QueueStats};

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
    /// Its frames leave a device of several transmit queues by the one of this number, modulo how
    /// many there are. Stays what it is whichever core polls the queue, so that a flow stays in
    /// order when the queue moves.
    pub(crate) tx_index: u16,
    /// Cycles and frames that it took so far.
    pub(crate) load: Arc<QueueStats>,
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
    #[cfg(any(test, feature = "test-support"))]
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
    #[cfg(any(test, feature = "test-support"))]
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
            tx_index: 0,
            load: Arc::default(),
            can_wake,
            hold,
            room: RoomWait::default(),
            ahead,
            gate,
            turn,
            kind,
        };
        queue.who = Self::who_of(port, queue.index());
        queue
    }

    /// What receivers know the queue of this number by.
    pub(crate) fn who_of(port: PortId, index: u16) -> u32 {
        u32::from(port) << 16 | (u32::from(index) + 1)
    }

    /// Virtqueue index, or number of the device's queue; a port in memory has one queue, 1, and so
    /// has a tap.
    pub fn index(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.index(),
            RxKind::AfXdp(queue) => queue.index(),
            _ => 1,
        }
    }

    /// Position in the ring, for a front-end that asks.
    pub fn base(&self) -> u16 {
        self.guest().map_or(0, VhostRx::base)
    }

    /// Where in its ring the next burst begins, modulo 2^16.
    pub(crate) fn position(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.base(),
            #[cfg(any(test, feature = "test-support"))]
            RxKind::Mem(queue) => queue.position(),
            _ => 0,
        }
    }

    /// Frames that wait from there on, as far as they can be looked at: of others than guests not
    /// beyond a burst.
    pub(crate) fn n_waiting(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.n_waiting(),
            #[cfg(any(test, feature = "test-support"))]
            RxKind::Mem(queue) => queue.n_waiting(),
            _ => 0,
        }
    }

    /// Puts the `n` frames `from` behind [`RxQueue::position`] into `burst`, as far as it goes,
    /// their headers alone. Nothing is taken, counted or remembered.
    pub(crate) fn peek_ahead(&mut self, from: u16, n: usize, burst: &mut Burst) {
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.peek_ahead(from, n, burst),
            #[cfg(any(test, feature = "test-support"))]
            RxKind::Mem(queue) => queue.peek_ahead(from, n, burst),
            _ => burst.clear(),
        }
    }

    /// The fault for which it was stopped; only setting it up anew lets it run again.
    pub fn stopped_for(&self) -> Option<GuestFault> {
        self.guest().and_then(VhostRx::stopped_for)
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
        self.guest_mut().map(|queue| &mut queue.ring)
    }

    /// What becomes readable when frames come while the core sleeps, if anything does.
    pub(crate) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            RxKind::Vhost(queue) => queue.ring.spec().kick.as_deref().map(AsFd::as_fd),
            RxKind::AfXdp(queue) => queue.wake_fd(),
            RxKind::Tap(queue) => Some(queue.wake_fd()),
            #[cfg(any(test, feature = "test-support"))]
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
        stats: &PortStats,
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
        self.guest_mut().is_some_and(VhostRx::takes_wait)
    }

    /// Whether anything waits, read anew.
    pub(crate) fn has_more(&mut self) -> bool {
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.has_more(),
            RxKind::AfXdp(queue) => queue.has_more(),
            RxKind::Tap(queue) => queue.has_more(),
            #[cfg(any(test, feature = "test-support"))]
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

    /// Whether frames may wait where they are. What came off a wire can't.
    #[inline(always)]
    pub(crate) fn can_hold(&self) -> bool {
        match &self.kind {
            RxKind::Vhost(_) | RxKind::Tap(_) => true,
            RxKind::AfXdp(_) => false,
            #[cfg(any(test, feature = "test-support"))]
            RxKind::Mem(queue) => queue.can_hold(),
        }
    }

    /// A guest's, if it is one.
    #[inline(always)]
    pub(super) fn guest(&self) -> Option<&VhostRx> {
        match &self.kind {
            RxKind::Vhost(queue) => Some(queue),
            _ => None,
        }
    }

    #[inline(always)]
    fn guest_mut(&mut self) -> Option<&mut VhostRx> {
        match &mut self.kind {
            RxKind::Vhost(queue) => Some(queue),
            _ => None,
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
            #[cfg(any(test, feature = "test-support"))]
            RxKind::Mem(queue) => queue.peek(burst, allowance),
            RxKind::Vhost(_) => 0,
        }
    }

    #[inline(never)]
    fn consume(&mut self, n: usize) {
        match self {
            RxKind::AfXdp(queue) => queue.consume(n),
            RxKind::Tap(queue) => queue.consume(n),
            #[cfg(any(test, feature = "test-support"))]
            RxKind::Mem(queue) => queue.consume(n),
            RxKind::Vhost(_) => {}
        }
    }
}
