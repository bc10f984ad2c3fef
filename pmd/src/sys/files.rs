//! Files: how many there may be, and what is known of one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

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

/// Whether a file lives in memory alone: tmpfs, a memfd, hugetlbfs. Nothing but the kernel's memory
/// is asked, where `fstat(2)` would ask the file system, which may be a front-end's own (FUSE) and
/// never answer.
pub fn is_in_memory(file: BorrowedFd<'_>) -> bool {
    // SAFETY: the fd is open; the answer is a number. Other files have no seals, which is an error.
    cfg!(miri) || unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) } >= 0
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

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::sys::event::is_eventfd;
    use crate::sys::test_support::eventfd;
    use std::os::fd::FromRawFd;

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
}
