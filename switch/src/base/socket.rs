//! Unix sockets at a path: never accessible to other users than intended, connected to without
//! blocking, removed only if they are this daemon's.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, chownat, fchmod, fstat, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::process::geteuid;

use super::place::{Place, group_id, set_mode};

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

    /// The same beside a path where this daemon listens already: by [`Place::move_to`] it takes the
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
            .map(|n| path.with_file_name(beside(n)))
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
        let (handle, identity) = made_at(path).inspect_err(|_| remove_unfinished(path))?;
        // From here on a failure removes the path again.
        let listening = Self {
            listener: UnixListener::from(socket),
            place: Place::new(path, identity),
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

impl Drop for Listening {
    fn drop(&mut self) {
        self.place.clear();
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

/// The socket that was just bound to `path`: a handle, and its device and inode.
fn made_at(path: &Path) -> Result<(OwnedFd, (u64, u64)), String> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(CWD, path, flags, Mode::empty()).map_err(|e| explain_errno(e, path))?;
    let made = fstat(&handle).map_err(|e| e.to_string())?;
    let kind = FileType::from_raw_mode(made.st_mode);
    if is_unfinished(kind == FileType::Socket, made.st_mode, made.st_uid) {
        return Ok((handle, (made.st_dev, made.st_ino)));
    }
    Err("another file was put there meanwhile: check who may write to this folder".to_owned())
}

/// Whether this is a socket of this user that nobody may use yet.
fn is_unfinished(is_socket: bool, mode: u32, uid: u32) -> bool {
    is_socket && mode & 0o777 == 0 && uid == geteuid().as_raw()
}

/// Removes a socket that was bound, and that nobody may use yet.
fn remove_unfinished(path: &Path) {
    let is_so = |at: fs::Metadata| is_unfinished(at.file_type().is_socket(), at.mode(), at.uid());
    if fs::symlink_metadata(path).is_ok_and(is_so) {
        let _ = fs::remove_file(path);
    }
}

/// Removes the sockets in a folder that a daemon made beside others and was killed before they took
/// their places.
pub(crate) fn remove_left_beside(folder: &Path) {
    let is_left = |n: &u32| fs::symlink_metadata(folder.join(beside(*n))).is_ok();
    for n in (0..BESIDE_MAX).take_while(is_left) {
        // One of another daemon, or not a socket, is left alone.
        let _ = remove_stale(&folder.join(beside(n)));
    }
}

/// Names of sockets that are made beside others.
fn beside(n: u32) -> String {
    format!(".{n}")
}

fn cannot_listen(whom: &str, path: &Path, why: &str) -> String {
    format!("{whom}: cannot listen on {}: {why}", path.display())
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
///
/// # Errors
/// A sentence: there is something else. It is left alone.
pub(crate) fn remove_stale(path: &Path) -> Result<(), String> {
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

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
