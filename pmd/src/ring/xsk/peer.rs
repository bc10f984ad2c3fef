//! The kernel's half of an AF_XDP socket, in plain memory: what a driver, a veth and `sendto` do to
//! the four rings. For tests, unprivileged and on virtual time; it can stall, leave rings full and
//! complete in any order.
#![expect(clippy::cast_possible_truncation, reason = "numbers of frames")]

use super::halves::{FRAME_BYTES, HEADROOM, PACKET_MAX, XskRx, XskTx};
use super::rings::{RxRings, TxRings};
use crate::ring::BURST_MAX;
use crate::shm::umem::UmemArea;
use arrayvec::ArrayVec;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

/// Packets that one wake-up takes, as the kernel's copy mode has it unless told otherwise.
const BUDGET: usize = 32;

/// The rings, and what lies behind them.
#[derive(Debug)]
pub(crate) struct PeerRings {
    area: UmemArea,
    n_rx: usize,
    n_tx: usize,
    fill: VecDeque<u32>,
    received: VecDeque<(usize, u32)>,
    transmit: VecDeque<(u32, u32)>,
    completed: VecDeque<u32>,
    /// Packets that went out.
    sent: VecDeque<Vec<u8>>,
    /// Frames whose packets went out, and which are not completed yet.
    held: Vec<u32>,
    is_stalled: bool,
    holds_completions: bool,
    n_wakes: u64,
    n_lost: u64,
}

/// For whoever plays the kernel and the wire behind it.
#[derive(Clone, Debug)]
pub struct XskPeer {
    rings: Arc<Mutex<PeerRings>>,
}

impl XskPeer {
    /// A socket of so many frames each way in memory: the kernel's half, and both of the switch's.
    pub(crate) fn open(n_rx: usize, n_tx: usize) -> (Self, XskRx, XskTx) {
        let area = UmemArea::on_heap((n_rx + n_tx) * FRAME_BYTES);
        let rings = PeerRings {
            area: area.clone(),
            n_rx,
            n_tx,
            fill: VecDeque::new(),
            received: VecDeque::new(),
            transmit: VecDeque::new(),
            completed: VecDeque::new(),
            sent: VecDeque::new(),
            held: Vec::new(),
            is_stalled: false,
            holds_completions: false,
            n_wakes: 0,
            n_lost: 0,
        };
        let rings = Arc::new(Mutex::new(rings));
        let rx = XskRx::new(RxRings::Peer(rings.clone()), area.clone(), n_rx);
        let tx = XskTx::new(TxRings::Peer(rings.clone()), area, n_rx, n_tx);
        (Self { rings }, rx, tx)
    }

    fn rings(&self) -> MutexGuard<'_, PeerRings> {
        crate::lock::lock(&self.rings)
    }

    /// A packet arrives from the wire; false when there was no memory for it and it is lost.
    pub fn deliver(&self, packet: &[u8]) -> bool {
        let rings = &mut *self.rings();
        let place = if packet.len() <= PACKET_MAX as usize {
            rings.fill.pop_front()
        } else {
            None
        };
        let Some(number) = place else {
            rings.n_lost += 1;
            return false;
        };
        let at = number as usize * FRAME_BYTES + HEADROOM;
        rings
            .area
            .piece(at, packet.len() as u32)
            .expect("a frame of this area")
            .write(packet);
        rings.received.push_back((at, packet.len() as u32));
        true
    }

    /// The oldest packet that went out.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.rings().sent.pop_front()
    }

    /// A stalled peer takes nothing out of the transmit ring, whoever wakes it.
    pub fn stall(&self, is_stalled: bool) {
        self.rings().is_stalled = is_stalled;
    }

    /// Frames that go out are not completed before [`XskPeer::complete`].
    pub fn hold_completions(&self) {
        self.rings().holds_completions = true;
    }

    /// Completes up to `n` frames that went out, each time the one that `pick` chooses among so
    /// many.
    pub fn complete(&self, n: usize, mut pick: impl FnMut(usize) -> usize) {
        let rings = &mut *self.rings();
        for _ in 0..n.min(rings.held.len()) {
            let at = pick(rings.held.len()) % rings.held.len();
            let number = rings.held.swap_remove(at);
            rings.completed.push_back(number);
        }
    }

    /// Completes a frame that the switch never gave, as no kernel would.
    pub fn complete_stray(&self, number: u32) {
        self.rings().completed.push_back(number);
    }

    /// Wake-ups so far.
    pub fn n_wakes(&self) -> u64 {
        self.rings().n_wakes
    }

    /// Frames that packets from the wire can have now.
    pub fn n_fill(&self) -> usize {
        self.rings().fill.len()
    }

    /// Packets that found none.
    pub fn n_lost(&self) -> u64 {
        self.rings().n_lost
    }
}

impl PeerRings {
    pub(super) fn take_received(&mut self, n: usize, to: &mut ArrayVec<(usize, u32), BURST_MAX>) {
        let n = n.min(self.received.len());
        to.extend(self.received.drain(..n));
    }

    pub(super) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    pub(super) fn fill(&mut self, numbers: &[u32]) -> usize {
        let n = numbers.len().min(self.n_rx - self.fill.len());
        self.fill.extend(&numbers[..n]);
        n
    }

    pub(super) fn put(&mut self, packets: impl Iterator<Item = (u32, u32)>) -> usize {
        let before = self.transmit.len();
        self.transmit.extend(packets.take(self.n_tx - before));
        self.transmit.len() - before
    }

    pub(super) fn take_completed(&mut self, done: &mut ArrayVec<u32, BURST_MAX>) {
        let n = done.remaining_capacity().min(self.completed.len());
        done.extend(self.completed.drain(..n));
    }

    pub(super) fn n_unsent(&self) -> usize {
        self.transmit.len()
    }

    /// What `sendto` does.
    pub(super) fn wake(&mut self) {
        self.n_wakes += 1;
        if self.is_stalled {
            return;
        }
        for _ in 0..BUDGET.min(self.transmit.len()) {
            let (number, len) = self.transmit.pop_front().expect("as many as there are");
            let at = number as usize * FRAME_BYTES + HEADROOM;
            let mut packet = vec![0; len as usize];
            self.area
                .piece(at, len)
                .expect("a frame of this area")
                .read(&mut packet, len as usize);
            self.sent.push_back(packet);
            if self.holds_completions {
                self.held.push(number);
            } else {
                self.completed.push_back(number);
            }
        }
    }
}
