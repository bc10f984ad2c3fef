//! The four rings of an AF_XDP socket, and who owns the frames of its UMEM.
//!
//! Half of the frames are for receiving, half for sending, so that a queue's two halves share nothing: the receiving one
//! belongs to a core, the sending one stands behind a lock. A frame is owned by exactly one of: the kernel (it stands in one
//! of the rings), a burst ([`RxFrame`], [`TxFrame`]: values that can't be copied), or the free list. [`Ledger`] counts them.
//!
//! The rings are those of libxdp by way of the crate `xsk-rs`, which is known in this file alone; in tests the kernel's half
//! is played by [`super::xsk_peer`].
#![expect(clippy::cast_possible_truncation, reason = "numbers of frames, and places in a UMEM of some MiB")]

use super::xsk_peer::PeerRings;
use crate::burst::BURST_MAX;
use crate::error::SetupError;
use crate::shm::Piece;
use crate::shm::umem::UmemArea;
use crate::sys::xdp;
use arrayvec::ArrayVec;
use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Bytes of a frame of UMEM.
pub(crate) const FRAME_BYTES: usize = 4096;
/// Bytes in front of the packet, which the kernel wants for itself (`XDP_PACKET_HEADROOM`).
pub(crate) const HEADROOM: usize = 256;
/// The longest packet that fits.
pub(crate) const PACKET_MAX: u32 = (FRAME_BYTES - HEADROOM) as u32;
/// Frames that one wake-up sends by copy, where the kernel can be told.
const TX_BUDGET: u32 = 256;
/// How long a queue is waited for that somebody has just let go of: the kernel takes some tens of milliseconds.
const BUSY_MAX: Duration = Duration::from_secs(1);
const BUSY_LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where the frames of one half of a queue are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames that there are.
    pub n_frames: usize,
    /// With the kernel, in one of the rings.
    pub n_kernel: usize,
    /// In a burst, on their way.
    pub n_burst: usize,
    /// With nobody.
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

/// A received packet, from the receive ring until it is given back. Whoever has it owns its frame.
#[derive(Debug)]
pub(crate) struct RxFrame {
    number: u32,
    at: usize,
    len: u32,
}

/// A frame to be sent, from the free list until it is put into the transmit ring. Whoever has it owns it.
#[derive(Debug)]
#[must_use = "a frame that is dropped is lost"]
pub(crate) struct TxFrame {
    number: u32,
}

#[derive(Debug)]
enum RxRings {
    Kernel(Box<KernelRx>),
    Peer(Arc<Mutex<PeerRings>>),
}

#[derive(Debug)]
enum TxRings {
    Kernel(Box<KernelTx>),
    Peer(Arc<Mutex<PeerRings>>),
}

#[derive(Debug)]
struct KernelRx {
    rx: RxQueue,
    fill: FillQueue,
    /// A descriptor of every frame, since they can't be made, only copied.
    descs: Box<[FrameDesc]>,
    scratch: [FrameDesc; BURST_MAX],
    fd: RawFd,
}

#[derive(Debug)]
struct KernelTx {
    tx: TxQueue,
    completion: CompQueue,
    umem: Umem,
    descs: Box<[FrameDesc]>,
    scratch: [FrameDesc; BURST_MAX],
    fd: RawFd,
    size: u32,
}

