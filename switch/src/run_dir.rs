//! The daemon's folder: that of its control socket. One daemon a folder, kept so by a lock that ends with the process.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// The lock's file. It stays when the daemon ends: removing it could take it from the next one.
const LOCK: &str = "weir.lock";

/// A folder that is this daemon's as long as the value lives.
#[derive(Debug)]
pub(crate) struct RunDir {
    _lock: File,
}

impl RunDir {
    /// Takes the folder, and makes it if only the last part of its path is missing.
    ///
    /// # Errors
    /// A sentence: another daemon has it, or it can't be written to.
    pub(crate) fn take(path: &Path) -> Result<Self, String> {
        make(path)?;
        let lock = path.join(LOCK);
        let say = |e: io::Error| format!("cannot make {}: {e}", lock.display());
        let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let mut file = open.open(&lock).map_err(say)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(path, &mut file)),
            Err(TryLockError::Error(e)) => return Err(say(e)),
        }
        // The number is for people; the lock alone counts.
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(say)?;
        Ok(Self { _lock: file })
    }
}

fn make(path: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::metadata(path).is_ok_and(|at| at.is_dir()) => Ok(()),
        Err(e) => {
            let help = "make it, or name another folder by control: { path: … }";
            Err(format!("the control socket's folder {} cannot be made: {e}: {help}", path.display()))
        }
    }
}

fn taken(path: &Path, file: &mut File) -> String {
    let mut pid = String::new();
    let _ = file.take(20).read_to_string(&mut pid);
    let pid = match pid.trim() {
        "" => String::new(),
        pid => format!(" (process {pid})"),
    };
    let path = path.display();
    format!("another weir{pid} runs in {path}: stop it, or give this one a folder of its own by control: {{ path: … }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_one_daemons_until_it_ends() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let first = RunDir::take(&path).unwrap();
        let why = RunDir::take(&path).unwrap_err();
        assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
        drop(first);
        RunDir::take(&path).unwrap();
    }

    #[test]
    fn only_the_last_part_of_the_path_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let why = RunDir::take(&parent.path().join("a/b")).unwrap_err();
        assert!(why.contains("a/b") && why.contains("control"), "{why}");
    }

    #[test]
    fn link_in_place_of_the_lock_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let victim = parent.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, parent.path().join(LOCK)).unwrap();
        assert!(RunDir::take(parent.path()).is_err());
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }
}
