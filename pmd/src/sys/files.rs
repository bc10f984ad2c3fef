//! Files, events, mappings and clocks.

use super::signal;
use crate::error::SetupError;
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// The time-stamp counter. Cycles of a constant rate, the same on all CPUs of a machine with
/// `constant_tsc`.
#[inline(always)]
pub fn cycles() -> u64 {
    #[cfg(miri)]
    return 0;
    #[cfg(not(miri))]
    // SAFETY: the instruction exists on every x86-64 CPU and has no effect but its result.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// CPU time of the calling thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Whether the CPU has the instructions that this program was compiled for (x86-64-v3).
pub fn cpu_is_new_enough() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("fma")
}

/// Raises the number of files the process may open to what it is allowed; gives the number in
/// force.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer, and then a valid request.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0
            && limit.rlim_cur < limit.rlim_max
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        }
    }
    limit.rlim_cur
}

/// An eventfd: a guest's kick or call, which a front-end made, or one of our own.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
    /// A front-end has it too, and may fill it up and make it block.
    is_shared: bool,
}

impl EventFd {
    /// Takes a file that a front-end sent.
    ///
    /// # Errors
    /// When it is not an eventfd: a pipe or a socket in its place could block the core, a regular
    /// file would fill up.
    pub fn from_file(file: File) -> Result<Self, SetupError> {
        let fd = OwnedFd::from(file);
        if !is_eventfd(fd.as_fd()) {
            return Err(SetupError::new(
                "the front-end sent a file as kick or call that is not an eventfd",
            ));
        }
        Ok(Self {
            fd,
            is_shared: true,
        })
    }

