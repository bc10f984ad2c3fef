//! The four rings as the kernel's half in memory has them, and what lies behind them.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

use super::frame::{FRAME_BYTES, HEADROOM};
use crate::ring::BURST_MAX;
use crate::shm::umem::UmemArea;

/// Packets that one wake-up takes, as the kernel's copy mode has it unless told otherwise.
const BUDGET: usize = 32;

/// The rings, and what lies behind them.
#[derive(Debug)]
pub(crate) struct PeerRings {
    pub(super) area: UmemArea,
    pub(super) n_rx: usize,
    pub(super) n_tx: usize,
    pub(super) fill: VecDeque<u32>,
    pub(super) received: VecDeque<(usize, u32)>,
    pub(super) transmit: VecDeque<(u32, u32)>,
    pub(super) completed: VecDeque<u32>,
    /// Packets that went out.
    pub(super) sent: VecDeque<Vec<u8>>,
    /// Frames whose packets went out, and which are not completed yet.
    pub(super) held: Vec<u32>,
    pub(super) is_stalled: bool,
    pub(super) holds_completions: bool,
    pub(super) n_wakes: u64,
    pub(super) n_lost: u64,
}

impl PeerRings {
    /// For so many frames each way, which lie in `area`.
    pub(super) fn new(area: UmemArea, n_rx: usize, n_tx: usize) -> Self {
        Self {
            area,
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
        }
    }

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
