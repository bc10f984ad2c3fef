//! The four rings of an AF_XDP socket. They are those of libxdp by way of the crate `xsk-rs`, which
//! is known in this file alone; in tests the kernel's half is played by [`super::peer`].
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of frames, and places in a UMEM of some MiB"
)]

use super::halves::{FRAME_BYTES, TxFrame, XskRx, XskTx};
use super::peer::PeerRings;
use crate::error::SetupError;
use crate::lock::lock;
use crate::ring::BURST_MAX;
use crate::shm::umem::UmemArea;
use crate::sys::xdp;
use arrayvec::ArrayVec;
use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Frames that one wake-up sends by copy, where the kernel can be told.
const TX_BUDGET: u32 = 256;
/// How long a queue is waited for that somebody has just let go of: the kernel takes some tens of
/// milliseconds.
const BUSY_MAX: Duration = Duration::from_secs(1);
const BUSY_LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Receive ring and fill ring.
#[derive(Debug)]
pub(super) enum RxRings {
    Kernel(Box<KernelRx>),
    Peer(Arc<Mutex<PeerRings>>),
}

/// Transmit ring and completion ring.
#[derive(Debug)]
pub(super) enum TxRings {
    Kernel(Box<KernelTx>),
    Peer(Arc<Mutex<PeerRings>>),
}

#[derive(Debug)]
pub(super) struct KernelRx {
    rx: RxQueue,
    fill: FillQueue,
    /// A descriptor of every frame, since they can't be made, only copied.
    descs: Box<[FrameDesc]>,
    scratch: [FrameDesc; BURST_MAX],
    fd: RawFd,
}

#[derive(Debug)]
pub(super) struct KernelTx {
    tx: TxQueue,
    completion: CompQueue,
    umem: Umem,
    descs: Box<[FrameDesc]>,
    scratch: [FrameDesc; BURST_MAX],
    fd: RawFd,
    size: u32,
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
                // SAFETY: frames of this UMEM, which nobody else owns: they come from the free
                // list.
                unsafe { kernel.fill.produce(&kernel.scratch[..n]) }
            }
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
            RxRings::Peer(rings) => lock(rings).has_received(),
        }
    }

    /// The socket; `None` in memory.
    pub(super) fn fd(&self) -> Option<RawFd> {
        if let RxRings::Kernel(kernel) = self {
            Some(kernel.fd)
        } else {
            None
        }
    }
}

/// Wakes the kernel to send. It works by copy for a microsecond a packet in that call, so whoever
/// has the ring behind a lock lets go of that first. Not to be kept longer than the ring.
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
            TxRings::Peer(rings) => lock(rings).take_completed(done),
        }
    }

    /// Packets in the transmit ring that the kernel has not taken yet.
    #[inline]
    pub(super) fn n_unsent(&mut self) -> usize {
        match self {
            TxRings::Kernel(kernel) => (kernel.size - kernel.tx.nb_free_exact()) as usize,
            TxRings::Peer(rings) => lock(rings).n_unsent(),
        }
    }

    /// Whether the kernel has to be woken to see the transmit ring.
    #[inline]
    pub(super) fn wants_wake(&self) -> bool {
        match self {
            TxRings::Kernel(kernel) => kernel.tx.needs_wakeup(),
            TxRings::Peer(_) => true,
        }
    }

    /// What wakes it.
    #[inline]
    pub(super) fn waker(&self) -> TxWaker {
        match self {
            TxRings::Kernel(kernel) => TxWaker::Kernel(kernel.fd),
            TxRings::Peer(rings) => TxWaker::Peer(rings.clone()),
        }
    }
}

/// What a socket is opened for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketSpec<'a> {
    pub(crate) device: &'a str,
    pub(crate) queue: u32,
    pub(crate) zero_copy: bool,
    /// Frames for what is received, a power of two.
    pub(crate) n_rx: u32,
    /// Frames for what is sent, a power of two.
    pub(crate) n_tx: u32,
}

