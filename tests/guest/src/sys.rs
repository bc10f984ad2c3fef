//! System calls and the cycle counter, thinly: what the standard library lacks.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static STOP: AtomicBool = AtomicBool::new(false);

/// The cycle counter.
#[inline]
pub fn cycles() -> u64 {
    // SAFETY: every x86-64 has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Cycles a second, measured once, for 20 ms.
pub fn cycles_per_second() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    *HZ.get_or_init(|| {
        let wall = Instant::now();
        let (from_ns, from) = at_once(wall);
        while wall.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (ns, now) = at_once(wall);
        u64::try_from(u128::from(now - from) * 1_000_000_000 / (ns - from_ns).max(1))
            .unwrap_or(u64::MAX)
    })
}

/// Nanoseconds since `wall`, and the counter at that moment: the tightest of many readings, since
/// the CPU may be taken away in the middle of one.
fn at_once(wall: Instant) -> (u128, u64) {
    let once = |_| {
        let (before, ns, after) = (cycles(), wall.elapsed().as_nanos(), cycles());
        (after - before, ns, before + (after - before) / 2)
    };
    let (_, ns, at) = (0..64)
        .map(once)
        .min_by_key(|&(width, ..)| width)
        .unwrap_or_default();
    (ns, at)
}

/// Binds the calling thread to a CPU.
///
/// # Errors
/// If the CPU doesn't exist or isn't allowed.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: a `cpu_set_t` is plain bits, zero is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `cpu` is within the set (just checked); the kernel reads the set only.
    let failed = unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if failed != 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes `O_NONBLOCK` from an open file, for all who share it.
///
/// # Errors
/// If the kernel refuses.
pub fn make_blocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: flags of a file; memory isn't touched.
    let done = unsafe {
        libc::fcntl(
            fd,
            libc::F_SETFL,
            libc::fcntl(fd, libc::F_GETFL) & !libc::O_NONBLOCK,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Makes SIGTERM and SIGINT set the flag that [`stopped`] reads.
pub fn stop_on_signals() {
    extern "C" fn stop(_: libc::c_int) {
        STOP.store(true, Ordering::Relaxed);
    }
    let handler = stop as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the handler stores to one atomic, which is allowed at any moment.
        unsafe { libc::signal(signal, handler) };
    }
}

/// Asks to stop, as a signal does.
pub fn stop() {
    STOP.store(true, Ordering::Relaxed);
}

/// Whether a signal asked to stop.
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Waits until one of the fds is readable or hung up; which ones are.
///
/// # Errors
/// What `poll` says; an interrupted wait is no error, nothing is readable then.
pub fn wait_readable(fds: &[RawFd], timeout: Duration) -> io::Result<Vec<bool>> {
    let events = libc::POLLIN | libc::POLLRDHUP;
    let mut polled: Vec<_> = fds
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events,
            revents: 0,
        })
        .collect();
    let ms = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and the count are the vector's own.
    let n = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, ms) };
    if n < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted {
            Ok(vec![false; fds.len()])
        } else {
            Err(error)
        };
    }
    Ok(polled.iter().map(|p| p.revents != 0).collect())
}

/// Whether the other end of a socket is gone.
pub fn is_hung_up(socket: &impl AsRawFd) -> bool {
    let events = libc::POLLRDHUP;
    let mut polled = libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one entry, on this stack.
    let n = unsafe { libc::poll(&raw mut polled, 1, 0) };
    n > 0
        && polled.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

/// Sends bytes and fds in one message; returns the bytes taken.
///
/// # Errors
/// What `sendmsg` says. Never raises SIGPIPE.
pub fn send_with_fds(socket: &impl AsRawFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let fd_bytes = u32::try_from(size_of_val(fds)).map_err(io::Error::other)?;
    // SAFETY: CMSG_SPACE only computes.
    let space = unsafe { libc::CMSG_SPACE(fd_bytes) } as usize;
    // `u64`s, so that the control message header is aligned.
    let mut control = vec![0u64; space.div_ceil(8)];
    // SAFETY: a `msghdr` of zeros is valid: no name, no control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut iov, 1);
    if !fds.is_empty() {
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), space);
        // SAFETY: `control` has CMSG_SPACE of the fds' bytes, so header and fds fit.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            (*header).cmsg_len = libc::CMSG_LEN(fd_bytes) as usize;
            std::ptr::copy_nonoverlapping(
                fds.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                fd_bytes as usize,
            );
        }
    }
    // SAFETY: all pointers in `message` are to live locals or to `bytes`; the kernel only reads
    // them.
    let n = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
