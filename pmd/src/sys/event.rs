//! Eventfds.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::signal;
use crate::error::SetupError;

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

    /// Wakes the threads that wait for it. A full counter means that it is signalled already. It
    /// never waits for one of our own; for another's it might, where the kernel has no more
    /// asynchronous requests.
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

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes what signalling shared eventfds needs on this thread: one file, and memory of the
/// kernel's. False: the kernel has none left (its limit `fs.aio-max-nr` is used up), and other
/// threads will signal for this one.
pub fn prepare_signals() -> bool {
    signal::prepare()
}

/// Whether a file is an eventfd. Nothing but the kernel's memory is asked.
pub fn is_eventfd(file: BorrowedFd<'_>) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|path| path.as_os_str() == "anon_inode:[eventfd]")
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::sys::test_support::eventfd;
    use std::io::Write;

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
}
