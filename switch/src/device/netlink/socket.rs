//! NETLINK_ROUTE: requests about devices, addresses and routes, and notifications about devices.
//!
//! Source: `linux/netlink.h`, `linux/rtnetlink.h`; rtnetlink(7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send,
    socket_with,
};

use super::message::{HEADER, Message, kind, messages, refusal};

/// NETLINK_ROUTE is number 0.
const ROUTE: Option<Protocol> = None;
const F_REQUEST: u16 = 1;
const F_DUMP: u16 = 0x300;
/// The objects of a dump changed while it was made.
const F_DUMP_INTR: u16 = 0x10;
const GROUP_LINK: u32 = 1;
/// The kernel writes at most 32 KiB at once.
const BUFFER: usize = 64 << 10;
/// Receive timeout; the kernel answers at once.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Attempts at a dump whose objects change meanwhile.
const ATTEMPTS: usize = 8;

/// A socket for requests.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// About the network namespace of this thread. Needs no privilege.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            ROUTE,
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWERS_WITHIN))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Requests one object; `body`: its struct and attributes.
    ///
    /// # Errors
    /// The kernel's: `ENODEV` where there is no such device.
    pub(crate) fn get(&mut self, kind: u16, body: &[u8]) -> io::Result<Message> {
        self.ask(kind, F_REQUEST, body)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            for (sequence, _, message) in messages(self.read(&mut buffer)?) {
                if sequence == self.sequence {
                    return refusal(&message).map_or(Ok(message), Err);
                }
            }
        }
    }

    /// Requests all objects of one kind.
    ///
    /// # Errors
    /// The kernel's; `Interrupted` if they change all the time.
    pub(crate) fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        for _ in 0..ATTEMPTS {
            if let Some(all) = self.dump_once(kind, body)? {
                return Ok(all);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// None: objects changed meanwhile.
    fn dump_once(&mut self, kind: u16, body: &[u8]) -> io::Result<Option<Vec<Message>>> {
        self.ask(kind, F_REQUEST | F_DUMP, body)?;
        let (mut all, mut is_disturbed) = (Vec::new(), false);
        let mut buffer = vec![0; BUFFER];
        loop {
            for (sequence, flags, message) in messages(self.read(&mut buffer)?) {
                if sequence != self.sequence {
                    continue;
                }
                is_disturbed |= flags & F_DUMP_INTR != 0;
                match message.kind {
                    kind::DONE => return Ok((!is_disturbed).then_some(all)),
                    _ => refusal(&message).map_or(Ok(()), Err)?,
                }
                all.push(message);
            }
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = u32::try_from(HEADER + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(len.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    fn read<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((n, _)) => return Ok(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Notifications about devices.
#[derive(Debug)]
pub(crate) struct Notifications(OwnedFd);

impl Notifications {
    /// Subscribes to those of this thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, ROUTE)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP_LINK))?;
        Ok(Self(socket))
    }

    /// Notifications since the last call. Some may be missing where the kernel's buffer was full.
    pub(crate) fn read(&self) -> Vec<Message> {
        let mut all = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((n, _)) => all.extend(messages(&buffer[..n]).map(|(_, _, message)| message)),
                // Some did not fit.
                Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return all,
            }
        }
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
