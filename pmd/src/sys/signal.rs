//! Signalling an eventfd that a front-end holds too, without ever waiting.
//!
//! `write(2)` waits while an eventfd's counter is full, unless `O_NONBLOCK` is set; but that flag
//! belongs to whoever shares the open file, and a front-end that takes it back and fills the
//! counter would have a polling core wait for ever. The kernel itself signals eventfds without
//! waiting: when an asynchronous request (`io_submit(2)`) with `IOCB_FLAG_RESFD` is done. So a
//! request that is done at once, a byte of `/dev/zero`, is the signal: one system call, as before.
//!
//! Each polling thread has a context of its own ([`prepare`]), all others share one. Where the
//! kernel has no such requests (or the limit `fs.aio-max-nr` is used up), a polling core leaves the
//! signal to another thread (`calls`), for which `poll(2)` and `write(2)` stand in: they leave a
//! front-end a window of a microsecond in which to block it.

use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// Requests that may be done before their answers have to be fetched.
const PENDING_MAX: i64 = 256;
/// `IOCB_FLAG_RESFD` of the kernel's `aio_abi.h`: signal `aio_resfd` when done.
const FLAG_RESFD: u32 = 1;
/// `IOCB_CMD_PREAD`.
const PREAD: u16 = 0;

/// What the requests read.
static ZERO: OnceLock<Option<File>> = OnceLock::new();
static SHARED: OnceLock<Option<Context>> = OnceLock::new();
thread_local! {
    static OWN: OnceCell<Option<Context>> = const { OnceCell::new() };
}

/// Makes a context for the calling thread alone. False: the kernel has none left.
pub(super) fn prepare() -> bool {
    OWN.with(|context| context.get_or_init(Context::new).is_some())
}

/// The calling thread gets no context.
#[cfg(test)]
pub(super) fn prepare_without() {
    OWN.with(|context| assert!(context.set(None).is_ok()));
}

/// Adds one to the counter of `fd`, an eventfd, and wakes the threads that wait for it; a full
/// counter stays as it is. False: it isn't done, since there is no context.
pub(super) fn by_kernel(fd: BorrowedFd<'_>) -> bool {
    OWN.with(|own| {
        let context = own
            .get()
            .unwrap_or_else(|| SHARED.get_or_init(Context::new));
        context.as_ref().is_some_and(|context| context.signal(fd))
    })
}

/// A way to the kernel's asynchronous requests. Any thread may use it.
struct Context {
    id: libc::c_ulong,
    zero: &'static File,
}

impl Context {
    fn new() -> Option<Self> {
        if cfg!(miri) {
            return None; // it has no such call
        }
        let zero = ZERO.get_or_init(|| File::open("/dev/zero").ok()).as_ref()?;
        let mut id: libc::c_ulong = 0;
        // SAFETY: `id` is a valid place for the answer, and zero as it must be.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, PENDING_MAX, &raw mut id) };
        (made == 0).then_some(Self { id, zero })
    }

    /// Whether it was done. When no request is left, those that are done are cleared away first.
    fn signal(&self, fd: BorrowedFd<'_>) -> bool {
        self.submit(fd) || {
            self.forget_answers();
            self.submit(fd)
        }
    }

    fn submit(&self, fd: BorrowedFd<'_>) -> bool {
        let mut byte = 0u8;
        // SAFETY: all-zero is a valid request.
        let mut request: libc::iocb = unsafe { std::mem::zeroed() };
        request.aio_lio_opcode = PREAD;
        request.aio_fildes = self.zero.as_raw_fd().cast_unsigned();
        request.aio_buf = &raw mut byte as u64;
        request.aio_nbytes = 1;
        request.aio_flags = FLAG_RESFD;
        request.aio_resfd = fd.as_raw_fd().cast_unsigned();
        let mut requests = [&raw mut request];
        // SAFETY: the context lives as long as `self`; request and byte live until the call is
        // over, and a read of /dev/zero is done by then: the kernel finishes it inside the call.
        unsafe { libc::syscall(libc::SYS_io_submit, self.id, 1, requests.as_mut_ptr()) == 1 }
    }

    #[cold]
    fn forget_answers(&self) {
        // `struct io_event` is four words.
        let mut events = [[0u64; 4]; 64];
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        loop {
            // SAFETY: the context lives as long as `self`, `events` has room for 64, `now` is
            // valid: nothing is waited for.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.id,
                    0,
                    events.len(),
                    events.as_mut_ptr(),
                    &raw const now,
                )
            };
            if n < 64 {
                return;
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nobody uses the context after this.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

/// The same where there is no context; it may wait.
#[cold]
pub(super) fn by_write(fd: BorrowedFd<'_>) {
    let mut ready = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    let one = 1u64;
    // SAFETY: `ready` is one entry; eight bytes of `one` are read.
    unsafe {
        if libc::poll(&raw mut ready, 1, 0) == 1 && ready.revents & libc::POLLOUT != 0 {
            libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8);
        }
    }
}
