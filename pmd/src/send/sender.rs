//! What sending a burst needs, and the destinations that it has locked.

use std::cell::Cell;
use std::sync::MutexGuard;

use arrayvec::ArrayVec;
use flowtable::{Action, DropReason, Networks, PortId};

use crate::limit::OutLimit;
use crate::limit::queue::LimitQueues;
use crate::page_faults::PageFaults;
use crate::port::lock::TxLock;
use crate::port::views::Views;
use crate::port::{PortView, TxQueue};
use crate::stats::CoreStats;
use crate::time::Nanos;

/// Destinations that one burst may have.
pub(crate) const OUTS_MAX: usize = 1024;
/// A destination that this burst has locked, and the frames that go there.
pub(crate) struct Out<'a> {
    pub(crate) queue: MutexGuard<'a, TxQueue>,
    pub(super) port: PortId,
    pub(super) slot: usize,
    pub(crate) lock: &'a TxLock,
    pub(crate) frames: u32,
    /// That of the receiver's VM.
    pub(crate) limit: OutLimit<'a>,
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
    /// Which transmit queue of a device the frames leave by: see `RxQueue::tx_index`.
    pub(crate) tx_index: u16,
    pub(crate) now: Nanos,
}

impl Sender<'_> {
    /// Locks a transmit queue for the rest of the burst.
    #[inline(always)]
    pub(super) fn open<'v>(
        &self,
        view: &'v PortView,
        queue: usize,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        (port, slot): (PortId, usize),
        limit: OutLimit<'v>,
    ) -> Option<usize> {
        let lock = &view.txqs[queue];
        let queue = lock.open(self.burst, self.rxq, self.now)?;
        outs.try_push(Out {
            queue,
            port,
            slot,
            lock,
            frames: 0,
            limit,
        })
        .ok()?;
        Some(outs.len() - 1)
    }

    #[cold]
    pub(crate) fn lose(&self, from: PortId, reason: DropReason, action: Action) {
        self.stats.lost(from, action, reason);
    }

    /// Which of the burst's destinations a transmit queue is, by its place in `slots`; none: none
    /// of the burst's so far.
    pub(crate) fn place_of(&self, slot: Option<usize>) -> Option<usize> {
        usize::from(self.slots[slot?]).checked_sub(1)
    }
}
