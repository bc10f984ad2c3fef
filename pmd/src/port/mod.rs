//! Where frames come and go: receive queues and transmit queues, as seen from the switch. One file per kind of port.

pub mod mem;
pub mod vhost;

use crate::burst::Burst;
use crate::claim::Claim;
use crate::error::{GuestFault, SetupError};
use crate::gate::Gate;
use crate::hold::Hold;
use crate::limits::{Allowance, Limit, VmLimits};
use crate::ring::QueueSpec;
use crate::shm::GuestMemory;
use crate::sys::EventFd;
use flowtable::{Ingress, PortId};
use mem::{MemPort, MemRx, MemTx};
use std::sync::{Arc, Mutex};
use vhost::{Features, VhostRx, VhostTx};

/// A queue that frames are taken from. Belongs to one core.
#[derive(Debug)]
pub struct RxQueue {
    /// The port it is part of.
    pub port: PortId,
    /// Whether frames had to wait in it in the last turn.
    pub(crate) is_held: bool,
    /// What receivers know it by: no two of a switch have the same, and none has 0.
    pub(crate) who: u32,
    /// Whether its kicks wake the core that polls it.
    pub(crate) can_wake: bool,
    pub(crate) hold: Hold,
    /// What holds it back for its VM's limit.
    pub(crate) gate: Gate,
    pub(crate) kind: RxKind,
}

#[derive(Debug)]
pub(crate) enum RxKind {
    Vhost(VhostRx),
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
        Ok(Self::new(port, RxKind::Vhost(VhostRx::new(memory, spec, features)?)))
    }

    /// The receiving side of a port in plain memory.
    pub fn mem(port: PortId, ends: &MemPort) -> Self {
        Self::new(port, RxKind::Mem(MemRx::new(ends)))
    }

    fn new(port: PortId, kind: RxKind) -> Self {
        let (hold, gate) = (Hold::default(), Gate::default());
        let mut queue = Self { port, is_held: false, who: 0, can_wake: false, hold, gate, kind };
        queue.who = u32::from(port) << 16 | (u32::from(queue.index()) + 1);
        queue
    }

    /// Virtqueue index; a port in memory has one queue, 1.
    pub fn index(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.index(),
            RxKind::Mem(_) => 1,
        }
    }

    /// Position in the ring, for a front-end that asks.
    pub fn base(&self) -> u16 {
        match &self.kind {
            RxKind::Vhost(queue) => queue.base(),
            RxKind::Mem(_) => 0,
        }
    }

    /// The fault for which it was stopped; only setting it up anew lets it run again.
    pub fn stopped_for(&self) -> Option<GuestFault> {
        match &self.kind {
            RxKind::Vhost(queue) => queue.stopped_for(),
            RxKind::Mem(_) => None,
        }
    }

    /// Where its guest kicks, if it does.
    pub(crate) fn kick(&self) -> Option<&EventFd> {
        match &self.kind {
            RxKind::Vhost(queue) => queue.ring.spec().kick.as_deref(),
            RxKind::Mem(_) => None,
        }
    }

    /// Looks at what waits, oldest first, as far as `allowance` goes; nothing is consumed. Gives the number of frames now in
    /// `burst`.
    #[inline(always)]
    pub(crate) fn peek(&mut self, burst: &mut Burst, allowance: Allowance, stats: &crate::stats::PortStats) -> usize {
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.peek(burst, allowance, stats),
            RxKind::Mem(queue) => queue.peek(burst, allowance),
        }
    }

    /// Whether anything waits, asked afresh.
    pub(crate) fn has_more(&self) -> bool {
        match &self.kind {
            RxKind::Vhost(queue) => queue.has_more(),
            RxKind::Mem(queue) => queue.has_more(),
        }
    }

    /// Gives the first `n` frames of the burst back to where they came from.
    #[inline(always)]
    pub(crate) fn consume(&mut self, burst: &Burst, n: usize) {
        match &mut self.kind {
            RxKind::Vhost(queue) => queue.consume(burst, n),
            RxKind::Mem(queue) => queue.consume(n),
        }
    }

    /// Its VM's limit is used up: it isn't looked at before `opens_at`.
    #[cold]
    pub(crate) fn shut(&mut self, now: crate::time::Nanos, opens_at: crate::time::Nanos) {
        let has_more = self.has_more();
        self.gate.shut(now, opens_at, has_more);
    }

    /// Whether frames may wait where they are. What came off a wire can't.
    pub(crate) fn can_hold(&self) -> bool {
        match &self.kind {
            RxKind::Vhost(_) => true,
            RxKind::Mem(queue) => queue.can_hold(),
        }
    }
}