fn lock(rings: &Mutex<PeerRings>) -> MutexGuard<'_, PeerRings> {
    rings.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn new(rings: RxRings, area: UmemArea, n_frames: usize) -> Self {
        let free = (0..n_frames as u32).rev().collect();
        let mut half = Self { rings, area, is_out: vec![false; n_frames].into(), n_out: 0, free, n_strays: 0 };
        half.refill();
        half
    }

    pub(crate) fn of_peer(rings: Arc<Mutex<PeerRings>>, area: UmemArea, n_frames: usize) -> Self {
        Self::new(RxRings::Peer(rings), area, n_frames)
    }

    /// Takes packets off the receive ring, oldest first, until there are [`BURST_MAX`] in `to`.
    #[inline]
    pub(crate) fn take(&mut self, to: &mut ArrayVec<RxFrame, BURST_MAX>) {
        let mut packets = ArrayVec::new();
        self.rings.take(to.remaining_capacity(), &mut packets);
        for (at, len) in packets {
            let number = at / FRAME_BYTES;
            // The kernel's word, yet nothing is gained by trusting it: twice the same frame would be two owners.
            match self.is_out.get_mut(number) {
                Some(is_out) if *is_out && self.area.piece(at, len).is_some() => {
                    *is_out = false;
                    self.n_out -= 1;
                    to.push(RxFrame { number: number as u32, at, len });
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
        if let RxRings::Kernel(kernel) = &self.rings { Some(kernel.fd) } else { None }
    }

    /// The same, for who borrows it from here.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the rings keep the socket open, and they are borrowed.
        self.fd().map(|fd| unsafe { BorrowedFd::borrow_raw(fd) })
    }

    /// `n_burst`: frames that the caller owns.
    pub(crate) fn ledger(&self, n_burst: usize) -> Ledger {
        let (n_frames, n_free) = (self.is_out.len(), self.free.len());
        Ledger { n_frames, n_kernel: self.n_out, n_burst, n_free, n_strays: self.n_strays }
    }
}

impl RxRings {
    /// Address and length of the next packets, `n` at most.
    #[inline]
    fn take(&mut self, n: usize, to: &mut ArrayVec<(usize, u32), BURST_MAX>) {
        match self {
            RxRings::Kernel(kernel) => {
                let scratch = &mut kernel.scratch[..n];
                // SAFETY: the descriptors are overwritten; frames that they stood for are not touched through them.
                let n = unsafe { kernel.rx.consume(scratch) };
                to.extend(scratch[..n].iter().map(|desc| (desc.addr(), desc.lengths().data() as u32)));
            }
            RxRings::Peer(rings) => lock(rings).take_received(n, to),
        }
    }

    /// Offers frames to the kernel, a burst at most; gives how many of the first of them it took.
    #[inline]
    fn fill(&mut self, numbers: &[u32]) -> usize {
        match self {
            RxRings::Kernel(kernel) => {
                for (desc, &number) in kernel.scratch.iter_mut().zip(numbers) {
                    *desc = kernel.descs[number as usize];
                }
                let n = numbers.len().min(BURST_MAX).min(kernel.fill.nb_free(BURST_MAX as u32) as usize);
                // SAFETY: frames of this UMEM, which nobody else owns: they come from the free list.
                unsafe { kernel.fill.produce(&kernel.scratch[..n]) }
            }
            RxRings::Peer(rings) => lock(rings).fill(numbers),
        }
    }

    #[inline]
    fn wake_if_wanted(&self) {
        match self {
            RxRings::Kernel(kernel) if kernel.fill.needs_wakeup() => xdp::wake_rx(kernel.fd),
            _ => {}
        }
    }

    fn has_more(&mut self) -> bool {
        match self {
            RxRings::Kernel(kernel) => kernel.rx.nb_avail_exact() > 0,
            RxRings::Peer(rings) => lock(rings).has_received(),
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
    fn new(rings: TxRings, area: UmemArea, first: usize, n_frames: usize) -> Self {
        let first = first as u32;
        let free = (first..first + n_frames as u32).rev().collect();
        Self { rings, area, first, is_out: vec![false; n_frames].into(), n_out: 0, free, n_strays: 0 }
    }

    pub(crate) fn of_peer(rings: Arc<Mutex<PeerRings>>, area: UmemArea, first: usize, n_frames: usize) -> Self {
        Self::new(TxRings::Peer(rings), area, first, n_frames)
    }

    /// Frames that are free now.
    #[inline(always)]
    pub(crate) fn n_free(&self) -> usize {
        self.free.len()
    }

    /// A frame of the free list.
    #[inline(always)]
    pub(crate) fn frame(&mut self) -> Option<TxFrame> {
        Some(TxFrame { number: self.free.pop()? })
    }

    /// Where its packet goes.
    #[inline(always)]
    pub(crate) fn piece(&self, frame: &TxFrame) -> Piece {
        let at = frame.number as usize * FRAME_BYTES + HEADROOM;
        self.area.piece(at, PACKET_MAX).unwrap_or(Piece::EMPTY)
    }

    /// Puts packets into the transmit ring, a burst at most, and shows them; they are not on their way before a wake-up. Each
    /// comes with its length. There is room: the ring has a place for every frame of this half.
    #[inline]
    pub(crate) fn put(&mut self, frames: ArrayVec<(TxFrame, u32), BURST_MAX>) {
        let n = self.rings.put(&frames);
        debug_assert_eq!(n, frames.len(), "the transmit ring has no place for a frame of its own");
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
                match self.is_out.get_mut(number.wrapping_sub(self.first) as usize) {
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
        match &mut self.rings {
            TxRings::Kernel(kernel) => (kernel.size - kernel.tx.nb_free_exact()) as usize,
            TxRings::Peer(rings) => lock(rings).n_unsent(),
        }
    }

    /// Whether the kernel has to be woken to see the transmit ring.
    #[inline]
    pub(crate) fn wants_wake(&self) -> bool {
        match &self.rings {
            TxRings::Kernel(kernel) => kernel.tx.needs_wakeup(),
            TxRings::Peer(_) => true,
        }
    }

    /// What wakes it.
    #[inline]
    pub(crate) fn waker(&self) -> TxWaker {
        match &self.rings {
            TxRings::Kernel(kernel) => TxWaker::Kernel(kernel.fd),
            TxRings::Peer(rings) => TxWaker::Peer(rings.clone()),
        }
    }

    /// `n_burst`: frames that the caller owns.
    pub(crate) fn ledger(&self, n_burst: usize) -> Ledger {
        let (n_frames, n_free) = (self.is_out.len(), self.free.len());
        Ledger { n_frames, n_kernel: self.n_out, n_burst, n_free, n_strays: self.n_strays }
    }
}

/// Wakes the kernel to send. It works by copy for a microsecond a packet in that call, so whoever has the ring behind a lock
/// lets go of that first. Not to be kept longer than the ring.
#[derive(Debug)]
pub(crate) enum TxWaker {
    Kernel(RawFd),
    Peer(Arc<Mutex<PeerRings>>),
}

impl TxWaker {
    /// Wakes it. It may leave some of the ring for another time.
    #[inline]
    pub(crate) fn wake(self) {
        match self {
            TxWaker::Kernel(fd) => xdp::wake_tx(fd),
            TxWaker::Peer(rings) => lock(&rings).wake(),
        }
    }
}

impl TxRings {
    #[inline]
    fn put(&mut self, frames: &[(TxFrame, u32)]) -> usize {
        match self {
            TxRings::Kernel(kernel) => {
                for (desc, (frame, len)) in kernel.scratch.iter_mut().zip(frames) {
                    *desc = kernel.descs[frame.number as usize];
                    // SAFETY: the frame is ours until it is shown, and nothing is kept of this look at it.
                    unsafe { kernel.umem.data_mut(desc) }.cursor().set_pos(*len as usize);
                }
                let n = frames.len().min(BURST_MAX);
                // SAFETY: frames of this UMEM, which their callers gave up by value.
                unsafe { kernel.tx.produce(&kernel.scratch[..n]) }
            }
            TxRings::Peer(rings) => lock(rings).put(frames.iter().map(|(frame, len)| (frame.number, *len))),
        }
    }

    /// Numbers of frames that are out, as many as fit.
    #[inline]
    fn complete(&mut self, done: &mut ArrayVec<u32, BURST_MAX>) {
        match self {
            TxRings::Kernel(kernel) => {
                // SAFETY: the descriptors are overwritten; frames that they stood for are not touched through them.
                let n = unsafe { kernel.completion.consume(&mut kernel.scratch) };
                done.extend(kernel.scratch[..n].iter().map(|desc| (desc.addr() / FRAME_BYTES) as u32));
            }
            TxRings::Peer(rings) => lock(rings).take_completed(done),
        }
    }
}

/// What a socket is opened for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketSpec<'a> {
    pub(crate) device: &'a str,
    pub(crate) queue: u32,
    pub(crate) zero_copy: bool,
    /// For both directions together, a power of two.
    pub(crate) n_frames: u32,
}

/// A socket bound to a device's queue, its UMEM and its file descriptor, which both halves keep open.
///
/// # Errors
/// With the system's reason, and what can be done about it.
pub(crate) fn open(spec: SocketSpec<'_>) -> Result<(XskRx, XskTx, RawFd), SetupError> {
    let SocketSpec { device, queue, n_frames, .. } = spec;
    let per_half = n_frames / 2;
    let wrong = || SetupError::new(format!("{n_frames} frames for a queue: it must be a power of two, 128 or more"));
    if !n_frames.is_power_of_two() || per_half < 64 {
        return Err(wrong());
    }
    let size = QueueSize::new(per_half).map_err(|_| wrong())?;
    let frame_size = FrameSize::new(FRAME_BYTES as u32).map_err(|_| wrong())?;
    let umem_config = UmemConfig::builder().frame_size(frame_size).fill_queue_size(size).comp_queue_size(size).build();
    let n_all = NonZeroU32::new(n_frames).ok_or_else(wrong)?;
    let (umem, descs) = Umem::new(umem_config.map_err(|_| wrong())?, n_all, false)
        .map_err(|error| refused(&format!("cannot make the frame memory of {device} queue {queue}"), &error))?;
    let (tx, rx, fill, completion) = bind(&umem, spec, size)?;
    let fd = rx.fd().as_raw_fd();
    xdp::set_tx_budget(fd, TX_BUDGET);

    let descs = descs.into_boxed_slice();
    // SAFETY: a look at where the first frame's data begins; nothing is kept but the address.
    let first = unsafe { umem.data(&descs[0]) }.contents().as_ptr().cast_mut();
    let base = first.wrapping_sub(descs[0].addr());
    // SAFETY: the UMEM is one mapping of as many frames, kept by the value that becomes the owner; apart from the look above
    // and those in `put`, no references to its frames are made.
    let area = unsafe { UmemArea::new(base, n_frames as usize * FRAME_BYTES, Arc::new(Mutex::new(umem.clone()))) };
    let scratch = [FrameDesc::default(); BURST_MAX];
    let rx = KernelRx { rx, fill, descs: descs.clone(), scratch, fd };
    let tx = KernelTx { tx, completion, umem, descs, scratch, fd, size: per_half };
    let per_half = per_half as usize;
    Ok((
        XskRx::new(RxRings::Kernel(Box::new(rx)), area.clone(), per_half),
        XskTx::new(TxRings::Kernel(Box::new(tx)), area, per_half, per_half),
        fd,
    ))
}

type Queues = (TxQueue, RxQueue, FillQueue, CompQueue);

/// Binds to the queue; waits a while for one that somebody has just let go of.
fn bind(umem: &Umem, spec: SocketSpec<'_>, size: QueueSize) -> Result<Queues, SetupError> {
    let SocketSpec { device, queue, zero_copy, .. } = spec;
    let mode = if zero_copy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
    let config = SocketConfig::builder()
        .rx_queue_size(size)
        .tx_queue_size(size)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let what = || {
        let how = if zero_copy { "without a copy" } else { "by copy" };
        format!("cannot open {device} queue {queue} {how}")
    };
    let interface = device.parse().map_err(|_| SetupError::new(format!("{}: no such device", what())))?;
    let begin = Instant::now();
    loop {
        // SAFETY: the fill ring gets frames of this UMEM only (see `XskRx`), no socket shares it, and its rings go to one
        // receiving and one sending half.
        match unsafe { Socket::new(config, umem, &interface, queue) } {
            Ok((tx, rx, Some((fill, completion)))) => return Ok((tx, rx, fill, completion)),
            Ok((_, _, None)) => return Err(SetupError::new(format!("{}: libxdp gave no fill ring", what()))),
            Err(error) if code(&error) == Some(libc::EBUSY) && begin.elapsed() < BUSY_MAX => {
                std::thread::sleep(BUSY_LOOK_AGAIN);
            }
            Err(error) => return Err(refused(&what(), &error)),
        }
    }
}

fn code(error: &(dyn Error + 'static)) -> Option<i32> {
    error.source()?.downcast_ref::<io::Error>()?.raw_os_error()
}

/// The system's reason, and what can be done about it.
fn refused(tried: &str, error: &(dyn Error + 'static)) -> SetupError {
    let advice = match code(error) {
        Some(libc::EPERM) => " (weir needs CAP_NET_RAW and CAP_NET_ADMIN: run it as root or give it both)",
        Some(libc::ENOBUFS) => {
            " (the memory that this user may lock is used up: give weir CAP_IPC_LOCK, or raise it by ulimit -l or LimitMEMLOCK=)"
        }
        Some(libc::EBUSY) => " (another process has an AF_XDP socket on this queue)",
        Some(libc::ENODEV) => " (there is no such device in this network namespace)",
        Some(libc::EINVAL) => " (the device has no such queue, or its driver no room for so many frames)",
        Some(libc::EOPNOTSUPP) => " (its driver can't do that: mode: copy works with any)",
        Some(libc::ENETDOWN) => " (the device is down: ip link set dev DEVICE up)",
        Some(libc::EAFNOSUPPORT) => " (this kernel was built without AF_XDP: CONFIG_XDP_SOCKETS)",
        _ => "",
    };
    let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    SetupError::new(format!("{tried}: {reason}{advice}"))
}
