//! The four rings of an AF_XDP socket. They are those of libxdp by way of the crate `xsk-rs`, which
//! is known in this room alone; in tests the kernel's half is played by `super::peer`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of frames, and places in a UMEM of some MiB"
)]

use std::os::fd::RawFd;
#[cfg(any(test, feature = "test-support"))]
use std::sync::{Arc, Mutex};

use arrayvec::ArrayVec;
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::frame::{FRAME_BYTES, TxFrame};
#[cfg(any(test, feature = "test-support"))]
use super::peer_rings::PeerRings;
#[cfg(any(test, feature = "test-support"))]
use crate::lock::lock;
use crate::ring::BURST_MAX;
use crate::sys::xdp;

/// Receive ring and fill ring.
#[derive(Debug)]
pub(super) enum RxRings {
    Kernel(Box<KernelRx>),
    #[cfg(any(test, feature = "test-support"))]
    Peer(Arc<Mutex<PeerRings>>),
}

/// Transmit ring and completion ring.
#[derive(Debug)]
pub(super) enum TxRings {
    Kernel(Box<KernelTx>),
    #[cfg(any(test, feature = "test-support"))]
    Peer(Arc<Mutex<PeerRings>>),
}

#[derive(Debug)]
pub(super) struct KernelRx {
    pub(super) rx: RxQueue,
    pub(super) fill: FillQueue,
    /// A descriptor of every frame, since they can't be made, only copied.
    pub(super) descs: Box<[FrameDesc]>,
    pub(super) scratch: [FrameDesc; BURST_MAX],
    pub(super) fd: RawFd,
}

#[derive(Debug)]
pub(super) struct KernelTx {
    pub(super) tx: TxQueue,
    pub(super) completion: CompQueue,
    pub(super) umem: Umem,
    pub(super) descs: Box<[FrameDesc]>,
    pub(super) scratch: [FrameDesc; BURST_MAX],
    pub(super) fd: RawFd,
    pub(super) size: u32,
}

impl RxRings {
    /// Address and length of the next packets, `n` at most.
    #[inline]
    pub(super) fn take(&mut self, n: usize, to: &mut ArrayVec<(usize, u32), BURST_MAX>) {
        match self {
            RxRings::Kernel(kernel) => {
                let scratch = &mut kernel.scratch[..n];
                // SAFETY: the descriptors are overwritten; frames that they stood for are not
                // touched through them.
                let n = unsafe { kernel.rx.consume(scratch) };
                to.extend(
                    scratch[..n]
                        .iter()
                        .map(|desc| (desc.addr(), desc.lengths().data() as u32)),
                );
            }
            #[cfg(any(test, feature = "test-support"))]
            RxRings::Peer(rings) => lock(rings).take_received(n, to),
        }
    }

    /// Offers frames to the kernel, a burst at most; gives how many of the first of them it took.
    #[inline]
    pub(super) fn fill(&mut self, numbers: &[u32]) -> usize {
        match self {
            RxRings::Kernel(kernel) => {
                for (desc, &number) in kernel.scratch.iter_mut().zip(numbers) {
                    *desc = kernel.descs[number as usize];
                }
                let n = numbers
                    .len()
                    .min(BURST_MAX)
                    .min(kernel.fill.nb_free(BURST_MAX as u32) as usize);
                // SAFETY: frames of this UMEM, which have no other owner: they come from the free
                // list.
                unsafe { kernel.fill.produce(&kernel.scratch[..n]) }
            }
            #[cfg(any(test, feature = "test-support"))]
            RxRings::Peer(rings) => lock(rings).fill(numbers),
        }
    }

    #[inline]
    pub(super) fn wake_if_wanted(&self) {
        match self {
            RxRings::Kernel(kernel) if kernel.fill.needs_wakeup() => xdp::wake_rx(kernel.fd),
            _ => {}
        }
    }

    pub(super) fn has_more(&mut self) -> bool {
        match self {
            RxRings::Kernel(kernel) => kernel.rx.nb_avail_exact() > 0,
            #[cfg(any(test, feature = "test-support"))]
            RxRings::Peer(rings) => lock(rings).has_received(),
        }
    }

