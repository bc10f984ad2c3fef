//! Where a listening socket is: whom it is for, and how it takes the place of another.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, chownat, fstat, openat, renameat_with,
};
use rustix::io::Errno;
use rustix::process::getegid;

use super::lock::lock;

/// Where a listening socket is; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: Arc<Mutex<PathBuf>>,
    /// Device and inode.
    identity: (u64, u64),
}

impl Place {
    /// A socket of this device and inode has just been made at `path`.
    pub(super) fn new(path: &Path, identity: (u64, u64)) -> Self {
        Self {
            path: Arc::new(Mutex::new(path.to_owned())),
            identity,
        }
    }

    /// Whether this daemon last put it there.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        *lock(&self.path) == path
    }

    /// Where this daemon last put it.
    pub(crate) fn path(&self) -> PathBuf {
        lock(&self.path).clone()
    }

    /// Moves the socket to `path`, in the same folder. `there`: what this daemon has there; the two
    /// exchange their paths in one step, so clients find a socket there at any time, and the same
    /// again undoes it.
    ///
    /// # Errors
    /// A sentence: there is another file, or the file system can't do it. Nothing has changed then.
    pub(crate) fn move_to(&self, path: &Path, there: Option<&Self>) -> Result<(), String> {
        let mut here = lock(&self.path);
        let say = |why: &str| format!("cannot move a socket to {}: {why}", path.display());
        let move_by = |flags| {
            renameat_with(CWD, &*here, CWD, path, flags).map_err(|e| match e {
                Errno::EXIST => say("another file is there"),
                Errno::INVAL | Errno::NOSYS => say("its file system can't exchange two files: \
                    remove the NIC by one change, and add it again by a second"),
                e => say(&io::Error::from(e).to_string()),
            })
        };
        match there.filter(|_| fs::symlink_metadata(path).is_ok()) {
            Some(there) => {
                let mut path = lock(&there.path);
                if !is_at(&path, there.identity) {
                    return Err(say("another file is there"));
                }
                move_by(RenameFlags::EXCHANGE)?;
                std::mem::swap(&mut *here, &mut *path);
            }
            None => {
                move_by(RenameFlags::NOREPLACE)?;
                path.clone_into(&mut here);
            }
        }
        Ok(())
    }

    /// Gives the socket to another group, or other permissions. Connections stay.
    ///
    /// # Errors
    /// A sentence: it is not there any more, or the group is not one that this user may give it to.
    pub(crate) fn permit(&self, group: Option<&str>, mode: u32) -> Result<(), String> {
        let path = lock(&self.path);
        let say = |why: String| format!("cannot change who may use {}: {why}", path.display());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(CWD, &*path, flags, Mode::empty());
        let handle = handle.map_err(|e| say(e.to_string()))?;
        let at = fstat(&handle).map_err(|e| say(e.to_string()))?;
        if (at.st_dev, at.st_ino) != self.identity {
            return Err(say("another file is there".to_owned()));
        }
        // Without one, it is the daemon's own.
        let gid = group.map_or_else(|| Ok(getegid().as_raw()), group_id);
        let gid = Gid::from_raw(gid.map_err(say)?);
        if at.st_gid != gid.as_raw() {
            chownat(&handle, "", None, Some(gid), AtFlags::EMPTY_PATH)
                .map_err(|e| say(e.to_string()))?;
        }
        set_mode(&handle, mode).map_err(say)
    }

    /// Does so until what is returned is dropped, unless that is kept. `before`: for whom it is
    /// now.
    ///
    /// # Errors
    /// As [`Place::permit`].
    pub(crate) fn permit_until_dropped(
        &self,
        (group, mode): (Option<&str>, u32),
        before: (Option<&str>, u32),
    ) -> Result<Permitted, String> {
        let (group_before, mode_before) = before;
        let permitted = Permitted {
            place: self.clone(),
            before: Some((group_before.map(str::to_owned), mode_before)),
        };
        self.permit(group, mode).map(|()| permitted)
    }

    /// Removes the path, if it still leads to this socket.
    pub(super) fn clear(&self) {
        let path = lock(&self.path);
        if is_at(&path, self.identity) {
            // If it can't be removed, the next start replaces it.
            let _ = fs::remove_file(&*path);
        }
    }
}

/// A socket that others may use now; dropped, it is for whom it was for.
#[derive(Debug)]
pub(crate) struct Permitted {
    place: Place,
    /// None: it is kept.
    before: Option<(Option<String>, u32)>,
}

impl Permitted {
    /// It stays as it is now.
    pub(crate) fn keep(mut self) {
        self.before = None;
    }
}

impl Drop for Permitted {
    fn drop(&mut self) {
        if let Some((group, mode)) = &self.before {
            // It was so before.
            let _ = self.place.permit(group.as_deref(), *mode);
        }
    }
}

fn is_at(path: &Path, identity: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|at| (at.dev(), at.ino()) == identity)
}

/// Sets the permissions of a file by an `O_PATH` handle.
///
/// # Errors
/// A sentence for a person.
pub(super) fn set_mode(handle: &OwnedFd, mode: u32) -> Result<(), String> {
    // Such a handle can only be changed by its name in /proc.
    let own_name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    fs::set_permissions(own_name, fs::Permissions::from_mode(mode))
        .map_err(|e| format!("cannot set mode {mode:04o}: {e}"))
}

/// The number of a group that is given by name or number.
///
/// # Errors
/// A sentence: there is no such group.
pub(super) fn group_id(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    find_group(&groups, group).ok_or_else(|| {
        format!("there is no group {group} in /etc/group: make it, or give its number")
    })
}

fn find_group(groups: &str, name: &str) -> Option<u32> {
    let mut fields = groups
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut line| (line.next() == Some(name)).then_some(line))?;
    fields.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_number() {
        let groups = "root:x:0:\nkvm:x:104:alice,bob\nbroken\n";
        assert_eq!(find_group(groups, "kvm"), Some(104));
        assert_eq!(find_group(groups, "broken"), None);
        assert_eq!(find_group(groups, "x"), None);
        assert_eq!(group_id("4711"), Ok(4711));
    }
}