/// A queue that frames are given to. Reached by every core, one at a time.
#[derive(Debug)]
pub struct TxQueue {
    pub(crate) claim: Claim,
    pub(crate) kind: TxKind,
}

#[derive(Debug)]
pub(crate) enum TxKind {
    Vhost(Box<VhostTx>),
    Mem(MemTx),
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
    pub fn vhost(memory: Arc<GuestMemory>, spec: &QueueSpec, features: Features) -> Result<Self, SetupError> {
        Ok(Self::new(TxKind::Vhost(Box::new(VhostTx::new(memory, spec, features)?))))
    }

    /// The sending side of a port in plain memory.
    pub fn mem(ends: &MemPort) -> Self {
        Self::new(TxKind::Mem(MemTx::new(ends)))
    }

    fn new(kind: TxKind) -> Self {
        Self { claim: Claim::default(), kind }
    }

    /// Virtqueue index; a port in memory has one queue, 0.
    pub fn index(&self) -> u16 {
        match &self.kind {
            TxKind::Vhost(queue) => queue.index(),
            TxKind::Mem(_) => 0,
        }
    }

    /// Position in the ring, for a front-end that asks.
    pub fn base(&self) -> u16 {
        match &self.kind {
            TxKind::Vhost(queue) => queue.base(),
            TxKind::Mem(_) => 0,
        }
    }

    /// The fault for which it was stopped, as for a receive queue.
    pub fn stopped_for(&self) -> Option<GuestFault> {
        match &self.kind {
            TxKind::Vhost(queue) => queue.stopped_for(),
            TxKind::Mem(_) => None,
        }
    }

    /// Whether this burst has promised so much of what can be looked at ahead that another frame may find nothing more.
    pub(crate) fn is_nearly_used_up(&self) -> bool {
        match &self.kind {
            TxKind::Vhost(queue) => queue.is_nearly_used_up(),
            TxKind::Mem(_) => false,
        }
    }

    /// Sets room aside for frames of these lengths, behind what is reserved already; gives how many got theirs, and what
    /// became of the next. `hint`: frames that may come in all.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, lens: &[u32], hint: u16) -> (usize, Room) {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.reserve(lens, hint),
            TxKind::Mem(queue) => queue.reserve(lens.len()),
        }
    }

    /// Whether a small frame would find room now.
    pub(crate) fn has_room(&mut self) -> bool {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.has_room(),
            TxKind::Mem(queue) => queue.has_room(),
        }
    }

    /// Copies the frames of `mask` to where room was reserved for them, in the same order, and shows them. Gives their bytes.
    #[inline(always)]
    pub(crate) fn commit(&mut self, burst: &Burst, mask: u32) -> u64 {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.commit(burst, mask),
            TxKind::Mem(queue) => queue.commit(burst, mask),
        }
    }

    /// The last fault since this was asked before, and how many there were.
    pub(crate) fn take_fault(&mut self) -> Option<(GuestFault, u64)> {
        match &mut self.kind {
            TxKind::Vhost(queue) => queue.take_fault(),
            TxKind::Mem(_) => None,
        }
    }
}

/// What every core knows of a port that is up. Immutable but for the queues behind their locks; replaced as a whole.
#[derive(Debug)]
pub struct PortView {
    /// What decisions about its frames need.
    pub ingress: Ingress,
    /// Its transmit queues. `try_lock` only: a core that finds one locked goes on.
    pub(crate) txqs: Vec<Mutex<TxQueue>>,
    /// Those of its VM, if it has any.
    limits: Option<Arc<VmLimits>>,
}

impl PortView {
    /// With all the queues that the guest has enabled.
    pub fn new(ingress: Ingress, txqs: Vec<TxQueue>, limits: Option<Arc<VmLimits>>) -> Self {
        Self { ingress, txqs: txqs.into_iter().map(Mutex::new).collect(), limits }
    }

    /// The limit on what its VM gets.
    #[inline(always)]
    pub(crate) fn to_vm(&self) -> Option<&Limit> {
        self.limits.as_ref()?.to_vm.as_ref()
    }
}
