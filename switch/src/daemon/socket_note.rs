//! Which sockets this daemon makes, noted in the run directory: if it is killed, the next one
//! removes those that its own topology doesn't have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use crate::base::folder::Folder;
use crate::base::socket::{remove_left_beside, remove_stale};

/// The file in the run directory.
const FILE: &str = "sockets.json";
/// Bytes of that file at most: each path has 107 at most, and may have to be escaped.
const FILE_BYTES_MAX: usize = 1 << 22;

/// The paths that are noted.
#[derive(Debug)]
pub(crate) struct SocketNote {
    run_dir: Arc<Folder>,
    paths: BTreeSet<PathBuf>,
    /// Why the file can't be written, as last logged.
    logged: Option<String>,
}

impl SocketNote {
    /// Removes what an earlier daemon left that was killed: sockets that are none of `paths`, and
    /// such as it had made beside others in a change. Then notes `paths`.
    pub(super) fn take_over<'a>(
        run_dir: &Arc<Folder>,
        paths: impl Iterator<Item = &'a Path>,
    ) -> Self {
        let paths: BTreeSet<_> = paths.map(Path::to_owned).collect();
        let left = read(run_dir);
        let folders = paths.iter().chain(&left).filter_map(|path| path.parent());
        for folder in folders.collect::<BTreeSet<_>>() {
            remove_left_beside(folder);
        }
        for path in left.difference(&paths).filter(|path| path.exists()) {
            // What is there may be another program's by now.
            match remove_stale(path) {
                Ok(()) => info!("removed {}, which an earlier daemon left", path.display()),
                Err(why) => info!("left {} alone: {why}", path.display()),
            }
        }
        let mut note = Self {
            run_dir: run_dir.clone(),
            paths: left,
            logged: None,
        };
        note.set(paths);
        note
    }

    /// These paths too: their sockets are about to be made.
    pub(super) fn add<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let more = paths.map(Path::to_owned);
        self.set(self.paths.iter().cloned().chain(more).collect());
    }

    /// These paths and no others: the others' sockets have been removed.
    pub(super) fn keep<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        self.set(paths.map(Path::to_owned).collect());
    }

    fn set(&mut self, paths: BTreeSet<PathBuf>) {
        if paths == self.paths {
            return;
        }
        self.paths = paths;
        let written = serde_json::to_vec(&self.paths)
            .map_err(|e| e.to_string())
            .and_then(|text| self.run_dir.note(FILE, &text).map_err(|e| e.to_string()));
        let why = written.err();
        if let Some(why) = why.as_ref().filter(|_| why != self.logged) {
            warn!(
                "cannot note the sockets in {}, so those that a killed daemon leaves may stay: \
                {why}",
                self.run_dir.path().join(FILE).display()
            );
        }
        self.logged = why;
    }
}

/// What an earlier daemon noted; what can't be read is nothing.
fn read(run_dir: &Folder) -> BTreeSet<PathBuf> {
    match run_dir.read(FILE, FILE_BYTES_MAX) {
        Ok(None) => BTreeSet::new(),
        Ok(Some(text)) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(why) => {
            warn!("{why}");
            BTreeSet::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::net::UnixListener;

    fn folder() -> (tempfile::TempDir, Arc<Folder>) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(dir.path()).unwrap());
        (dir, folder)
    }

    #[test]
    fn sockets_of_a_killed_daemon_go_if_they_are_not_wanted_any_more() {
        let (dir, folder) = folder();
        let paths = ["a", "b", "c", "d", "e"].map(|name| dir.path().join(name));
        let [a, b, c, d, e] = &paths;
        let mut note = SocketNote::take_over(&folder, [a.as_path(), b].into_iter());
        note.add([c.as_path(), d, e].into_iter());
        // Killed here: nothing listens on the first three.
        for path in [a, b, c] {
            drop(UnixListener::bind(path).unwrap());
        }
        let _of_another = UnixListener::bind(d).unwrap();
        fs::write(e, "precious").unwrap();
        let mut note = SocketNote::take_over(&folder, [a.as_path()].into_iter());
        let is_there = paths.each_ref().map(|path| path.exists());
        assert_eq!(is_there, [true, false, false, true, true]);
        // What was left alone is not looked at again.
        note.keep([a.as_path()].into_iter());
        drop(UnixListener::bind(b).unwrap());
        SocketNote::take_over(&folder, [a.as_path()].into_iter());
        assert!(b.exists());
    }

    #[test]
    fn note_that_is_none_is_as_good_as_none() {
        let (dir, folder) = folder();
        let path = dir.path().join("a");
        drop(UnixListener::bind(&path).unwrap());
        for text in ["", "{}", "[7]", "[\"relative\"]"] {
            folder.note(FILE, text.as_bytes()).unwrap();
            SocketNote::take_over(&folder, std::iter::empty());
            assert!(path.exists());
        }
    }
}
