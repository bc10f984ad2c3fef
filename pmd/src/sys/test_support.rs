//! For tests of this crate that may not call the system themselves.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use super::signal;

/// A front-end's eventfd.
pub(crate) fn eventfd(flags: i32) -> File {
    // SAFETY: a plain call; the new fd is nobody else's.
    unsafe { File::from_raw_fd(libc::eventfd(0, flags)) }
}

/// Whether a read or write may have to wait.
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
