//! vhost-user messages as bytes and fds, unchecked: header, payload, ancillary fds, any of them
//! wrong if wanted.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use crate::sys;

/// Request numbers (vhost-user specification, "Front-end message types").
pub mod request {
    /// Offered features.
    pub const GET_FEATURES: u32 = 1;
    /// Chosen features.
    pub const SET_FEATURES: u32 = 2;
    /// First message of a session.
    pub const SET_OWNER: u32 = 3;
    /// All regions at once.
    pub const SET_MEM_TABLE: u32 = 5;
    /// Dirty log.
    pub const SET_LOG_BASE: u32 = 6;
    /// Ring size.
    pub const SET_VRING_NUM: u32 = 8;
    /// Ring addresses.
    pub const SET_VRING_ADDR: u32 = 9;
    /// Ring index.
    pub const SET_VRING_BASE: u32 = 10;
    /// Stops a ring.
    pub const GET_VRING_BASE: u32 = 11;
    /// Kick eventfd.
    pub const SET_VRING_KICK: u32 = 12;
    /// Call eventfd.
    pub const SET_VRING_CALL: u32 = 13;
    /// Error eventfd.
    pub const SET_VRING_ERR: u32 = 14;
    /// Offered protocol features.
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    /// Chosen protocol features.
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    /// Queue pairs.
    pub const GET_QUEUE_NUM: u32 = 17;
    /// Enables or disables a ring.
    pub const SET_VRING_ENABLE: u32 = 18;
    /// Fake RARP after migration.
    pub const SEND_RARP: u32 = 19;
    /// The guest's MTU.
    pub const NET_SET_MTU: u32 = 20;
    /// Device configuration.
    pub const GET_CONFIG: u32 = 24;
    /// Device configuration.
    pub const SET_CONFIG: u32 = 25;
    /// Region slots.
    pub const GET_MAX_MEM_SLOTS: u32 = 36;
    /// One region more.
    pub const ADD_MEM_REG: u32 = 37;
    /// One region less.
    pub const REM_MEM_REG: u32 = 38;
}

/// Header bytes: request, flags, size.
pub const HEADER_BYTES: usize = 12;
/// Flags: version 1.
pub const VERSION: u32 = 1;
/// Flags: this is an answer.
pub const REPLY: u32 = 4;
/// Flags: an answer is wanted.
pub const NEED_REPLY: u32 = 8;
/// Longest answer that `read_reply` takes.
const REPLY_MOST: u32 = 4096;

/// A message, right or wrong.
#[derive(Clone, Debug)]
pub struct Message {
    /// Request number.
    pub request: u32,
    /// Version and flags.
    pub flags: u32,
    /// What the header says of the payload's length; `new` says the truth.
    pub size: u32,
    /// The payload.
    pub payload: Vec<u8>,
    /// Fds that go with it. Not owned: they have to stay open until it is sent.
    pub fds: Vec<RawFd>,
}

impl Message {
    /// A well-formed message.
    pub fn new(request: u32, payload: &[u8]) -> Self {
        let size = u32::try_from(payload.len()).expect("a payload below 4 GiB");
        Self {
            request,
            flags: VERSION,
            size,
            payload: payload.to_vec(),
            fds: Vec::new(),
        }
    }

    /// One whose payload is a 64-bit word.
    pub fn with_u64(request: u32, value: u64) -> Self {
        Self::new(request, &value.to_le_bytes())
    }

    /// One about a virtqueue: index and number.
    pub fn vring(request: u32, vring: u32, num: u32) -> Self {
        Self::new(
            request,
            &(u64::from(num) << 32 | u64::from(vring)).to_le_bytes(),
        )
    }

    /// SET_VRING_ADDR.
    pub fn vring_addr(vring: u32, desc: u64, used: u64, avail: u64) -> Self {
        let mut payload = u64::from(vring).to_le_bytes().to_vec();
        [desc, used, avail, 0]
            .iter()
            .for_each(|word| payload.extend(word.to_le_bytes()));
        Self::new(request::SET_VRING_ADDR, &payload)
    }

