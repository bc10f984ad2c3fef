//! The owner of each frame of an AF_XDP socket's UMEM.
//!
//! The first `n_rx` frames are for receiving, the `n_tx` behind them for sending, so that a queue's
//! two halves share nothing: the receiving one belongs to a core, the sending one stands behind a
//! lock. A frame is owned by exactly one of: the kernel (it stands in one of the rings), a burst
//! ([`RxFrame`], [`TxFrame`]: values that can't be copied), or the free list. [`Ledger`] counts
//! them.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of frames, and places in a UMEM of some MiB"
)]

use std::os::fd::{BorrowedFd, RawFd};

use arrayvec::ArrayVec;

use super::frame::{FRAME_BYTES, HEADROOM, PACKET_MAX, RxFrame, TxFrame};
use super::rings::{RxRings, TxRings, TxWaker};
use crate::ring::BURST_MAX;
use crate::shm::Piece;
use crate::shm::umem::UmemArea;

/// Where the frames of one half of a queue are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames that there are.
    pub n_frames: usize,
    /// With the kernel, in one of the rings.
    pub n_kernel: usize,
    /// In a burst, on their way.
    pub n_burst: usize,
    /// In the free list.
    pub n_free: usize,
    /// Descriptors that the kernel gave for frames which it did not have. They were ignored.
    pub n_strays: u64,
}

impl Ledger {
    /// Whether every frame is at exactly one place.
    pub fn is_balanced(&self) -> bool {
        self.n_kernel + self.n_burst + self.n_free == self.n_frames && self.n_strays == 0
    }
}

/// The receiving half: receive ring and fill ring.
#[derive(Debug)]
pub(crate) struct XskRx {
    rings: RxRings,
    area: UmemArea,
    /// By frame: whether the kernel has it.
    is_out: Box<[bool]>,
    n_out: usize,
    /// Those that the fill ring had no room for.
    free: Vec<u32>,
    n_strays: u64,
}

impl XskRx {
    /// `n_frames`: the first of the UMEM, which all go to the kernel at once.
    pub(super) fn new(rings: RxRings, area: UmemArea, n_frames: usize) -> Self {
        let free = (0..n_frames as u32).rev().collect();
        let mut half = Self {
            rings,
            area,
            is_out: vec![false; n_frames].into(),
            n_out: 0,
            free,
            n_strays: 0,
        };
        half.refill();
        half
    }

    /// Takes packets off the receive ring, oldest first, until there are [`BURST_MAX`] in `to`.
    #[inline]
    pub(crate) fn take(&mut self, to: &mut ArrayVec<RxFrame, BURST_MAX>) {
        let mut packets = ArrayVec::new();
        self.rings.take(to.remaining_capacity(), &mut packets);
        for (at, len) in packets {
            let number = at / FRAME_BYTES;
            // The kernel's word, yet nothing is gained by trusting it: twice the same frame would
            // be two owners.
            match self.is_out.get_mut(number) {
                Some(is_out) if *is_out && self.area.piece(at, len).is_some() => {
                    *is_out = false;
                    self.n_out -= 1;
                    to.push(RxFrame {
                        number: number as u32,
                        at,
                        len,
                    });
                }
                _ => self.n_strays += 1,
            }
        }
    }

    /// The packet, where it arrived.
    #[inline(always)]
    pub(crate) fn piece(&self, frame: &RxFrame) -> Piece {
        self.area.piece(frame.at, frame.len).unwrap_or(Piece::EMPTY)
    }

    /// Gives frames back to the kernel, which wakes up for them if it waits for any.
    #[inline]
    pub(crate) fn give(&mut self, frames: impl Iterator<Item = RxFrame>) {
        self.free.extend(frames.map(|frame| frame.number));
        self.refill();
        self.rings.wake_if_wanted();
    }

    fn refill(&mut self) {
        while !self.free.is_empty() {
            let from = self.free.len().saturating_sub(BURST_MAX);
            let n = self.rings.fill(&self.free[from..]);
            for number in self.free.drain(from..from + n) {
                self.is_out[number as usize] = true;
            }
            self.n_out += n;
            if n == 0 {
                return;
            }
        }
    }

    /// Whether packets wait, asked afresh. Before a sleep: the kernel is told of frames too.
    pub(crate) fn has_more(&mut self) -> bool {
        self.rings.wake_if_wanted();
        self.rings.has_more()
    }

