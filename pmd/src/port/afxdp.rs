//! A queue of a device that stays under its kernel driver, through an AF_XDP socket: an uplink's,
//! or that of a container's veth.
//!
//! Frames that were received can't wait (the wire doesn't), those to be sent wait in the transmit
//! ring for one wake-up a turn. Both halves belong to the caller of [`open`], who gives the
//! receiving one to a core, the sending one behind a lock. The socket is closed when both are
//! dropped, by control.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Mutex};

use arrayvec::ArrayVec;
use flowtable::DropReason;
use flowtable::wire::header::{ETHERNET_LEN, TAG_LEN};

use crate::amount::Allowance;
use crate::burst::checksum;
use crate::burst::{BURST_MAX, Burst, BurstWriter};
use crate::error::SetupError;
use crate::port::room::{Flushed, Room};
use crate::ring::xsk::halves::Ledger;
#[cfg(any(test, feature = "test-support"))]
use crate::ring::xsk::peer::XskPeer;
use crate::ring::xsk::{self, PACKET_MAX, RxFrame, SocketSpec, TxWaker, XskRx, XskTx};
use crate::shm::Piece;
use crate::sys::bpf::Attach;
use crate::sys::xdp::{self, XdpStatistics};

/// Wake-ups of one flush: what is sent by copy goes out 32 frames at a time on kernels that can't
/// be told otherwise.
const WAKES_MAX: usize = 8;

/// How a queue's frames move between device and UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XskMode {
    /// By the device itself. Some drivers can.
    ZeroCopy,
    /// By the kernel.
    Copy,
}

/// How a queue is opened.
#[derive(Clone, Debug)]
pub struct XskOptions {
    /// The device's name, in the network namespace of the calling thread.
    pub device: String,
    /// Which of its queues.
    pub queue: u32,
    /// Whether the kernel may have to copy.
    pub mode: XskMode,
    /// Where the XDP program runs.
    pub attach: Attach,
    /// Frames may come with partial checksums.
    pub is_veth: bool,
    /// Frames of UMEM, of 4 KiB each, for what is received: a power of two.
    pub n_rx: u32,
    /// The same for what is sent.
    pub n_tx: u32,
}

/// A socket's both halves.
#[derive(Debug)]
pub struct AfXdpQueue {
    /// For [`super::RxQueue::afxdp`].
    pub rx: AfXdpRx,
    /// For [`super::TxQueue::afxdp`].
    pub tx: AfXdpTx,
    /// How it was opened.
    pub info: XskInfo,
}

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XskInfo {
    /// The device moves frames itself, as the kernel says afterwards.
    pub is_zero_copy: bool,
}

/// Control's look at a socket, for as long as its receiving half lives.
#[derive(Clone, Debug)]
pub struct XskWatch(Arc<Mutex<Option<RawFd>>>);

impl XskWatch {
    /// What the kernel lost of this socket's frames.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn statistics(&self) -> io::Result<XdpStatistics> {
        self.ask(xdp::statistics)
    }

    /// Whether the device moves frames itself.
    ///
    /// # Errors
    /// When the socket is closed.
    pub fn is_zero_copy(&self) -> io::Result<bool> {
        self.ask(xdp::is_zero_copy)
    }

    fn ask<T>(&self, question: impl FnOnce(RawFd) -> io::Result<T>) -> io::Result<T> {
        let fd = crate::lock::lock(&self.0);
        // Under the lock: the number stays this socket's until the receiving half has taken it
        // back.
        question(fd.ok_or(io::ErrorKind::NotConnected)?)
    }
}

/// Opens a queue: a socket with a UMEM of its own, bound, its fill ring full. Frames come once the
/// device's program leads them here: see [`crate::sys::bpf::XdpLink::serve`].
///
/// # Errors
/// With the system's reason, and what can be done about it. A queue that somebody has just let go
/// of is waited for, a second at most.
pub fn open(options: &XskOptions) -> Result<AfXdpQueue, SetupError> {
    let zero_copy = options.mode == XskMode::ZeroCopy;
    let &XskOptions {
        ref device,
        queue,
        n_rx,
        n_tx,
        ..
    } = options;
    let spec = SocketSpec {
        device,
        queue,
        zero_copy,
        n_rx,
        n_tx,
    };
    let (rx, tx, fd) = xsk::open(spec)?;
    let is_zero_copy = xdp::is_zero_copy(fd).map_err(|error| {
        let (device, queue) = (&options.device, options.queue);
        SetupError::new(format!(
            "cannot ask {device} queue {queue} for its mode: {error}"
        ))
    })?;
    Ok(AfXdpQueue::new(rx, tx, options, XskInfo { is_zero_copy }))
}

