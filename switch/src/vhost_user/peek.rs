//! Looks at a message before it is read: whether all of it has come, and which files it brings.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recv, recvmsg};

use super::end::End;
use super::header::{BODY_MAX, HEADER_BYTES, Header};

/// Files that may come with one message: the kernel's limit.
const FILES_MAX: usize = 253;

/// What has arrived of the next message.
pub(super) enum Peeked {
    /// Nothing yet.
    Nothing,
    /// Not all of it.
    Part,
    /// All of it, with copies of its files.
    Whole(Header, Vec<OwnedFd>),
}

/// Peeks at what has arrived.
///
/// # Errors
/// How the connection ends: the front-end has gone, or sent no vhost-user message.
pub(super) fn peek(stream: &UnixStream) -> Result<Peeked, End> {
    let mut bytes = [0; HEADER_BYTES + BODY_MAX];
    let n = match recv(stream, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((0, _)) => return Err(End::Gone),
        Ok((n, _)) => n,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Peeked::Nothing),
        Err(_) => return Err(End::Gone),
    };
    // A part of a message is peeked at repeatedly; copies of its files would have to be closed each
    // time.
    let Some(header) = parse(&bytes[..n])? else {
        return Ok(Peeked::Part);
    };
    // If it has none, these may be the next message's: peeking can't tell, reading will.
    let files = peek_files(stream, &mut bytes[..header.total_bytes()]).map_err(|_| End::Gone)?;
    Ok(Peeked::Whole(header, files))
}

/// The message that these bytes begin with. None: they are a part of one.
fn parse(bytes: &[u8]) -> Result<Option<Header>, End> {
    let Some((header, body)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let header = Header::parse(*header).map_err(End::Closed)?;
    if bytes.len() < header.total_bytes() {
        return Ok(None);
    }
    header.check_body(body).map_err(End::Closed)?;
    Ok(Some(header))
}

/// Copies of the files that came with the first `bytes.len()` bytes, which are not read.
fn peek_files(stream: &UnixStream, bytes: &mut [u8]) -> rustix::io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    recvmsg(stream, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let files = |message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    };
    Ok(control.drain().filter_map(files).flatten().collect())
}

/// Reads a complete message and drops it; its files were copied. False: it wasn't complete.
pub(super) fn discard(stream: &UnixStream, header: Header) -> bool {
    let mut bytes = [0; HEADER_BYTES + BODY_MAX];
    let bytes = &mut bytes[..header.total_bytes()];
    let mut n = 0;
    while n < bytes.len() {
        match recv(stream, &mut bytes[n..], RecvFlags::DONTWAIT) {
            Ok((more, _)) if more > 0 => n += more,
            _ => return false,
        }
    }
    true
}