/// A socket bound to a device's queue, its UMEM and its file descriptor, which both halves keep
/// open.
///
/// # Errors
/// With the system's reason, and what can be done about it.
pub(crate) fn open(spec: SocketSpec<'_>) -> Result<(XskRx, XskTx, RawFd), SetupError> {
    let SocketSpec {
        device,
        queue,
        n_rx,
        n_tx,
        ..
    } = spec;
    let (sizes, n_frames) = sizes(n_rx, n_tx)?;
    let wrong = || {
        SetupError::new(format!(
            "{n_frames} frames for a queue, which are not possible"
        ))
    };
    let frame_size = FrameSize::new(FRAME_BYTES as u32).map_err(|_| wrong())?;
    let umem_config = UmemConfig::builder()
        .frame_size(frame_size)
        .fill_queue_size(sizes.rx)
        .comp_queue_size(sizes.tx)
        .build();
    let (umem, descs) =
        Umem::new(umem_config.map_err(|_| wrong())?, n_frames, false).map_err(|error| {
            refused(
                &format!("cannot make the frame memory of {device} queue {queue}"),
                &error,
            )
        })?;
    let (tx, rx, fill, completion) = bind(&umem, spec, sizes)?;
    let fd = rx.fd().as_raw_fd();
    xdp::set_tx_budget(fd, TX_BUDGET);

    let descs = descs.into_boxed_slice();
    // SAFETY: a look at where the first frame's data begins; nothing is kept but the address.
    let first = unsafe { umem.data(&descs[0]) }
        .contents()
        .as_ptr()
        .cast_mut();
    let base = first.wrapping_sub(descs[0].addr());
    // SAFETY: the UMEM is one mapping of as many frames, kept by the value that becomes the owner;
    // apart from the look above and those in `put`, no references to its frames are made.
    let area = unsafe {
        UmemArea::new(
            base,
            n_frames.get() as usize * FRAME_BYTES,
            Arc::new(Mutex::new(umem.clone())),
        )
    };
    let scratch = [FrameDesc::default(); BURST_MAX];
    let rx = KernelRx {
        rx,
        fill,
        descs: descs.clone(),
        scratch,
        fd,
    };
    let tx = KernelTx {
        tx,
        completion,
        umem,
        descs,
        scratch,
        fd,
        size: n_tx,
    };
    let (n_rx, n_tx) = (n_rx as usize, n_tx as usize);
    Ok((
        XskRx::new(RxRings::Kernel(Box::new(rx)), area.clone(), n_rx),
        XskTx::new(TxRings::Kernel(Box::new(tx)), area, n_rx, n_tx),
        fd,
    ))
}

/// Places of a queue's rings: those of receive and fill ring, those of transmit and completion
/// ring.
#[derive(Clone, Copy)]
struct Sizes {
    rx: QueueSize,
    tx: QueueSize,
}

/// With the number of all frames.
fn sizes(n_rx: u32, n_tx: u32) -> Result<(Sizes, NonZeroU32), SetupError> {
    let size = |n: u32| {
        let size = if n < 64 { None } else { QueueSize::new(n).ok() };
        size.ok_or_else(|| {
            SetupError::new(format!(
                "{n} frames for a ring: it must be a power of two, 64 or more"
            ))
        })
    };
    let sizes = Sizes {
        rx: size(n_rx)?,
        tx: size(n_tx)?,
    };
    let n_frames = n_rx.checked_add(n_tx).and_then(NonZeroU32::new);
    Ok((
        sizes,
        n_frames.ok_or_else(|| {
            SetupError::new(format!("{n_rx} and {n_tx} frames are too many for a queue"))
        })?,
    ))
}

type Queues = (TxQueue, RxQueue, FillQueue, CompQueue);

/// Binds to the queue; waits a while for one that somebody has just let go of.
fn bind(umem: &Umem, spec: SocketSpec<'_>, sizes: Sizes) -> Result<Queues, SetupError> {
    let SocketSpec {
        device,
        queue,
        zero_copy,
        ..
    } = spec;
    let mode = if zero_copy {
        BindFlags::XDP_ZEROCOPY
    } else {
        BindFlags::XDP_COPY
    };
    let config = SocketConfig::builder()
        .rx_queue_size(sizes.rx)
        .tx_queue_size(sizes.tx)
        .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
        .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
        .build();
    let what = || {
        let how = if zero_copy {
            "without a copy"
        } else {
            "by copy"
        };
        format!("cannot open {device} queue {queue} {how}")
    };
    let interface = device
        .parse()
        .map_err(|_| SetupError::new(format!("{}: no such device", what())))?;
    let begin = Instant::now();
    loop {
        // SAFETY: the fill ring gets frames of this UMEM only (see `XskRx`), no socket shares it,
        // and its rings go to one receiving and one sending half.
        match unsafe { Socket::new(config, umem, &interface, queue) } {
            Ok((tx, rx, Some((fill, completion)))) => return Ok((tx, rx, fill, completion)),
            Ok((_, _, None)) => {
                return Err(SetupError::new(format!(
                    "{}: libxdp gave no fill ring",
                    what()
                )));
            }
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
        Some(libc::EPERM) => {
            " (weir needs CAP_NET_RAW and CAP_NET_ADMIN: run it as root or give it both)"
        }
        Some(libc::ENOBUFS) => {
            " (the memory that this user may lock is used up: give weir CAP_IPC_LOCK, or raise it \
            by ulimit -l or LimitMEMLOCK=)"
        }
        Some(libc::EBUSY) => " (another process has an AF_XDP socket on this queue)",
        Some(libc::ENODEV) => " (there is no such device in this network namespace)",
        Some(libc::EINVAL) => {
            " (the device has no such queue, or its driver no room for so many frames)"
        }
        Some(libc::EOPNOTSUPP) => " (its driver can't do that: mode: copy works with any)",
        Some(libc::ENETDOWN) => " (the device is down: ip link set dev DEVICE up)",
        Some(libc::EAFNOSUPPORT) => " (this kernel was built without AF_XDP: CONFIG_XDP_SOCKETS)",
        _ => "",
    };
    let reason = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    SetupError::new(format!("{tried}: {reason}{advice}"))
}
