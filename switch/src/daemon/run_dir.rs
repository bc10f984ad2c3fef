//! The run directory: the folder of the control socket. A lock that ends with the process keeps a
//! second daemon out.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::folder::Folder;
use crate::base::process::Process;

/// The lock file. It is never removed: that could take it from the next daemon.
const LOCK: &str = "weir.lock";
/// Bytes of a process number at most.
const HOLDER_MAX: u64 = 16;
/// Time for a killed daemon to release the lock: the kernel takes tens of milliseconds.
const DIES_WITHIN: Duration = Duration::from_secs(2);

/// The run directory, locked while the value lives.
#[derive(Debug)]
pub(crate) struct RunDir {
    folder: Arc<Folder>,
    _lock: File,
}

impl RunDir {
    /// Locks the folder; creates it if only the last part of its path is missing.
    ///
    /// # Errors
    /// A sentence: another daemon has it, it can't be written to, or other users could replace
    /// files in it.
    pub(crate) fn lock(path: &Path) -> Result<Self, String> {
        make(path)?;
        let folder = Arc::new(Folder::open(path)?);
        let say = |e: io::Error| format!("cannot make {}: {e}", path.join(LOCK).display());
        let mut file = folder.open_lock(LOCK)?;
        let mut holder = String::new();
        // What is not a number names no process.
        let _ = (&file).take(HOLDER_MAX).read_to_string(&mut holder);
        let holder = holder.trim().to_owned();
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                // A killed daemon closes its sockets last.
                Ok(()) if is_dying(&holder) && begin.elapsed() < DIES_WITHIN => {}
                Ok(()) => break,
                Err(TryLockError::WouldBlock)
                    if is_dying(&holder) && begin.elapsed() < DIES_WITHIN => {}
                Err(TryLockError::WouldBlock) => return Err(taken(path, &holder)),
                Err(TryLockError::Error(e)) => return Err(say(e)),
            }
            std::thread::sleep(DIES_WITHIN / 1000);
        }
        // The number is for people; the lock alone counts.
        let noted = file.set_len(0).and_then(|()| file.rewind());
        noted
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(say)?;
        Ok(Self {
            folder,
            _lock: file,
        })
    }

    /// The folder itself, for other files in it.
    pub(crate) fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }
}

fn make(path: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => Ok(()),
        Err(e)
            if e.kind() == io::ErrorKind::AlreadyExists
                && fs::metadata(path).is_ok_and(|at| at.is_dir()) =>
        {
            Ok(())
        }
        Err(e) => {
            let help = "make it, or name another folder by control: { path: … }";
            Err(format!(
                "the control socket's folder {} cannot be made: {e}: {help}",
                path.display()
            ))
        }
    }
}

/// Whether a killed process still holds its open files: its memory is gone, but not all of its
/// threads are; the first is a zombie long before the last one has ended.
fn is_dying(pid: &str) -> bool {
    if pid.is_empty() || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let has_no_memory =
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.is_empty());
    let is_alive = pid.parse().is_ok_and(|pid| Process::of(pid).is_some());
    let n_threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    has_no_memory && (n_threads > 1 || is_alive)
}

fn taken(path: &Path, holder: &str) -> String {
    let pid = match holder {
        "" => String::new(),
        pid => format!(" (process {pid})"),
    };
    let path = path.display();
    format!(
        "another weir{pid} runs in {path}: stop it, or give this one a folder of its own by \
        control: {{ path: … }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_is_one_daemons_until_it_ends() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let first = RunDir::lock(&path).unwrap();
        let why = RunDir::lock(&path).unwrap_err();
        assert!(
            why.contains(&format!("process {}", std::process::id())),
            "{why}"
        );
        drop(first);
        RunDir::lock(&path).unwrap();
    }

    #[test]
    fn only_the_last_part_of_the_path_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let why = RunDir::lock(&parent.path().join("a/b")).unwrap_err();
        assert!(why.contains("a/b") && why.contains("control"), "{why}");
    }

    #[test]
    fn link_in_place_of_the_lock_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let victim = parent.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, parent.path().join(LOCK)).unwrap();
        assert!(RunDir::lock(parent.path()).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        fs::remove_file(parent.path().join(LOCK)).unwrap();
        fs::hard_link(&victim, parent.path().join(LOCK)).unwrap();
        let why = RunDir::lock(parent.path()).unwrap_err();
        assert!(why.contains(LOCK) && why.contains("2 names"), "{why}");
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }

    #[test]
    fn number_of_the_holder_is_the_last_ones_alone() {
        let parent = tempfile::tempdir().unwrap();
        let lock = parent.path().join(LOCK);
        fs::write(&lock, "9".repeat(10_000)).unwrap();
        fs::set_permissions(&lock, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        drop(RunDir::lock(parent.path()).unwrap());
        assert_eq!(
            fs::read_to_string(lock).unwrap(),
            format!("{}\n", std::process::id())
        );
    }
}
