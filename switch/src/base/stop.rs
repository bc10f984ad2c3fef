//! The stop request to control threads, and waiting for files or for it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pmd::SetupError;
use pmd::sys::EventFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A stop request. It wakes every waiting thread and is never withdrawn; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requested: AtomicBool,
    /// Signalled once and never read, so that it stays readable for all.
    event: EventFd,
}

impl Stop {
    /// Not requested yet.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub(crate) fn new() -> Result<Self, SetupError> {
        Ok(Self(Arc::new(Inner {
            requested: AtomicBool::new(false),
            event: EventFd::new()?,
        })))
    }

    /// Requests the stop.
    pub(crate) fn request(&self) {
        self.0.requested.store(true, Ordering::Release);
        self.0.event.signal();
    }

    /// Whether the stop is requested.
    pub(crate) fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// Waits for `time` or the stop request. True: requested.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        let _ = self.wait([], Some(time));
        self.is_requested()
    }

    /// Waits until one of `files` is readable or hung up, `time` has passed, or the stop is
    /// requested; returns which of them are. All false: timed out, interrupted, or stopping.
    pub(crate) fn wait<const N: usize>(
        &self,
        files: [BorrowedFd<'_>; N],
        time: Option<Duration>,
    ) -> [bool; N] {
        let mut fds = Vec::with_capacity(N + 1);
        fds.extend(files.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.push(PollFd::from_borrowed_fd(
            self.0.event.as_fd(),
            PollFlags::IN,
        ));
        if poll(&mut fds, time.map(timespec).as_ref()).is_err() {
            return [false; N];
        }
        std::array::from_fn(|i| !fds[i].revents().is_empty())
    }

    /// Whether `file` becomes writable within `time`.
    pub(crate) fn wait_writable(&self, file: BorrowedFd<'_>, time: Duration) -> bool {
        let mut fds = [
            PollFd::from_borrowed_fd(file, PollFlags::OUT),
            PollFd::from_borrowed_fd(self.0.event.as_fd(), PollFlags::IN),
        ];
        poll(&mut fds, Some(&timespec(time))).is_ok() && fds[0].revents().contains(PollFlags::OUT)
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn request_ends_a_wait_of_any_length() {
        let stop = Stop::new().unwrap();
        let other = stop.clone();
        let waiting = std::thread::spawn(move || other.sleep(Duration::from_secs(600)));
        stop.request();
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn wait_says_which_file_has_something() {
        let stop = Stop::new().unwrap();
        let (a, _peer) = UnixStream::pair().unwrap();
        let (b, mut peer) = UnixStream::pair().unwrap();
        peer.write_all(b"x").unwrap();
        assert_eq!(stop.wait([a.as_fd(), b.as_fd()], None), [false, true]);
        drop(_peer);
        assert_eq!(
            stop.wait([a.as_fd()], None),
            [true],
            "hung up is something to see too"
        );
    }

    #[test]
    fn wait_ends_with_the_time() {
        let stop = Stop::new().unwrap();
        let (a, _peer) = UnixStream::pair().unwrap();
        let begin = Instant::now();
        assert_eq!(
            stop.wait([a.as_fd()], Some(Duration::from_millis(5))),
            [false]
        );
        assert!(begin.elapsed() >= Duration::from_millis(5));
    }
}