impl AfXdpQueue {
    fn new(rx: XskRx, tx: XskTx, options: &XskOptions, info: XskInfo) -> Self {
        let index = u16::try_from(options.queue).unwrap_or(u16::MAX);
        let watch = XskWatch(Arc::new(Mutex::new(rx.fd())));
        let rx = AfXdpRx {
            ring: rx,
            peeked: ArrayVec::new(),
            index,
            is_veth: options.is_veth,
            watch,
        };
        let tx = AfXdpTx {
            ring: tx,
            index,
            n_reserved: 0,
            n_used: 0,
            is_listed: false,
            has_put: false,
        };
        Self { rx, tx, info }
    }

    /// The same with the kernel's half in memory.
    #[cfg(any(test, feature = "test-support"))]
    pub fn in_memory(options: &XskOptions) -> (Self, XskPeer) {
        let (peer, rx, tx) = XskPeer::open(options.n_rx as usize, options.n_tx as usize);
        (
            Self::new(
                rx,
                tx,
                options,
                XskInfo {
                    is_zero_copy: false,
                },
            ),
            peer,
        )
    }

    /// The socket, for the device's program; `None` in memory.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.rx.wake_fd()
    }

    /// For control to look at it while cores have it.
    pub fn watch(&self) -> XskWatch {
        self.rx.watch.clone()
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct AfXdpRx {
    ring: XskRx,
    /// Frames that were looked at and not given back yet.
    peeked: ArrayVec<RxFrame, BURST_MAX>,
    index: u16,
    is_veth: bool,
    watch: XskWatch,
}

impl Drop for AfXdpRx {
    fn drop(&mut self) {
        *crate::lock::lock(&self.watch.0) = None;
    }
}

impl AfXdpRx {
    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ring.ledger(self.peeked.len())
    }

    pub(crate) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.ring.socket()
    }

    /// Looks at what has come, oldest first, as far as `allowance` goes; parsed in place but for
    /// the private headers. What is beyond that stays here for the next look.
    #[inline]
    pub(crate) fn peek(&mut self, burst: &mut Burst, allowance: Allowance) -> usize {
        self.ring.take(&mut self.peeked);
        if self.peeked.is_empty() {
            return 0;
        }
        let mut writer = BurstWriter::new(burst);
        for (k, frame) in self.peeked.iter().enumerate().take(allowance.n_frames) {
            if writer.n_bytes() >= allowance.n_bytes {
                break;
            }
            let piece = self.ring.piece(frame);
            piece.prefetch();
            writer.put(k, piece, piece.len());
        }
        for k in 0..writer.finish() {
            if burst.lens[k] < ETHERNET_LEN {
                burst.refuse(k, DropReason::Runt);
                continue;
            }
            burst.read_header(k);
            if self.is_veth {
                note_partial(burst, k);
            }
        }
        burst.n
    }

    /// Gives the frames of the first `n` packets back to the kernel.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        self.ring.give(self.peeked.drain(..n));
    }

    /// Whether packets wait, read anew.
    pub(crate) fn has_more(&mut self) -> bool {
        !self.peeked.is_empty() || self.ring.has_more()
    }
}

/// Notes what a sender on this machine left for somebody else to finish.
fn note_partial(burst: &mut Burst, k: usize) {
    if let Some(offload) = checksum::partial(&burst.headers[k], burst.lens[k] as usize) {
        burst.set_offload(k, offload);
    }
}

/// The sending half.
#[derive(Debug)]
pub struct AfXdpTx {
    ring: XskTx,
    index: u16,
    n_reserved: usize,
    /// Frames that were given room so far.
    n_used: u32,
    /// Some core knows that it has to flush this queue.
    is_listed: bool,
    /// Packets were put into the ring since that was asked before.
    has_put: bool,
}

