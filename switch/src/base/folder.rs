//! A folder that is held open, and files in it that only this daemon's user or root can have
//! written.
//!
//! The folder is held open, so replacing it later has no effect. Links in it are never followed. A
//! file is read only if it is a regular file of this user or root, not writable by others, with a
//! single name. A file is written under a temporary name and renamed once it is complete.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fsync, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Names read when a folder is listed: other users may create any number.
const NAMES_MAX: usize = 4096;
/// Prefix and suffix of the name of a file that is not complete yet.
const DRAFT: (&str, &str) = (".", ".draft");

/// A folder that is held open.
#[derive(Debug)]
pub(crate) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a folder in which only this user and root can replace files.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, and what to do.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let say = |why: &str| format!("the folder {} can't be used: {why}", path.display());
        if path.is_symlink() {
            let help = "it is a symbolic link, which could lead elsewhere tomorrow: name the \
                folder that it leads to";
            return Err(say(help));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(CWD, path, flags, Mode::empty())
            .map_err(|e| say(&io::Error::from(e).to_string()))?;
        let stat = fstat(&handle).map_err(|e| say(&io::Error::from(e).to_string()))?;
        check_folder(&stat, geteuid().as_raw()).map_err(|why| say(&why))?;
        Ok(Self {
            handle,
            path: path.to_owned(),
        })
    }

    /// Its path when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Content of the file with this name, at most `most` bytes. `None`: there is no such file.
    ///
    /// # Errors
    /// A sentence: it can't be read, or it isn't this daemon's own.
    pub(crate) fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, String> {
        let say = |why: &str| format!("{:?} in {}: {why}", name, self.path.display());
        let file = match self.open_to_read(name) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(say(&explain(e))),
        };
        check_own(&file).map_err(|why| say(&why))?;
        let mut bytes = Vec::new();
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit)
            .read_to_end(&mut bytes)
            .map_err(|e| say(&e.to_string()))?;
        if bytes.len() > most {
            Err(say(&format!("it has more than {most} bytes")))
        } else {
            Ok(Some(bytes))
        }
    }

    /// Writes a file, replacing any file of that name: completely or not at all, even if the
    /// machine stops meanwhile.
    ///
    /// # Errors
    /// The system's; nothing has changed.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, File::sync_all)?;
        // Some file systems can't sync a folder: the file is there, but may be lost if the machine
        // stops.
        let _ = fsync(&self.handle);
        Ok(())
    }

    /// The same for a file that is of no use once the machine has stopped: waits for no disk.
    ///
    /// # Errors
    /// The system's; nothing has changed.
    pub(crate) fn note(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes, |_| Ok(()))
    }

    fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        sync: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<()> {
        let draft = format!("{}{name}.{:016x}{}", DRAFT.0, unguessable(), DRAFT.1);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(
            &self.handle,
            draft.as_str(),
            flags,
            Mode::RUSR | Mode::WUSR,
        )?);
        let written = file.write_all(bytes).and_then(|()| sync(&file));
        let placed =
            written.and_then(|()| Ok(renameat(&self.handle, draft.as_str(), &self.handle, name)?));
        if placed.is_err() {
            // The next start removes what is left of it.
            let _ = self.remove(&draft);
        }
        placed
    }

    /// Removes a file; of a link, the link itself.
    ///
    /// # Errors
    /// The system's; a missing file is not an error.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens the file with this name for locking; creates it if missing.
    ///
    /// # Errors
    /// A sentence: it can't be opened, or it isn't this daemon's own.
    pub(crate) fn open_lock(&self, name: &str) -> Result<File, String> {
        let say = |why: &str| format!("cannot make {}: {why}", self.path.join(name).display());
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let file = openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| say(&explain(e)))?;
        let file = File::from(file);
        check_own(&file).map_err(|why| say(&format!("{why}; remove it if no weir runs here")))?;
        Ok(file)
    }

    /// UTF-8 names in the folder, at most [`NAMES_MAX`], in no order.
    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(dir) = Dir::read_from(&self.handle) else {
            return Vec::new();
        };
        let name = |entry: rustix::io::Result<rustix::fs::DirEntry>| {
            Some(
                std::ffi::OsStr::from_bytes(entry.ok()?.file_name().to_bytes())
                    .to_str()?
                    .to_owned(),
            )
        };
        dir.take(NAMES_MAX).filter_map(name).collect()
    }

    /// Removes incomplete files that a killed daemon left.
    pub(crate) fn sweep(&self) {
        let is_draft = |name: &String| name.starts_with(DRAFT.0) && name.ends_with(DRAFT.1);
        for name in self.names().into_iter().filter(is_draft) {
            // Files of other users are left alone.
            if self.is_own(&name) {
                let _ = self.remove(&name);
            }
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.open_to_read(name)
            .is_ok_and(|file| check_own(&file).is_ok())
    }

    /// Follows no link and does not block on a FIFO. The caller must still check the owner.
    fn open_to_read(&self, name: &str) -> rustix::io::Result<File> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.handle, name, flags, Mode::empty()).map(File::from)
    }
}

/// Whether only this user and root can replace files in a folder.
fn check_folder(stat: &Stat, own_uid: u32) -> Result<(), String> {
    if stat.st_uid != own_uid && stat.st_uid != 0 {
        let uid = stat.st_uid;
        return Err(format!(
            "it belongs to user {uid}, who could replace the files and sockets in it: chown it to \
            the user that weir runs as, or name another folder by control: {{ path: … }}"
        ));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX) {
        return Err(format!(
            "others may write to it (mode {:04o}), and replace the files and sockets in it: `chmod \
            go-w` it and give guests' sockets a folder of their own below it; or, if they have to \
            make theirs here, `chmod +t` it",
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

/// Whether only this user or root can have written a file.
fn check_own(file: &File) -> Result<(), String> {
    let stat = fstat(file).map_err(|e| io::Error::from(e).to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file".to_owned());
    }
    if stat.st_uid != geteuid().as_raw() && stat.st_uid != 0 {
        return Err(format!("it belongs to user {}", stat.st_uid));
    }
    if stat.st_nlink != 1 {
        return Err(format!(
            "it has {} names, one of which may be another user's",
            stat.st_nlink
        ));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(format!(
            "others may write to it (mode {:04o})",
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

fn explain(error: Errno) -> String {
    match error {
        Errno::LOOP => "it is a symbolic link, which is not followed".to_owned(),
        Errno::NXIO => "it is not a regular file".to_owned(),
        other => io::Error::from(other).to_string(),
    }
}

/// An unpredictable number: the standard library takes the keys of its hash maps from the kernel's
/// random numbers.
fn unguessable() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
