//! Transmit queues, of any kind.

use std::cell::Cell;
use std::sync::Arc;

use super::afxdp::AfXdpTx;
#[cfg(any(test, feature = "test-support"))]
use super::mem::{MemPort, MemTx};
use super::room::Room;
use super::tap::TapTx;
use super::vhost::{Features, VhostTx};
use crate::blocked::next_sender::NextSender;
use crate::blocked::stall::Stall;
use crate::burst::Burst;
use crate::error::{GuestFault, SetupError};
use crate::ring::xsk::halves::Ledger;
use crate::ring::{QueueSpec, SplitRing};
use crate::shm::GuestMemory;
use crate::time::Nanos;

/// A queue that frames are given to. Reached by every core, one at a time.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) next_sender: NextSender,
    stall: Stall,
    pub(crate) kind: TxKind,
}

#[derive(Debug)]
pub(crate) enum TxKind {
    Vhost(Box<VhostTx>),
    AfXdp(Box<AfXdpTx>),
    Tap(Box<TapTx>),
    #[cfg(any(test, feature = "test-support"))]
    Mem(MemTx),
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
    #[cfg(any(test, feature = "test-support"))]
    pub fn mem(ends: &MemPort) -> Self {
        Self::new(TxKind::Mem(MemTx::new(ends)))
    }

    fn new(kind: TxKind) -> Self {
        Self {
            next_sender: NextSender::default(),
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
            _ => 0,
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
        self.guest_mut().map(VhostTx::ring_mut)
    }

    /// Position in the ring, for a front-end that asks.
    pub fn base(&self) -> u16 {
        self.guest().map_or(0, VhostTx::base)
    }

    /// The fault for which it was stopped, as for a receive queue.
    pub fn stopped_for(&self) -> Option<GuestFault> {
        self.guest().and_then(VhostTx::stopped_for)
    }

    /// Descriptors of chains that this burst has walked there since that was asked before.
    pub(crate) fn take_walked(&mut self) -> usize {
        self.guest_mut().map_or(0, VhostTx::take_walked)
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
            #[cfg(any(test, feature = "test-support"))]
            TxKind::Mem(queue) => queue.n_used(),
            TxKind::Tap(_) => 0,
        };
        self.stall.is_stalled(n_used, now)
    }

    /// Whether a small frame would find room now.
    pub(crate) fn has_room(&mut self, now: Nanos, walked: &Cell<usize>) -> bool {
        if self.next_sender.is_paused(now) {
            return false;
        }
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.has_room(walked),
            TxKind::AfXdp(queue) => queue.has_room(),
            TxKind::Tap(queue) => queue.has_room(),
            #[cfg(any(test, feature = "test-support"))]
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
    pub(crate) fn does_offloads(&self) -> bool {
        match &self.kind {
            TxKind::Vhost(queue) => queue.takes_checksums(),
            TxKind::Tap(_) => true,
            _ => false,
        }
    }

    /// Whether the queue has to be flushed when the turn ends, and nobody knows yet: from now on
    /// the caller does.
    #[inline(always)]
    pub(crate) fn wants_flush(&mut self) -> bool {
        match &mut self.kind {
            TxKind::AfXdp(queue) => queue.wants_flush(),
            _ => false,
        }
    }

    /// The last fault since this was asked before, and how many there were.
    pub(crate) fn take_fault(&mut self) -> Option<(GuestFault, u64)> {
        self.guest_mut().and_then(VhostTx::take_fault)
    }

    /// A guest's, if it is one.
    #[inline(always)]
    pub(super) fn guest(&self) -> Option<&VhostTx> {
        match &self.kind {
            TxKind::Vhost(queue) => Some(queue),
            _ => None,
        }
    }

    #[inline(always)]
    pub(super) fn guest_mut(&mut self) -> Option<&mut VhostTx> {
        match &mut self.kind {
            TxKind::Vhost(queue) => Some(queue),
            _ => None,
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
            #[cfg(any(test, feature = "test-support"))]
            TxKind::Mem(queue) => queue.reserve(lens.len()),
            TxKind::Vhost(_) => (0, Room::Stopped),
        }
    }

    #[inline(never)]
    fn commit(&mut self, burst: &Burst, mask: u32, tag: Option<u16>) -> u64 {
        match self {
            TxKind::AfXdp(queue) => queue.commit(burst, mask, tag),
            TxKind::Tap(queue) => queue.commit(burst, mask, tag),
            #[cfg(any(test, feature = "test-support"))]
            TxKind::Mem(queue) => queue.commit(burst, mask, tag),
            TxKind::Vhost(_) => 0,
        }
    }
}