    /// The socket; `None` in memory.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.rings.fd()
    }

    /// The same, borrowed.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the rings keep the socket open, and they are borrowed.
        self.fd().map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// `n_burst`: frames that the caller owns.
    pub(crate) fn ledger(&self, n_burst: usize) -> Ledger {
        let (n_frames, n_free) = (self.is_out.len(), self.free.len());
        Ledger {
            n_frames,
            n_kernel: self.n_out,
            n_burst,
            n_free,
            n_strays: self.n_strays,
        }
    }
}

/// The sending half: transmit ring and completion ring.
#[derive(Debug)]
pub(crate) struct XskTx {
    rings: TxRings,
    area: UmemArea,
    /// Number of its first frame.
    first: u32,
    /// By frame from there: whether the kernel has it.
    is_out: Box<[bool]>,
    n_out: usize,
    free: Vec<u32>,
    n_strays: u64,
}

impl XskTx {
    /// `n_frames`: those of the UMEM from `first` on, which is as many as its rings have places.
    pub(super) fn new(rings: TxRings, area: UmemArea, first: usize, n_frames: usize) -> Self {
        let first = first as u32;
        let free = (first..first + n_frames as u32).rev().collect();
        Self {
            rings,
            area,
            first,
            is_out: vec![false; n_frames].into(),
            n_out: 0,
            free,
            n_strays: 0,
        }
    }

    /// Frames that are free now.
    #[inline(always)]
    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// A frame of the free list.
    #[inline(always)]
    pub(crate) fn frame(&mut self) -> Option<TxFrame> {
        Some(TxFrame {
            number: self.free.pop()?,
        })
    }

    /// Where its packet goes.
    #[inline(always)]
    pub(crate) fn piece(&self, frame: &TxFrame) -> Piece {
        let at = frame.number as usize * FRAME_BYTES + HEADROOM;
        self.area.piece(at, PACKET_MAX).unwrap_or(Piece::EMPTY)
    }

    /// Puts packets into the transmit ring, a burst at most, and shows them; they are not on their
    /// way before a wake-up. Each comes with its length. There is room: the ring has a place for
    /// every frame of this half.
    #[inline]
    pub(crate) fn put(&mut self, frames: ArrayVec<(TxFrame, u32), BURST_MAX>) {
        let n = self.rings.put(&frames);
        debug_assert_eq!(
            n,
            frames.len(),
            "the transmit ring has no place for a frame of its own"
        );
        for (at, (frame, _)) in frames.into_iter().enumerate() {
            if at < n {
                self.is_out[(frame.number - self.first) as usize] = true;
                self.n_out += 1;
            } else {
                self.free.push(frame.number);
                self.n_strays += 1;
            }
        }
    }

    /// Takes back the frames whose packets are out.
    #[inline]
    pub(crate) fn complete(&mut self) {
        let mut done = ArrayVec::<u32, BURST_MAX>::new();
        while self.n_out > 0 {
            done.clear();
            self.rings.complete(&mut done);
            for &number in &done {
                match self
                    .is_out
                    .get_mut(number.wrapping_sub(self.first) as usize)
                {
                    Some(is_out) if *is_out => {
                        *is_out = false;
                        self.n_out -= 1;
                        self.free.push(number);
                    }
                    _ => self.n_strays += 1,
                }
            }
            if done.len() < BURST_MAX {
                break;
            }
        }
    }

    /// Frames that the kernel has, in the transmit ring or behind it.
    #[inline(always)]
    pub(crate) fn n_out(&self) -> usize {
        self.n_out
    }

    /// Packets in the transmit ring that the kernel has not taken yet.
    #[inline]
    pub(crate) fn n_unsent(&mut self) -> usize {
        self.rings.n_unsent()
    }

    /// Whether the kernel has to be woken to see the transmit ring.
    #[inline]
    pub(crate) fn wants_wake(&self) -> bool {
        self.rings.wants_wake()
    }

    /// What wakes it.
    #[inline]
    pub(crate) fn waker(&self) -> TxWaker {
        self.rings.waker()
    }

    /// `n_burst`: frames that the caller owns.
    pub(crate) fn ledger(&self, n_burst: usize) -> Ledger {
        let (n_frames, n_free) = (self.is_out.len(), self.free.len());
        Ledger {
            n_frames,
            n_kernel: self.n_out,
            n_burst,
            n_free,
            n_strays: self.n_strays,
        }
    }
}
