//! The files that have one VM each: written whole, so that each is there as it was or as it is to
//! be, whenever the daemon or the host ends.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use config::Topology;

/// What a file that is not complete yet is called beside the one that it will be.
const DRAFT: (&str, &str) = (".", ".draft");
/// Mode of a new file, less what the daemon's umask takes away.
const MODE: u32 = 0o644;

/// A change of one file, of which nothing is to be seen yet.
#[derive(Debug)]
pub(super) struct FileChange {
    /// As the topology calls it.
    named: PathBuf,
    /// Where it is, links followed.
    file: PathBuf,
    /// None: the file is removed.
    draft: Option<Draft>,
}

/// The file as it was, under another name, until its change is on the disk; dropped, that name is
/// removed. It is the same file and not a copy of it, so that nothing has to be written to have it
/// back, and it is known again by what is noted of it.
#[derive(Debug)]
struct Before(PathBuf);

impl Drop for Before {
    fn drop(&mut self) {
        // It is the file again, or of no use.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file that is complete on the disk under another name; dropped, it is removed.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    open: File,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has become the file, or is of no use.
        let _ = fs::remove_file(&self.path);
    }
}

impl FileChange {
    /// `text`: what the file is to say; none: it is to be removed.
    ///
    /// # Errors
    /// A sentence: it can't be written. Nothing has changed then.
    pub(super) fn new(named: &Path, text: Option<&str>, of: &Topology) -> Result<Self, String> {
        let file = fs::canonicalize(named).unwrap_or_else(|_| named.to_owned());
        let path = draft_of(&file);
        if text.is_some() && of.origin.covers(&path) {
            return Err(format!(
                "{} can't be written safely, since `include` covers {} as well, which it is called \
                until it is complete: write \"vms.d/*.yaml\" there",
                file.display(),
                path.display()
            ));
        }
        let draft = text.map(|text| Draft::new(path, &file, text));
        let draft = draft.transpose().map_err(|e| cannot("write", &file, &e))?;
        let named = named.to_owned();
        Ok(Self { named, file, draft })
    }

    /// Has the change seen: the file is the new one, on the disk as well, and `topology` knows it.
    ///
    /// # Errors
    /// A sentence: the disk failed. The file is as it was then, as far as the disk allows.
    pub(super) fn make(self, topology: &mut Topology) -> Result<(), String> {
        let before = self.put_in_place();
        let before = before.map_err(|e| cannot("replace", &self.file, &e))?;
        let settled = settle(&self.file).and_then(|()| match &self.draft {
            Some(draft) => topology.origin.written(&self.named, &draft.open),
            None => {
                topology.origin.removed(&self.named);
                Ok(())
            }
        });
        settled.map_err(|e| {
            self.bring_back(before.as_ref());
            cannot("replace", &self.file, &e)
        })
    }

    /// Has the change seen. Gives the file as it was; none: it wasn't there.
    fn put_in_place(&self) -> io::Result<Option<Before>> {
        let path = before_of(&self.file);
        // An earlier daemon was killed.
        remove(&path)?;
        let is_there = match &self.draft {
            Some(_) => fs::hard_link(&self.file, &path),
            None => fs::rename(&self.file, &path),
        };
        let before = match is_there {
            Ok(()) => Some(Before(path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if let Some(draft) = &self.draft {
            fs::rename(&draft.path, &self.file)?;
        }
        Ok(before)
    }

    /// Makes the file what it was. The disk has just failed, and may again.
    fn bring_back(&self, before: Option<&Before>) {
        let brought = match before {
            None => remove(&self.file),
            Some(Before(path)) => fs::rename(path, &self.file),
        };
        if let Err(e) = brought.and_then(|()| settle(&self.file)) {
            let file = self.file.display();
            tracing::error!(
                "{file}: the disk failed, and that the file is as it was may not be on it: {e}; \
                look at it before the next reload or restart"
            );
        }
    }
}

impl Draft {
    fn new(path: PathBuf, file: &Path, text: &str) -> io::Result<Self> {
        if let Some(folder) = file.parent()
            && !folder.exists()
        {
            fs::create_dir(folder)?;
            settle(folder)?;
        }
        // An earlier daemon was killed.
        remove(&path)?;
        let mut options = OpenOptions::new();
        let open = options
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&path)?;
        let mut draft = Self { path, open };
        // It has the owner and the mode of the file that it will replace.
        if let Ok(before) = fs::metadata(file) {
            let mode = Permissions::from_mode(before.mode() & 0o7777);
            // Another's file may become the daemon's, which wrote it.
            let _ = fchown(&draft.open, Some(before.uid()), Some(before.gid()));
            draft.open.set_permissions(mode)?;
        }
        draft.open.write_all(text.as_bytes())?;
        draft.open.sync_all()?;
        Ok(draft)
    }
}

/// Removes files that a daemon left when it was killed while it wrote them.
pub(crate) fn sweep(topology: &Topology) {
    let Ok(entries) = fs::read_dir(topology.vm_folder()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_draft = name.to_str().is_some_and(|name| {
            name.starts_with(DRAFT.0) && name.ends_with(&format!(".yaml{}", DRAFT.1))
        });
        if is_draft && !topology.origin.covers(&entry.path()) {
            // It is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn draft_of(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{}{name}{}", DRAFT.0, DRAFT.1))
}

/// What the file is called while another takes its place.
fn before_of(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{0}{0}{name}{1}", DRAFT.0, DRAFT.1))
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Waits until the names in the folder of `path` are on the disk.
fn settle(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn cannot(what: &str, file: &Path, error: &io::Error) -> String {
    format!(
        "cannot {what} {}: {error}; nothing has been changed",
        file.display()
    )
}
