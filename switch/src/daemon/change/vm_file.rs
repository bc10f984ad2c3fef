//! The files that have one VM each: written whole, so that each is there as it was or as it is to
//! be, whenever the daemon or the host ends.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use config::Topology;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::api::change::FileEdit;
use crate::control::changes::NotChanged;

/// What a file that is not complete yet is called beside the one that it will be.
const DRAFT: (&str, &str) = (".", ".draft");
/// Mode of a new file, less what the daemon's umask takes away.
const MODE: u32 = 0o644;

/// A change of one file, of which nothing is to be seen yet.
#[derive(Debug)]
pub(super) struct FileChange {
    /// As the topology calls it.
    named: PathBuf,
    to: To,
}

/// What is to become of a file.
#[derive(Debug)]
enum To {
    /// The draft becomes the file that the name leads to, links followed.
    Written { draft: Draft, file: PathBuf },
    /// The name is removed; if it is a link, what it leads to stays.
    Removed,
}

/// A file that is complete on the disk under another name; dropped, that name is removed.
#[derive(Debug)]
struct Draft {
    path: PathBuf,
    open: File,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has become the file, or what is there now was the file before.
        let _ = fs::remove_file(&self.path);
    }
}

/// Where the file is that was there before; dropped, it is removed. It is the same file and not a
/// copy of it, so that nothing has to be written to have it back, and it is known again by what is
/// noted of it.
#[derive(Debug)]
enum Former {
    /// There was none.
    Absent,
    /// Under the draft's name, which the draft removes.
    AtDraft,
    At(PathBuf),
}

impl Drop for Former {
    fn drop(&mut self) {
        if let Self::At(path) = self {
            // It is the file again, or of no use.
            let _ = fs::remove_file(path);
        }
    }
}

impl FileChange {
    /// `text`: what the file is to say; none: it is to be removed.
    ///
    /// # Errors
    /// Why it can't be written. Nothing has changed then.
    pub(super) fn new(named: &Path, text: Option<&str>, of: &Topology) -> Result<Self, NotChanged> {
        check(named, of)?;
        let to = match text {
            None => To::Removed,
            Some(text) => {
                let file = target_of(named);
                let draft = Draft::new(draft_of(&file), &file, text);
                let draft = draft.map_err(|e| cannot("write", &file, &e))?;
                To::Written { draft, file }
            }
        };
        let named = named.to_owned();
        Ok(Self { named, to })
    }

    /// Has the change seen: the file is the new one, on the disk as well, and `topology` knows it.
    ///
    /// # Errors
    /// The disk failed, or somebody has edited the file meanwhile. It is as it was then, as far as
    /// the disk allows.
    pub(super) fn make(self, topology: &mut Topology) -> Result<(), NotChanged> {
        let file = self.place();
        let former = self.put_in_place();
        let former = former.map_err(|e| cannot("replace", file, &e))?;
        if !self.is_as_read(&former, topology) {
            self.bring_back(&former);
            return Err(NotChanged::Edited {
                file: self.named.display().to_string(),
                how: FileEdit::Changed,
            });
        }
        let settled = settle(file).and_then(|()| match &self.to {
            To::Written { draft, .. } => topology.origin.written(&self.named, &draft.open),
            To::Removed => {
                topology.origin.removed(&self.named);
                Ok(())
            }
        });
        settled.map_err(|e| {
            self.bring_back(&former);
            cannot("replace", file, &e)
        })
    }

    /// What another takes the place of.
    fn place(&self) -> &Path {
        match &self.to {
            To::Written { file, .. } => file,
            To::Removed => &self.named,
        }
    }

    /// Has the change seen. The file as it was is still there.
    fn put_in_place(&self) -> io::Result<Former> {
        let beside = before_of(self.place());
        // An earlier daemon was killed.
        remove(&beside)?;
        match &self.to {
            To::Removed => match fs::rename(&self.named, &beside) {
                Ok(()) => Ok(Former::At(beside)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Former::Absent),
                Err(e) => Err(e),
            },
            To::Written { draft, file } => match exchange(&draft.path, file) {
                Ok(()) => Ok(Former::AtDraft),
                Err(Errno::NOENT) => {
                    renameat_with(CWD, &draft.path, CWD, file, RenameFlags::NOREPLACE)?;
                    Ok(Former::Absent)
                }
                // Its file system can't.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    let former = match fs::hard_link(file, &beside) {
                        Ok(()) => Former::At(beside),
                        Err(e) if e.kind() == io::ErrorKind::NotFound => Former::Absent,
                        Err(e) => return Err(e),
                    };
                    fs::rename(&draft.path, file)?;
                    Ok(former)
                }
                Err(e) => Err(e.into()),
            },
        }
    }

    /// Whether the file that was there is the one that the topology knows.
    fn is_as_read(&self, former: &Former, topology: &Topology) -> bool {
        let path = match (former, &self.to) {
            (Former::At(path), _) => path,
            (Former::AtDraft, To::Written { draft, .. }) => &draft.path,
            _ => return true,
        };
        fs::metadata(path).is_ok_and(|found| topology.origin.is_as_read(&self.named, &found))
    }

    /// Makes the file what it was. The disk may have just failed, and may again.
    fn bring_back(&self, former: &Former) {
        let file = self.place();
        let brought = match (former, &self.to) {
            (Former::At(path), _) => fs::rename(path, file),
            (Former::AtDraft, To::Written { draft, .. }) => fs::rename(&draft.path, file),
            _ => remove(file),
        };
        if let Err(e) = brought.and_then(|()| settle(file)) {
            tracing::error!(
                "{}: the disk failed, and that the file is as it was may not be on it: {e}; look \
                at it before the next reload or restart",
                file.display()
            );
        }
    }
}

/// Whether the file of this name can be written so that nobody sees it half done.
///
/// # Errors
/// It can't: `include` covers the names that it has until then.
pub(super) fn check(named: &Path, of: &Topology) -> Result<(), NotChanged> {
    let file = target_of(named);
    let beside = [draft_of(&file), before_of(&file), before_of(named)];
    let Some(covered) = beside.iter().find(|path| of.origin.covers(path)) else {
        return Ok(());
    };
    let why = format!(
        "{} can't be written safely, since `include` covers {} as well, which it is called until \
        it is complete: write \"vms.d/*.yaml\" there",
        file.display(),
        covered.display()
    );
    Err(NotChanged::CannotWrite {
        why,
        is_full: false,
    })
}

/// Gives two files each other's name in one step.
fn exchange(a: &Path, b: &Path) -> Result<(), Errno> {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
}

/// What a name leads to, or will.
fn target_of(named: &Path) -> PathBuf {
    fs::canonicalize(named).unwrap_or_else(|_| named.to_owned())
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
    let known = topology.origin.paths().flat_map(|named| {
        let file = target_of(named);
        [draft_of(&file), before_of(&file), before_of(named)]
    });
    // Those of VMs that were to be added, or have been removed.
    let entries = fs::read_dir(topology.vm_folder()).into_iter().flatten();
    let others = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?;
        let is_draft = name.starts_with(DRAFT.0) && name.ends_with(&format!(".yaml{}", DRAFT.1));
        is_draft.then(|| entry.path())
    });
    for path in known
        .chain(others)
        .filter(|path| !topology.origin.covers(path))
    {
        // It is in nobody's way.
        let _ = fs::remove_file(path);
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

fn cannot(what: &str, file: &Path, error: &io::Error) -> NotChanged {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    NotChanged::CannotWrite {
        why: format!("cannot {what} {}: {error}", file.display()),
        is_full: full.contains(&error.kind()),
    }
}