    /// SET_MEM_TABLE; each region is (gpa, length, uva, offset) and its fd. The number of regions
    /// is what `count` says.
    pub fn mem_table(count: u32, regions: &[([u64; 4], RawFd)]) -> Self {
        let mut payload = u64::from(count).to_le_bytes().to_vec();
        regions
            .iter()
            .flat_map(|(words, _)| words)
            .for_each(|word| payload.extend(word.to_le_bytes()));
        Self::new(request::SET_MEM_TABLE, &payload).fds(regions.iter().map(|&(_, fd)| fd))
    }

    /// ADD_MEM_REG or REM_MEM_REG of (gpa, length, uva, offset).
    pub fn mem_region(request: u32, words: [u64; 4], fd: Option<RawFd>) -> Self {
        let mut payload = vec![0; 8];
        words
            .iter()
            .for_each(|word| payload.extend(word.to_le_bytes()));
        Self::new(request, &payload).fds(fd)
    }

    /// With fds.
    #[must_use]
    pub fn fds(mut self, fds: impl IntoIterator<Item = RawFd>) -> Self {
        self.fds = fds.into_iter().collect();
        self
    }

    /// With other flags.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// With another size in the header.
    #[must_use]
    pub fn size(mut self, size: u32) -> Self {
        self.size = size;
        self
    }

    /// Asking for an answer, or not.
    #[must_use]
    pub fn need_reply(self, on: bool) -> Self {
        let flags = if on {
            self.flags | NEED_REPLY
        } else {
            self.flags & !NEED_REPLY
        };
        self.flags(flags)
    }

    /// Header and payload as sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = [self.request, self.flags, self.size]
            .map(u32::to_le_bytes)
            .concat();
        [header.as_slice(), &self.payload].concat()
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// What the socket says, EPIPE when it's closed.
    pub fn send(&self, stream: &UnixStream) -> io::Result<()> {
        self.send_first(stream, usize::MAX)
    }

    /// Sends its first `n` bytes at most, with the fds.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send_first(&self, stream: &UnixStream, n: usize) -> io::Result<()> {
        let bytes = self.to_bytes();
        let mut rest = &bytes[..n.min(bytes.len())];
        let mut fds = self.fds.as_slice();
        while !rest.is_empty() {
            let sent = sys::send_with_fds(&stream.as_raw_fd(), rest, fds)?;
            (rest, fds) = (&rest[sent..], &[]);
        }
        Ok(())
    }
}

/// Reads one answer: its request number and payload. Fds that come with it are lost.
///
/// # Errors
/// At the end of the stream, or for an answer that is none.
pub fn read_reply(mut stream: &UnixStream) -> io::Result<(u32, Vec<u8>)> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let word =
        |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let (request, flags, size) = (word(0), word(4), word(8));
    if flags & REPLY == 0 || size > REPLY_MOST {
        return Err(io::Error::other(format!(
            "no answer: request {request}, flags {flags:#x}, {size} bytes"
        )));
    }
    let mut payload = vec![0; size as usize];
    stream.read_exact(&mut payload)?;
    Ok((request, payload))
}

/// Sends a request without payload, and reads the 64-bit word that answers it.
///
/// # Errors
/// As for [`read_reply`]; also for an answer to something else.
pub fn ask_u64(stream: &UnixStream, request: u32) -> io::Result<u64> {
    Message::new(request, &[]).send(stream)?;
    let (answered, payload) = read_reply(stream)?;
    match <[u8; 8]>::try_from(payload) {
        Ok(bytes) if answered == request => Ok(u64::from_le_bytes(bytes)),
        _ => Err(io::Error::other(format!(
            "request {request} was answered as {answered}"
        ))),
    }
}