    /// The socket; `None` in memory.
    pub(super) fn fd(&self) -> Option<RawFd> {
        match self {
            RxRings::Kernel(kernel) => Some(kernel.fd),
            #[cfg(any(test, feature = "test-support"))]
            RxRings::Peer(_) => None,
        }
    }
}

/// Wakes the kernel to send. It works by copy for a microsecond a packet in that call, so whoever
/// has the ring behind a lock lets go of that first. Not to be kept longer than the ring.
#[derive(Debug)]
pub(crate) enum TxWaker {
    Kernel(RawFd),
    #[cfg(any(test, feature = "test-support"))]
    Peer(Arc<Mutex<PeerRings>>),
}

impl TxWaker {
    /// Wakes it. It may leave some of the ring for another time.
    #[inline]
    pub(crate) fn wake(self) {
        match self {
            TxWaker::Kernel(fd) => xdp::wake_tx(fd),
            #[cfg(any(test, feature = "test-support"))]
            TxWaker::Peer(rings) => lock(&rings).wake(),
        }
    }
}

impl TxRings {
    #[inline]
    pub(super) fn put(&mut self, frames: &[(TxFrame, u32)]) -> usize {
        match self {
            TxRings::Kernel(kernel) => {
                for (desc, (frame, len)) in kernel.scratch.iter_mut().zip(frames) {
                    *desc = kernel.descs[frame.number as usize];
                    // SAFETY: the frame is ours until it is shown, and nothing is kept of this look
                    // at it.
                    unsafe { kernel.umem.data_mut(desc) }
                        .cursor()
                        .set_pos(*len as usize);
                }
                let n = frames.len().min(BURST_MAX);
                // SAFETY: frames of this UMEM, which their callers gave up by value.
                unsafe { kernel.tx.produce(&kernel.scratch[..n]) }
            }
            #[cfg(any(test, feature = "test-support"))]
            TxRings::Peer(rings) => {
                lock(rings).put(frames.iter().map(|(frame, len)| (frame.number, *len)))
            }
        }
    }

    /// Numbers of frames that are out, as many as fit.
    #[inline]
    pub(super) fn complete(&mut self, done: &mut ArrayVec<u32, BURST_MAX>) {
        match self {
            TxRings::Kernel(kernel) => {
                // SAFETY: the descriptors are overwritten; frames that they stood for are not
                // touched through them.
                let n = unsafe { kernel.completion.consume(&mut kernel.scratch) };
                done.extend(
                    kernel.scratch[..n]
                        .iter()
                        .map(|desc| (desc.addr() / FRAME_BYTES) as u32),
                );
            }
            #[cfg(any(test, feature = "test-support"))]
            TxRings::Peer(rings) => lock(rings).take_completed(done),
        }
    }

    /// Packets in the transmit ring that the kernel has not taken yet.
    #[inline]
    pub(super) fn n_unsent(&mut self) -> usize {
        match self {
            TxRings::Kernel(kernel) => (kernel.size - kernel.tx.nb_free_exact()) as usize,
            #[cfg(any(test, feature = "test-support"))]
            TxRings::Peer(rings) => lock(rings).n_unsent(),
        }
    }

    /// Whether the kernel has to be woken to see the transmit ring.
    #[inline]
    pub(super) fn wants_wake(&self) -> bool {
        match self {
            TxRings::Kernel(kernel) => kernel.tx.needs_wakeup(),
            #[cfg(any(test, feature = "test-support"))]
            TxRings::Peer(_) => true,
        }
    }

    /// What wakes it.
    #[inline]
    pub(super) fn waker(&self) -> TxWaker {
        match self {
            TxRings::Kernel(kernel) => TxWaker::Kernel(kernel.fd),
            #[cfg(any(test, feature = "test-support"))]
            TxRings::Peer(rings) => TxWaker::Peer(rings.clone()),
        }
    }
}
