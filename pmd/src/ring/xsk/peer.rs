//! The kernel's half of an AF_XDP socket, in plain memory: what a driver, a veth and `sendto` do to
//! the four rings. For tests, unprivileged and on virtual time; it can stall, leave rings full and
//! complete in any order.
#![expect(clippy::cast_possible_truncation, reason = "numbers of frames")]

use std::sync::{Arc, Mutex, MutexGuard};

use super::frame::{FRAME_BYTES, HEADROOM, PACKET_MAX};
use super::halves::{XskRx, XskTx};
use super::peer_rings::PeerRings;
use super::rings::{RxRings, TxRings};
use crate::lock::lock;
use crate::shm::umem::UmemArea;

/// For whoever plays the kernel and the wire behind it.
#[derive(Clone, Debug)]
pub struct XskPeer {
    rings: Arc<Mutex<PeerRings>>,
}

impl XskPeer {
    /// A socket of so many frames each way in memory: the kernel's half, and both of the switch's.
    pub(crate) fn open(n_rx: usize, n_tx: usize) -> (Self, XskRx, XskTx) {
        let area = UmemArea::on_heap((n_rx + n_tx) * FRAME_BYTES);
        let rings = PeerRings::new(area.clone(), n_rx, n_tx);
        let rings = Arc::new(Mutex::new(rings));
        let rx = XskRx::new(RxRings::Peer(rings.clone()), area.clone(), n_rx);
        let tx = XskTx::new(TxRings::Peer(rings.clone()), area, n_rx, n_tx);
        (Self { rings }, rx, tx)
    }

    fn rings(&self) -> MutexGuard<'_, PeerRings> {
        lock(&self.rings)
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
