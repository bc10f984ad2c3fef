//! How an AF_XDP socket is opened and bound to a device's queue.
#![expect(
    clippy::cast_possible_truncation,
    reason = "bytes of a frame, of which there are a few thousand"
)]

use std::error::Error;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use xsk_rs::config::{BindFlags, FrameSize, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::frame::FRAME_BYTES;
use super::halves::{XskRx, XskTx};
use super::rings::{KernelRx, KernelTx, RxRings, TxRings};
use crate::error::SetupError;
use crate::ring::BURST_MAX;
use crate::shm::umem::UmemArea;
use crate::sys::xdp;

/// Frames that one wake-up sends by copy, where the kernel can be told.
const TX_BUDGET: u32 = 256;
/// How long a queue is waited for that was in use until now: the kernel takes some tens of
/// milliseconds.
const BUSY_MAX: Duration = Duration::from_secs(1);
const BUSY_LOOK_AGAIN: Duration = Duration::from_millis(10);

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

/// Binds to the queue; waits a while for one that was in use until now.
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
