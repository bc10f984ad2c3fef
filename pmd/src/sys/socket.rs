//! Unix sockets: the process at the other end, and whether files may come.

use std::os::fd::{AsRawFd, BorrowedFd};

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

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn process_at_the_other_end_is_told() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(
            peer_process(a.as_fd()),
            i32::try_from(std::process::id()).ok()
        );
        assert_eq!(peer_process(File::open("/dev/null").unwrap().as_fd()), None);
    }
}
