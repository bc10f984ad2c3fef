//! Unix sockets at a path: never accessible to other users than intended, connected to without
//! blocking, removed only if they are this daemon's.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, chownat, fchmod, fstat, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::{getegid, geteuid};

use super::lock::lock;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// Names that are tried for a socket that is made beside another.
const BESIDE_MAX: u32 = 1000;

/// A listening socket. Dropping it removes its path, if that still leads to this socket.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: UnixListener,
    place: Place,
}

impl Listening {
    /// Creates the socket `path` for `whom` and listens on it. Replaces a socket without a
    /// listener, and nothing else.
    ///
    /// Group and mode are set before the first connection: no one can connect before the socket
    /// listens. They are set on the socket itself, not by its path: where guests' users may write
    /// to the folder, the path could be a link to another file by then.
    ///
    /// # Errors
    /// A sentence for a person.
    pub(crate) fn open(
        whom: &str,
        path: &Path,
        group: Option<&str>,
        mode: u32,
    ) -> Result<Self, String> {
        remove_stale(path)
            .and_then(|()| Self::open_at(path, group, mode))
            .map_err(|why| cannot_listen(whom, path, &why))
    }

    /// The same beside a path where this daemon listens already: by [`Place::take`] it takes the
    /// other's place, and clients find a socket there at any time.
    ///
    /// # Errors
    /// A sentence for a person.
    pub(crate) fn open_beside(
        whom: &str,
        path: &Path,
        group: Option<&str>,
        mode: u32,
    ) -> Result<Self, String> {
        // Short, since the length of a socket's path is limited.
        let beside = (0..BESIDE_MAX)
            .map(|n| path.with_file_name(format!(".{n}")))
            .find(|beside| remove_stale(beside).is_ok())
            .ok_or_else(|| "there are too many files beside it".to_owned());
        beside
            .and_then(|beside| Self::open_at(&beside, group, mode))
            .map_err(|why| cannot_listen(whom, path, &why))
    }

    fn open_at(path: &Path, group: Option<&str>, mode: u32) -> Result<Self, String> {
        let gid = group.map(group_id).transpose()?;
        let address = address(path)?;
        let socket = new_socket().map_err(|e| explain(e.kind(), path, &e))?;
        // Binding gives the path the permissions of the socket: none at first.
        fchmod(&socket, Mode::empty()).map_err(|e| e.to_string())?;
        bind(&socket, &address).map_err(|e| explain_errno(e, path))?;
        let handle = openat(
            CWD,
            path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let handle = handle.map_err(|e| explain_errno(e, path))?;
        let made = fstat(&handle).map_err(|e| e.to_string())?;
        let kind = FileType::from_raw_mode(made.st_mode);
        if kind != FileType::Socket
            || made.st_mode & 0o777 != 0
            || made.st_uid != geteuid().as_raw()
        {
            return Err(
                "another file was put there meanwhile: check who may write to this folder"
                    .to_owned(),
            );
        }
        // From here on a failure removes the path again.
        let listening = Self {
            listener: UnixListener::from(socket),
            place: Place {
                path: Arc::new(Mutex::new(path.to_owned())),
                identity: (made.st_dev, made.st_ino),
            },
        };
        if let Some(gid) = gid {
            let given = chownat(
                &handle,
                "",
                None,
                Some(Gid::from_raw(gid)),
                AtFlags::EMPTY_PATH,
            );
            let why =
                |e: Errno| format!("cannot give it to group {}: {e}", group.unwrap_or_default());
            given.map_err(why)?;
        }
        set_mode(&handle, mode)?;
        listen(&listening.listener, BACKLOG).map_err(|e| e.to_string())?;
        Ok(listening)
    }

    /// The socket. It does not block.
    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }
}

/// Where a listening socket is; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: Arc<Mutex<PathBuf>>,
    /// Device and inode.
    identity: (u64, u64),
}

impl Place {
    /// Moves the socket to `path`, in the same folder, in place of what is there. Nothing, if it is
    /// there already.
    ///
    /// # Errors
    /// As `rename(2)`.
    pub(crate) fn take(&self, path: &Path) -> io::Result<()> {
        let mut from = lock(&self.path);
        if *from != path {
            fs::rename(&*from, path)?;
            path.clone_into(&mut from);
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
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Place { path, identity } = &self.place;
        let path = lock(path);
        let is_ours =
            fs::symlink_metadata(&*path).is_ok_and(|at| (at.dev(), at.ino()) == *identity);
        if is_ours {
            // If it can't be removed, the next start replaces it.
            let _ = fs::remove_file(&*path);
        }
    }
}

/// Connects without waiting to be accepted.
///
/// # Errors
/// As `connect(2)`; a sentence when the path is too long.
pub(crate) fn open_stream(path: &Path) -> io::Result<UnixStream> {
    let address = address(path).map_err(io::Error::other)?;
    let socket = new_socket()?;
    connect(&socket, &address)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Whether the peer has closed.
pub(crate) fn is_hung_up(stream: &UnixStream) -> bool {
    let gone = PollFlags::HUP | PollFlags::RDHUP;
    let mut fds = [PollFd::new(stream, gone)];
    poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().intersects(gone)
}

fn cannot_listen(whom: &str, path: &Path, why: &str) -> String {
    format!("{whom}: cannot listen on {}: {why}", path.display())
}

fn set_mode(handle: &OwnedFd, mode: u32) -> Result<(), String> {
    // An O_PATH handle can only be changed by its name in /proc.
    let own_name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    fs::set_permissions(own_name, fs::Permissions::from_mode(mode))
        .map_err(|e| format!("cannot set mode {mode:04o}: {e}"))
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn address(path: &Path) -> Result<SocketAddrUnix, String> {
    let n_bytes = path.as_os_str().len();
    SocketAddrUnix::new(path)
        .map_err(|_| format!("a socket's path has at most 107 bytes, this one {n_bytes}"))
}

/// Removes the socket of a daemon that exited without cleaning up.
fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !there.file_type().is_socket() {
        let what = if there.is_dir() {
            "a directory"
        } else if there.is_symlink() {
            "a symbolic link"
        } else {
            "a file that is not a socket"
        };
        return Err(format!(
            "there is {what} at this path: remove it, or choose another path"
        ));
    }
    match open_stream(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| {
                format!("a socket without a listener is in the way and cannot be removed: {e}")
            })
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(
            "another user's socket is at this path: remove it, or choose another path".to_owned(),
        ),
        _ => Err("another program listens on it: stop it, or choose another path".to_owned()),
    }
}

fn explain_errno(error: Errno, path: &Path) -> String {
    let error = io::Error::from(error);
    explain(error.kind(), path, &error)
}

fn explain(kind: io::ErrorKind, path: &Path, error: &io::Error) -> String {
    let folder = path.parent().unwrap_or(Path::new("/")).display();
    match kind {
        io::ErrorKind::NotFound => {
            format!("there is no folder {folder}: make it, or choose another path")
        }
        io::ErrorKind::PermissionDenied => format!("this user may not write to {folder}"),
        io::ErrorKind::NotADirectory => format!("{folder} is not a folder"),
        _ => error.to_string(),
    }
}

/// The number of a group that is given by name or number.
fn group_id(group: &str) -> Result<u32, String> {
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
#[path = "socket_tests.rs"]
mod tests;
