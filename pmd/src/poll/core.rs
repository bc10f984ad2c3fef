//! A polling core, and what it is made of.

use std::os::fd::AsFd;
use std::sync::Arc;

use flowtable::{Lookup, PortId};

use super::mailbox::Mailbox;
use super::scan::Scanner;
use crate::burst::{BURST_BYTES_MAX, Burst};
use crate::error::SetupError;
use crate::limit::queue::LimitQueues;
use crate::page_faults::PageFaults;
use crate::port::views::TXQS_MAX;
use crate::port::{PortView, RxQueue};
use crate::stats::CoreStats;
use crate::sys::Epoll;
use crate::time::Nanos;

/// A polling core: all that one thread needs to switch frames. Nothing in it is shared but what is
/// behind an `Arc`.
#[derive(Debug)]
pub struct Core {
    pub(crate) id: usize,
    #[expect(
        clippy::vec_box,
        reason = "queues travel between control and cores in their boxes"
    )]
    pub(crate) rxqs: Vec<Box<RxQueue>>,
    pub(crate) views: Box<[Option<Arc<PortView>>]>,
    /// By port: until when one that has just gone down is taken to be changing, not gone.
    pub(crate) changing: Box<[Nanos]>,
    pub(crate) lookup: Lookup,
    pub(crate) burst: Box<Burst>,
    /// The number of the burst under way: see [`crate::send::Sender`].
    pub(crate) n_bursts: u32,
    pub(super) scanner: Scanner,
    pub(crate) slots: Box<[u16]>,
    /// Transmit queues with frames that are not out yet; see `TxLock::flush`.
    pub(crate) flushes: Vec<(PortId, u16)>,
    /// Frames that wait at the limits of the VMs they are for.
    pub(crate) queues: LimitQueues,
    pub(crate) faults: PageFaults,
    /// A port that is going down, of which something waits there yet.
    pub(super) leaving: Option<Leaving>,
    /// How far the core's own end has come.
    pub(super) end: End,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// What the core sleeps in: control's wake-up, and the kicks of its queues, which control adds
    /// and removes.
    pub(crate) epoll: Arc<Epoll>,
}

/// A port of which nothing that waits may go on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) port: PortId,
    /// It goes down, and control waits for that; else it goes to another network.
    pub(super) is_down: bool,
}

/// How far a core's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It polls.
    NotYet,
    /// It was told to, and goes on until then at the latest.
    Until(Nanos),
    /// It uses nothing any more that is shared.
    Over,
}

/// Numbers of a core's bursts, of which the high part is the core's own.
#[inline(always)]
pub(crate) fn next_burst(n: u32) -> u32 {
    n.wrapping_add(1) | 1
}

/// Bytes of the core's own for a burst of which the last frame is the longest that there is.
const OWN_BYTES: usize = BURST_BYTES_MAX as usize + (1 << 17);

impl Core {
    /// The core with this number. `stats` and `mailbox` are shared with control.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub(crate) fn new(
        id: usize,
        lookup: Lookup,
        stats: Arc<CoreStats>,
        mailbox: Arc<Mailbox>,
    ) -> Result<Self, SetupError> {
        let n_ports = stats.n_ports();
        let epoll = Arc::new(Epoll::new()?);
        if !epoll.add(mailbox.wake_fd().as_fd()) {
            return Err(SetupError::new(
                "the kernel lets this user watch no more files (fs.epoll.max_user_watches)",
            ));
        }
        Ok(Self {
            id,
            rxqs: Vec::with_capacity(n_ports * TXQS_MAX),
            views: (0..n_ports).map(|_| None).collect(),
            changing: vec![0; n_ports].into(),
            lookup,
            burst: Box::default(),
            n_bursts: u32::try_from(id % 256).unwrap_or(0) << 24,
            scanner: Scanner::new(),
            slots: vec![0; n_ports * TXQS_MAX].into(),
            flushes: Vec::with_capacity(n_ports * TXQS_MAX),
            queues: LimitQueues::new(n_ports),
            faults: PageFaults::new(n_ports),
            leaving: None,
            end: End::NotYet,
            stats,
            mailbox,
            epoll,
        })
    }

    /// Its number.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Takes up the memory that only this core uses. Called on the core's own thread, so that it
    /// lies near its CPU; until then few decisions are remembered.
    pub fn make_room(&mut self) {
        self.lookup.make_room();
    }

    /// Bounds what pages that guests' memory lacks cost this core: see `page_faults`. Called on the
    /// core's own thread; until then nothing is bounded.
    pub fn bound_page_faults(&mut self) {
        self.faults.begin(OWN_BYTES);
    }
}
