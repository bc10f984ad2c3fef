//! What a core sleeps in.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::SetupError;

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

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::sys::clock::monotonic_ns;
    use crate::sys::event::EventFd;
    use std::os::fd::AsFd;

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
