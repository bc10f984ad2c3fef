//! Pages of a shared mapping that are not there: told by a signal instead of made by whoever
//! touches them (`userfaultfd(2)`), made by whoever asks for that, and put back where something
//! else was put in their place.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

/// From the kernel's `linux/userfaultfd.h`.
const UFFD_USER_MODE_ONLY: i32 = 1;
const UFFD_API: u64 = 0xaa;
const FEATURE_SIGBUS: u64 = 1 << 7;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const MODE_MISSING: u64 = 1;

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// The process's one; none where the kernel, or who runs this process, has no such thing.
fn userfaultfd() -> Option<&'static OwnedFd> {
    static FD: OnceLock<Option<OwnedFd>> = OnceLock::new();
    FD.get_or_init(|| {
        if cfg!(miri) {
            return None;
        }
        // SAFETY: a plain call; its answer is checked, and the new fd is nobody else's.
        let fd = unsafe {
            // What the kernel itself touches need not be told of, and that much every user may ask
            // for.
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY);
            OwnedFd::from_raw_fd(i32::try_from(fd).ok().filter(|&fd| fd >= 0)?)
        };
        let mut api = Api {
            api: UFFD_API,
            features: FEATURE_SIGBUS,
            ioctls: 0,
        };
        // SAFETY: `api` is the structure of this request.
        let done = unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, &raw mut api) };
        (done == 0).then_some(fd)
    })
    .as_ref()
}

/// From now on, touching a page of this shared mapping that its file has not raises SIGBUS, and
/// makes no page. False: the kernel can't.
pub(crate) fn tell_by_signal(base: usize, len: usize) -> bool {
    let Some(fd) = userfaultfd() else {
        return false;
    };
    let mut register = Register {
        start: base as u64,
        len: len as u64,
        mode: MODE_MISSING,
        ioctls: 0,
    };
    // SAFETY: `register` is the structure of this request, which changes no byte of the mapping.
    unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, &raw mut register) == 0 }
}

/// Makes a file have these bytes, zeros where it had none. It doesn't become longer.
///
/// # Errors
/// When there is no memory for them.
pub(crate) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let as_signed = |n| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    // SAFETY: a plain call; it changes what the file holds only where it held nothing.
    match unsafe {
        libc::fallocate(
            file.as_raw_fd(),
            libc::FALLOC_FL_KEEP_SIZE,
            as_signed(offset)?,
            as_signed(len)?,
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Enters pages that the file has into this process's tables, so that who touches them need not.
/// False: some of them the file has not, where that is told by signal; elsewhere they are made.
///
/// # Safety
/// The range is mapped.
pub(crate) unsafe fn enter(base: usize, len: usize) -> bool {
    // SAFETY: the caller's promise; populating changes no byte.
    unsafe { libc::madvise(base as *mut libc::c_void, len, libc::MADV_POPULATE_WRITE) == 0 }
}

/// What the kernel has counted of a thread so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Page faults.
    pub(crate) n_faults: u64,
    /// How often it gave its CPU up to wait for something.
    pub(crate) n_waits: u64,
    /// How often its CPU was taken away.
    pub(crate) n_preempted: u64,
}

/// Of the calling thread; see getrusage(2).
pub(crate) fn usage() -> Usage {
    if cfg!(miri) {
        return Usage::default(); // it has no pages
    }
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    Usage {
        n_faults: (usage.ru_minflt + usage.ru_majflt).cast_unsigned(),
        n_waits: usage.ru_nvcsw.cast_unsigned(),
        n_preempted: usage.ru_nivcsw.cast_unsigned(),
    }
}

/// Maps part of a file at an address.
///
/// # Safety
/// The range is a mapping of the caller's, whole pages of the file, and what is there may go.
///
/// # Errors
/// As the kernel says.
pub(crate) unsafe fn map_over(base: usize, file: &File, offset: u64, len: usize) -> io::Result<()> {
    let offset = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the caller's promise.
    unsafe {
        if libc::mmap(
            base as *mut libc::c_void,
            len,
            protection,
            flags,
            file.as_raw_fd(),
            offset,
        ) == libc::MAP_FAILED
        {
            return Err(io::Error::last_os_error());
        }
        libc::madvise(base as *mut libc::c_void, len, libc::MADV_DONTDUMP);
    }
    Ok(())
}

/// Puts empty pages of this process's own over a mapping, small ones: clearing a large one would
/// take a core too long. Two system calls that a signal handler may make. Whether it was done.
///
/// # Safety
/// The range is a mapping of the caller's, whole pages of its file, and what is there may go.
pub(crate) unsafe fn put_empty_pages(base: usize, len: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    let base = base as *mut libc::c_void;
    // SAFETY: the caller's promise.
    unsafe {
        let put = libc::mmap(base, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if put != libc::MAP_FAILED {
            libc::madvise(base, len, libc::MADV_NOHUGEPAGE);
        }
        put != libc::MAP_FAILED
    }
}