impl AfXdpTx {
    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ring.ledger(0)
    }

    /// Room for frames of these lengths, behind what is reserved already; gives how many got
    /// theirs, and what became of the next.
    #[inline]
    pub(crate) fn reserve(&mut self, lens: &[u32]) -> (usize, Room) {
        let fitting = lens.iter().position(|&len| len + TAG_LEN > PACKET_MAX);
        let wanted = fitting.unwrap_or(lens.len());
        if self.ring.n_free() < self.n_reserved + wanted {
            self.ring.complete();
        }
        let n = wanted.min(self.ring.n_free() - self.n_reserved);
        self.n_reserved += n;
        self.n_used = self.n_used.wrapping_add(u32::try_from(n).unwrap_or(0));
        let room = match fitting {
            _ if n < wanted => Room::Full,
            Some(_) => Room::TooBig,
            None => Room::Reserved,
        };
        (n, room)
    }

    pub(crate) fn n_used(&self) -> u32 {
        self.n_used
    }

    /// Frames that were put into the ring so far, counted in a number that wraps.
    pub(crate) fn n_put(&self) -> u32 {
        self.n_used
            .wrapping_sub(u32::try_from(self.n_reserved).unwrap_or(0))
    }

    /// Whether as many of them have come back, in whatever order.
    pub(crate) fn has_completed(&mut self, n: u32) -> bool {
        self.ring.complete();
        let n_out = u32::try_from(self.ring.n_out()).unwrap_or(0);
        let n_back = self.n_put().wrapping_sub(n_out);
        n_back.wrapping_sub(n) < 1 << 31
    }

    pub(crate) fn has_room(&mut self) -> bool {
        if self.ring.n_free() <= self.n_reserved {
            self.ring.complete();
        }
        self.ring.n_free() > self.n_reserved
    }

    /// Copies frames to where room was reserved for them, with this tag if one is given, and puts
    /// them into the transmit ring. Gives their bytes.
    #[inline]
    pub(crate) fn commit(&mut self, burst: &Burst, mask: u32, tag: Option<u16>) -> u64 {
        let (mut frames, mut n_bytes, mut rest) = (ArrayVec::new(), 0, mask);
        while rest != 0 {
            let k = rest.trailing_zeros() as usize % BURST_MAX;
            rest &= rest - 1;
            // As many are free as were reserved.
            let Some(frame) = self.ring.frame() else {
                break;
            };
            let place: Piece = self.ring.piece(&frame);
            let len = burst.write_frame(k, place, tag);
            n_bytes += u64::from(len);
            frames.push((frame, len));
        }
        self.n_reserved = 0;
        if !frames.is_empty() {
            self.ring.put(frames);
            self.has_put = true;
        }
        n_bytes
    }

    /// Whether the queue has to be flushed when the turn ends, and nobody knows yet.
    #[inline(always)]
    pub(crate) fn wants_flush(&mut self) -> bool {
        std::mem::take(&mut self.has_put) && !std::mem::replace(&mut self.is_listed, true)
    }

    /// Whoever knew that it has to be flushed won't come.
    pub(crate) fn forget_flush(&mut self) {
        self.is_listed = false;
        self.has_put = self.ring.n_out() > 0;
    }

    /// Takes back the frames that are out, and says what is left. While that is
    /// [`Flushed::Unsent`], whoever was told by [`AfXdpTx::wants_flush`] has to call this again
    /// each turn. While it is [`Flushed::Sent`] that is as well, so that frames come back, but
    /// nobody keeps the queue for it: a core may fall asleep over it, and another one is told of
    /// the next frames.
    #[inline]
    pub(crate) fn look(&mut self) -> Look {
        self.ring.complete();
        let n_unsent = self.ring.n_unsent();
        let state = match self.ring.n_out() {
            0 => Flushed::All,
            _ if n_unsent == 0 => Flushed::Sent,
            _ => Flushed::Unsent,
        };
        self.is_listed &= state == Flushed::Unsent;
        let waker = (n_unsent > 0 && self.ring.wants_wake()).then(|| self.ring.waker());
        Look {
            state,
            n_unsent,
            waker,
        }
    }
}

/// What a look at a sending half shows.
#[derive(Debug)]
pub(crate) struct Look {
    state: Flushed,
    n_unsent: usize,
    /// The kernel has to be woken.
    waker: Option<TxWaker>,
}

impl Look {
    /// There is nothing to flush.
    pub(crate) const NOTHING: Look = Look {
        state: Flushed::All,
        n_unsent: 0,
        waker: None,
    };
}

/// Wakes the kernel if it has to be, as often as that brings anything.
///
/// `look`: takes the queue's lock for a look; `None` while somebody else has it. It is free while
/// the kernel sends, so that nobody has to wait for that.
#[inline]
pub(crate) fn flush(mut look: impl FnMut() -> Option<Look>) -> Flushed {
    let mut before = usize::MAX;
    for _ in 0..=WAKES_MAX {
        match look() {
            None => break,
            Some(Look {
                waker: Some(waker),
                n_unsent,
                ..
            }) if n_unsent < before => {
                before = n_unsent;
                waker.wake();
            }
            Some(Look { state, .. }) => return state,
        }
    }
    Flushed::Unsent
}

#[cfg(test)]
#[path = "afxdp_tests.rs"]
mod tests;
