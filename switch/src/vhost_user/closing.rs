//! Closes what a front-end sent or left, on threads that nothing waits for.
//!
//! The last close of a file can take as long as its creator likes: a lingering TCP socket, a file
//! of a file system in user space. So can closing a connection, since it closes files that were
//! sent on it and not received. Files that are known to close at once are closed in place, the
//! others of a message by a thread of its own. These are counted by port, and a port with many of
//! them accepts no connection and no message until some are closed, so a front-end only delays
//! itself.

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::Duration;

use pmd::sys::{is_eventfd, is_in_memory};
use rustix::io::ioctl_fionread;

use crate::base::stop::Stop;

/// Files of a port that may be closing before the port waits; also the most threads that close
/// them.
const AT_ONCE: usize = 8;
/// Poll interval of a port that waits.
const POLL_EVERY: Duration = Duration::from_millis(10);
/// Stack of these threads.
const STACK: usize = 64 << 10;

/// Files of one port that are being closed. Cloned freely.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closing(Arc<AtomicUsize>);

impl Closing {
    /// Closes files that a front-end sent, one after another.
    pub(crate) fn files(&self, files: Vec<OwnedFd>) {
        let slow: Vec<_> = files
            .into_iter()
            .filter(|file| !closes_at_once(file))
            .collect();
        if !slow.is_empty() {
            self.on_a_thread(slow);
        }
    }

    /// Shuts a connection down, and closes its last handle.
    pub(crate) fn connection(&self, stream: UnixStream) {
        // Nothing more arrives after that. It fails if the peer has closed already, which is fine.
        let _ = stream.shutdown(Shutdown::Both);
        if !ioctl_fionread(&stream).is_ok_and(|n_bytes| n_bytes == 0) {
            self.on_a_thread(vec![stream.into()]);
        }
    }

    /// Waits while too many files are closing. False: the stop was requested meanwhile.
    pub(crate) fn wait(&self, stop: &Stop) -> bool {
        while self.is_full() {
            if stop.sleep(POLL_EVERY) {
                return false;
            }
        }
        true
    }

    /// Whether too many files are closing.
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Acquire) >= AT_ONCE
    }

    fn on_a_thread(&self, files: Vec<OwnedFd>) {
        self.0.fetch_add(files.len(), Ordering::AcqRel);
        let files: Vec<_> = files
            .into_iter()
            .map(|file| Slow {
                file,
                _counted: Counted(self.0.clone()),
            })
            .collect();
        // If no thread can be started, they are closed here.
        let _ = Builder::new()
            .name("closing".to_owned())
            .stack_size(STACK)
            .spawn(move || drop(files));
    }
}

/// Drops in this order: closes the file, then takes it off the count.
struct Slow {
    #[expect(dead_code, reason = "held to be dropped")]
    file: OwnedFd,
    _counted: Counted,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether the kernel closes a file without waiting for anything: an eventfd, or memory.
pub(crate) fn closes_at_once(file: &OwnedFd) -> bool {
    is_eventfd(file.as_fd()) || is_in_memory(file.as_fd())
}

#[cfg(test)]
mod tests {
    use super::super::lingering::lingering_socket;
    use super::*;
    use std::io::Write;
    use std::time::Instant;

    #[test]
    fn file_whose_close_waits_keeps_nobody_waiting_but_its_port() {
        let (closing, stop) = (Closing::default(), Stop::new().unwrap());
        let begin = Instant::now();
        for _ in 0..AT_ONCE {
            closing.files(vec![lingering_socket(2)]);
        }
        assert!(
            begin.elapsed() < Duration::from_secs(1),
            "{:?}",
            begin.elapsed()
        );
        assert!(Closing::default().wait(&stop), "another port's are its own");
        assert!(closing.wait(&stop));
        assert!(
            begin.elapsed() >= Duration::from_secs(1),
            "it waits until some are closed"
        );
    }

    #[test]
    fn files_of_one_message_count_each() {
        let (closing, stop) = (Closing::default(), Stop::new().unwrap());
        let begin = Instant::now();
        closing.files((0..AT_ONCE).map(|_| lingering_socket(1)).collect());
        assert!(
            closing.is_full(),
            "one thread has them all, and the port may still not bring more"
        );
        assert!(closing.wait(&stop));
        assert!(
            begin.elapsed() >= Duration::from_millis(900),
            "it waits until some are closed"
        );
    }

    #[test]
    fn connection_without_anything_in_it_is_closed_at_once_and_one_with_something_soon() {
        let closing = Closing::default();
        let (a, b) = UnixStream::pair().unwrap();
        closing.connection(a);
        assert_eq!(closing.0.load(Ordering::Acquire), 0);
        let (c, d) = UnixStream::pair().unwrap();
        (&d).write_all(b"x").unwrap();
        closing.connection(c);
        for other in [&b, &d] {
            assert!(crate::base::socket::is_hung_up(other));
        }
        let begin = Instant::now();
        while closing.0.load(Ordering::Acquire) > 0 {
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    }
}
