//! Which version of a file was read.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// A version of a file: which file it is, its size, and when it was last written. The same after
/// the file got another name, so that it can be taken before a file takes the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Device and inode.
    pub(crate) id: (u64, u64),
    size: u64,
    /// Seconds and nanoseconds.
    written: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            id: (file.dev(), file.ino()),
            size: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
        }
    }
}
