//! NETLINK_ROUTE: questions about devices, addresses and routes, and news of devices. Everything the kernel answers is
//! bytes, looked through here; what they mean is for `device` and `guard`.
//!
//! Source: `linux/netlink.h`, `linux/rtnetlink.h`; rtnetlink(7).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// Kinds of message.
pub(crate) mod kind {
    pub(crate) const ERROR: u16 = 2;
    pub(crate) const DONE: u16 = 3;
    pub(crate) const NEW_LINK: u16 = 16;
    pub(crate) const DEL_LINK: u16 = 17;
    pub(crate) const GET_LINK: u16 = 18;
    pub(crate) const GET_ADDR: u16 = 22;
    pub(crate) const GET_ROUTE: u16 = 26;
}

/// NETLINK_ROUTE is number 0.
const ROUTE: Option<Protocol> = None;
const F_REQUEST: u16 = 1;
const F_DUMP: u16 = 0x300;
/// What a dump is about changed while it was made.
const F_DUMP_INTR: u16 = 0x10;
const HEADER: usize = 16;
const GROUP_LINK: u32 = 1;
/// The kernel writes at most 32 KiB at once.
const BUFFER: usize = 64 << 10;
/// It answers at once; this is for a kernel that doesn't.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How often a dump that was disturbed is asked for again.
const ATTEMPTS: usize = 8;

/// One message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    /// Behind the header: a struct by the kind, then attributes.
    pub(crate) body: Vec<u8>,
}

/// A socket to ask by.
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
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, ROUTE)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWERS_WITHIN))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// One thing: the body is its struct and attributes.
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

    /// All things of one kind.
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

    /// None: disturbed.
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

/// News of devices, as they come.
#[derive(Debug)]
pub(crate) struct News(OwnedFd);

impl News {
    /// From now on, of the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, ROUTE)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUP_LINK))?;
        Ok(Self(socket))
    }

    /// What has come since this was asked before. It may have gaps, where the kernel had no room.
    pub(crate) fn read(&self) -> Vec<Message> {
        let mut news = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((n, _)) => news.extend(messages(&buffer[..n]).map(|(_, _, message)| message)),
                // Some did not fit.
                Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return news,
            }
        }
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sequence number, flags and message, one after another. Ends at the first that isn't whole.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u32, u16, Message)> + '_ {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let whole = bytes.get(..len).filter(|whole| whole.len() >= HEADER)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        let message = Message { kind: u16_at(whole, 4)?, body: whole[HEADER..].to_vec() };
        Some((u32_at(whole, 8)?, u16_at(whole, 6)?, message))
    })
}

/// The error that a message is, if it is one.
fn refusal(message: &Message) -> Option<io::Error> {
    if message.kind != kind::ERROR {
        return None;
    }
    let code = u32_at(&message.body, 0).unwrap_or(0).cast_signed();
    (code != 0).then(|| io::Error::from_raw_os_error(code.wrapping_neg()))
}

/// The attributes in `bytes`: number and value. Ends at the first that isn't whole.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(4..len)?;
        // The two highest bits are flags.
        let number = u16_at(bytes, 2)? & 0x3fff;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((number, value))
    })
}

/// An attribute as bytes, with what is needed to align the next.
pub(crate) fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), number.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The 16 bits at this place, in the machine's order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The 32 bits at this place, in the machine's order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The 64 bits at this place, in the machine's order.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Text that ends with a zero, or with the bytes.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back_as_they_were_written() {
        let bytes = [attribute(3, b"eth1\0"), attribute(4, &7u32.to_ne_bytes()), attribute(5, b"")].concat();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(3, &b"eth1\0"[..]), (4, &7u32.to_ne_bytes()), (5, b"")]);
        assert_eq!(text(read[0].1), "eth1");
    }

    #[test]
    fn broken_bytes_end_the_list() {
        let whole = attribute(3, b"eth1");
        for bytes in [&whole[..6], &[3, 0, 1, 0, 9, 9], &[255, 255, 1, 0], &[0; 8], &[4]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
        for bytes in [&[16, 0, 0, 0][..], &[0; 64], &[255; 64], &[8, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(messages(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn refusal_carries_the_kernels_number() {
        let message = |code: i32| Message { kind: kind::ERROR, body: code.to_ne_bytes().to_vec() };
        assert_eq!(refusal(&message(-19)).unwrap().raw_os_error(), Some(19));
        assert!(refusal(&message(0)).is_none(), "an acknowledgement");
    }
}