    /// A new one, for our own wake-ups.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn new() -> Result<Self, SetupError> {
        // SAFETY: a plain call; its answer is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(SetupError::new(format!(
                "cannot make an eventfd: {}",
                io::Error::last_os_error()
            )));
        }
        // SAFETY: `fd` is open and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            fd,
            is_shared: false,
        })
    }

    /// Wakes whoever waits for it. A full counter means that it is signalled already. It never
    /// waits for one of our own; for another's it might, where the kernel has no more asynchronous
    /// requests.
    #[inline]
    pub fn signal(&self) {
        if !self.try_signal() {
            signal::by_write(self.fd.as_fd());
        }
    }

    /// The same without ever waiting. False: it isn't done, since that can't be promised.
    #[inline]
    pub(crate) fn try_signal(&self) -> bool {
        if self.is_shared {
            return signal::by_kernel(self.fd.as_fd());
        }
        let one = 1u64;
        // SAFETY: eight bytes of `one` are read; the fd does not block.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
        true
    }

    /// Takes back what was signalled so far. Only for one of our own: another's could block.
    pub fn clear(&self) {
        debug_assert!(!self.is_shared);
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`; the fd does not block.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

/// Makes what signalling shared eventfds needs on this thread: one file, and memory of the
/// kernel's. False: the kernel has none left (its limit `fs.aio-max-nr` is used up), and other
/// threads will signal for this one.
pub fn prepare_signals() -> bool {
    signal::prepare()
}

/// Whether a file lives in memory alone: tmpfs, a memfd, hugetlbfs. Nothing but the kernel's memory
/// is asked, where `fstat(2)` would ask the file system, which may be a front-end's own (FUSE) and
/// never answer.
pub fn is_in_memory(file: BorrowedFd<'_>) -> bool {
    // SAFETY: the fd is open; the answer is a number. Other files have no seals, which is an error.
    cfg!(miri) || unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) } >= 0
}

/// Whether a file is an eventfd. Nothing but the kernel's memory is asked.
pub fn is_eventfd(file: BorrowedFd<'_>) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|path| path.as_os_str() == "anon_inode:[eventfd]")
}

/// Lets nobody send files over a Unix socket, or over the connections that a listening one takes;
/// who tries is told so (`EPERM`). False: the kernel is older than 6.16, and knows no such option
/// (`SO_PASSRIGHTS`).
pub fn refuse_files(socket: BorrowedFd<'_>) -> bool {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let no: libc::c_int = 0;
    let len = libc::socklen_t::try_from(size_of_val(&no)).unwrap_or(0);
    // SAFETY: the fd is open; `no` has `len` bytes, which are only read.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const no).cast(),
            len,
        )
    };
    done == 0
}

/// The process at the other end of a Unix socket when it was connected. None: it can't be told, or
/// has no number in our namespace.
pub fn peer_process(socket: BorrowedFd<'_>) -> Option<i32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    let place = (&raw mut peer).cast();
    // SAFETY: `peer` is a place for `len` bytes; an answer of any numbers is valid.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            place,
            &raw mut len,
        )
    };
    (done == 0 && peer.pid > 0).then_some(peer.pid)
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a core sleeps in.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty one.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn new() -> Result<Self, SetupError> {
        // SAFETY: a plain call; its answer is checked.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(SetupError::new(format!(
                "cannot make an epoll: {}",
                io::Error::last_os_error()
            )));
        }
        // SAFETY: `fd` is open and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes when `fd` becomes readable from now on (edge-triggered, so that nobody has to read it
    /// empty). False: the kernel has no room for one more, and it will not wake.
    #[must_use]
    pub fn add(&self, fd: BorrowedFd<'_>) -> bool {
        let edge = libc::EPOLLIN.cast_unsigned() | libc::EPOLLET.cast_unsigned();
        let mut event = libc::epoll_event {
            events: edge,
            u64: 0,
        };
        // SAFETY: both fds are open; `event` is valid for the call.
        unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                fd.as_raw_fd(),
                &raw mut event,
            ) == 0
        }
    }

    /// No longer wakes for `fd`.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let null = std::ptr::null_mut();
        // SAFETY: both fds are open; removing takes no event.
        unsafe {
            libc::epoll_ctl(
                self.0.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                fd.as_raw_fd(),
                null,
            )
        };
    }

    /// Sleeps until one of them is readable, or `timeout_ns` are over; `None`: without end.
    pub fn wait(&self, timeout_ns: Option<u64>) {
        let time = timeout_ns.map(|ns| libc::timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
        });
        let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // SAFETY: `events` has room for eight; `time` is null or valid for the call.
        unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len(),
                time,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
    }
}

/// Which file it is, of all that this boot of the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The file system's number.
    pub device: u64,
    /// The file's number in it.
    pub inode: u64,
}

/// What is known of a file before it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileFacts {
    /// Bytes.
    pub(crate) len: u64,
    /// Bytes of a page of its file system.
    pub(crate) page: u64,
    /// Whether it lives in memory alone: tmpfs, a memfd, hugetlbfs.
    pub(crate) is_memory: bool,
    /// With `inode`, which file it is, whatever descriptor leads to it.
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Asks the kernel about a file. One that isn't in memory is asked nothing more: it may never
/// answer.
pub(crate) fn file_facts(file: &File) -> io::Result<FileFacts> {
    const TMPFS: i64 = 0x0102_1994;
    const HUGETLBFS: i64 = 0x9584_58f6;
    if !is_in_memory(file.as_fd()) {
        return Ok(FileFacts {
            len: 0,
            page: 4096,
            is_memory: false,
            device: 0,
            inode: 0,
        });
    }
    let metadata = file.metadata()?;
    // SAFETY: all-zero is a valid `statfs`.
    let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the fd is open, `fs` is a valid place for the answer.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut fs) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let kind = fs.f_type;
    let page = if kind == HUGETLBFS {
        u64::try_from(fs.f_bsize).unwrap_or(4096)
    } else {
        4096
    };
    let (device, inode) = (metadata.dev(), metadata.ino());
    Ok(FileFacts {
        len: metadata.len(),
        page,
        is_memory: kind == TMPFS || kind == HUGETLBFS,
        device,
        inode,
    })
}

/// Maps `len` bytes of a file from `offset`, shared and writable. Both in whole pages of the file's
/// own size: of less of a large page the kernel would map all, and refuse to end a part.
pub(crate) fn map_shared(file: &File, offset: u64, len: usize) -> io::Result<MmapRaw> {
    let map = MmapOptions::new()
        .offset(offset)
        .len(len)
        .no_reserve_swap()
        .map_raw(file)?;
    // A guest's memory is worth nothing in our core dump, and is not ours to write down.
    let _ = map.advise(Advice::DontDump);
    Ok(map)
}

/// Bytes that are unmapped at once. The kernel lets nobody change the process's mappings meanwhile,
/// a signal handler on a core neither, and takes 0.2 us for each page that was touched.
const UNMAPPED_AT_ONCE: usize = 4 << 20;
/// Rest after each part: the kernel's lock goes to whoever comes, and that would be this thread
/// again, for 4 ms, before one that sleeps there has its turn.
const UNMAPPING_RESTS: Duration = Duration::from_micros(50);

/// Ends a mapping of pages of `page` bytes, part by part; dropped, it would end at once.
///
/// # Safety
/// Nobody uses these addresses any more.
pub(crate) unsafe fn unmap(map: MmapRaw, page: usize) {
    let (base, len) = (map.as_mut_ptr(), map.len());
    std::mem::forget(map);
    let step = UNMAPPED_AT_ONCE.max(page);
    for at in (0..len).step_by(step) {
        // SAFETY: the caller's promise; what was unmapped before, which may be somebody else's by
        // now, is left out.
        unsafe { libc::munmap(base.wrapping_add(at).cast(), step.min(len - at)) };
        if at + step < len {
            std::thread::sleep(UNMAPPING_RESTS);
        }
    }
}

/// Makes pages present, off the core, so that the core does not fault on them one by one.
///
/// # Safety
/// The range is mapped.
pub(crate) unsafe fn prefault(base: *mut u8, len: usize) {
    if cfg!(miri) {
        return; // it has no pages
    }
    let start = base as usize & !4095;
    let end = (base as usize + len).next_multiple_of(4096);
    // SAFETY: whole pages of a mapped range; populating changes no byte. Older kernels refuse,
    // which only costs time later.
    unsafe {
        libc::madvise(
            start as *mut libc::c_void,
            end - start,
            libc::MADV_POPULATE_WRITE,
        )
    };
}

/// The least of the kernel's large pages.
const LARGE_PAGE: usize = 2 << 20;

/// Makes memory of our own lie in large pages, as far as whole ones fit in, and all of it present,
/// so that no core waits for a page. For memory that nothing was written to yet.
///
/// # Errors
/// When the kernel has no large pages, or not as much memory as this; it is as good as before.
pub fn settle((base, len): (usize, usize)) -> io::Result<()> {
    if cfg!(miri) || len == 0 {
        return Ok(()); // it has no pages
    }
    let (start, end) = (base & !4095, (base + len).next_multiple_of(4096));
    let advise = |advice| {
        // SAFETY: neither advice changes a byte, nor what may be done with a page, whoever's it is.
        match unsafe { libc::madvise(start as *mut libc::c_void, end - start, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let is_large = if len < LARGE_PAGE {
        Ok(())
    } else {
        advise(libc::MADV_HUGEPAGE)
    };
    match advise(libc::MADV_POPULATE_WRITE) {
        // Of kernels that are older: it only costs time later.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => is_large,
        done => done.and(is_large),
    }
}

/// For tests of this crate that may not call the system themselves.
#[cfg(all(test, not(miri)))]
pub(crate) mod test_support {
    use super::*;

    /// A front-end's eventfd.
    pub(crate) fn eventfd(flags: i32) -> File {
        // SAFETY: a plain call; the new fd is nobody else's.
        unsafe { File::from_raw_fd(libc::eventfd(0, flags)) }
    }

    /// Whether who reads or writes may have to wait.
    pub(crate) fn let_block(file: &File, may_wait: bool) {
        // SAFETY: the fd is open; flags are numbers.
        unsafe {
            libc::fcntl(
                file.as_raw_fd(),
                libc::F_SETFL,
                if may_wait { 0 } else { libc::O_NONBLOCK },
            )
        };
    }

    /// The calling thread finds that the kernel has no asynchronous requests left.
    pub(crate) fn without_requests() {
        signal::prepare_without();
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::test_support::eventfd;
    use super::*;
    use std::io::Write;

    #[test]
    fn process_at_the_other_end_is_told() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(
            peer_process(a.as_fd()),
            i32::try_from(std::process::id()).ok()
        );
        assert_eq!(peer_process(File::open("/dev/null").unwrap().as_fd()), None);
    }

    #[test]
    fn files_in_memory_are_told_from_others() {
        // SAFETY: a plain call; the new fd is nobody else's.
        let memfd = unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), 0)) };
        assert!(is_in_memory(memfd.as_fd()) && !is_eventfd(memfd.as_fd()));
        let event = eventfd(0);
        assert!(is_eventfd(event.as_fd()) && !is_in_memory(event.as_fd()));
        for path in ["/dev/null", "/proc/self/exe", "/"] {
            let file = File::open(path).unwrap();
            assert!(
                !is_in_memory(file.as_fd()) && !is_eventfd(file.as_fd()),
                "{path}"
            );
            assert!(!file_facts(&file).unwrap().is_memory, "{path}");
        }
    }

    #[test]
    fn full_counter_that_its_owner_lets_block_stops_nobody() {
        // Whoever made it can take O_NONBLOCK back at any time, so that flag is no protection.
        let file = eventfd(0);
        (&file)
            .write_all(&0xffff_ffff_ffff_fffe_u64.to_ne_bytes())
            .unwrap();
        let call = EventFd::from_file(file).unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            (0..3).for_each(|_| call.signal());
            done.send(()).unwrap();
        });
        is_done
            .recv_timeout(std::time::Duration::from_secs(20))
            .expect("it waits in the kernel");
    }

    #[test]
    fn each_signal_of_a_shared_eventfd_is_counted_however_many_there_are() {
        let file = eventfd(0);
        let call = EventFd::from_file(file.try_clone().unwrap()).unwrap();
        for _ in 0..5000 {
            call.signal();
        }
        let mut count = [0; 8];
        std::io::Read::read_exact(&mut &file, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 5000);
    }

    #[test]
    fn other_files_are_no_eventfds() {
        for path in ["/dev/null", "/proc/self/exe", "/"] {
            let error = EventFd::from_file(File::open(path).unwrap()).unwrap_err();
            assert!(error.to_string().contains("eventfd"), "{path}: {error}");
        }
    }

    #[test]
    fn epoll_wakes_once_for_each_signal_and_not_for_what_left() {
        let (epoll, event) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        assert!(epoll.add(event.as_fd()));
        let wakes = |epoll: &Epoll| {
            let begin = monotonic_ns();
            epoll.wait(Some(20_000_000));
            monotonic_ns() - begin < 20_000_000
        };
        event.signal();
        assert!(wakes(&epoll));
        assert!(!wakes(&epoll), "the same signal again");
        event.signal();
        epoll.remove(event.as_fd());
        assert!(!wakes(&epoll));
    }
}
