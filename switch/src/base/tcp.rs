//! A TCP address that is listened on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// A listening socket, which does not block. It is closed with the last of its clones.
#[derive(Clone, Debug)]
pub(crate) struct TcpListening {
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

impl TcpListening {
    /// Listens on `address`, for `whom`.
    ///
    /// # Errors
    /// A sentence for a person.
    pub(crate) fn open(whom: &str, address: SocketAddr) -> Result<Self, String> {
        Self::open_at(address, false).map_err(|e| {
            format!(
                "{whom}: cannot listen on {address}: {}",
                explain(&e, address)
            )
        })
    }

    /// The same, while this daemon listens on `old`, perhaps on the same port of other addresses of
    /// this host.
    ///
    /// # Errors
    /// A sentence for a person.
    pub(crate) fn open_beside(whom: &str, address: SocketAddr, old: &Self) -> Result<Self, String> {
        if address.port() != old.address.port() {
            return Self::open(whom, address);
        }
        let say = |e: &io::Error| {
            format!(
                "{whom}: cannot listen on {address}: {}",
                explain(e, address)
            )
        };
        // The kernel lets two sockets have a port only if both permit it. A program that doesn't
        // ask to share it is refused as before; one of this same user that does is not, since the
        // kernel remembers that for the port.
        set_socket_reuseport(&old.listener, true).map_err(|e| say(&e.into()))?;
        let opened = Self::open_at(address, true);
        let forbidden = set_socket_reuseport(&old.listener, false);
        let new = opened.map_err(|e| say(&e))?;
        forbidden
            .and_then(|()| set_socket_reuseport(&new.listener, false))
            .map_err(|e| say(&e.into()))?;
        Ok(new)
    }

    fn open_at(address: SocketAddr, shares_port: bool) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        // Connections of an earlier daemon may be in TIME_WAIT.
        set_socket_reuseaddr(&socket, true)?;
        set_socket_reuseport(&socket, shares_port)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        let listener = TcpListener::from(socket);
        Ok(Self {
            address: listener.local_addr()?,
            listener: Arc::new(listener),
        })
    }

    /// The socket.
    pub(crate) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn explain(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it, or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "this host has no address {}: write one that it has",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "this user may not listen on port {}: choose one from 1024 on",
            address.port()
        ),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn any(port: u16) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], port))
    }

    #[test]
    fn address_that_cannot_be_had_is_refused_with_a_sentence() {
        let first = TcpListening::open("metrics", local(0)).unwrap();
        let why = TcpListening::open("metrics", first.address()).unwrap_err();
        assert!(
            why.contains("another program listens there") && why.contains("127.0.0.1:"),
            "{why}"
        );
        // Of a network for documentation.
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 9477));
        let why = TcpListening::open("metrics", elsewhere).unwrap_err();
        assert!(why.contains("no address 192.0.2.1"), "{why}");
    }

    #[test]
    fn all_addresses_take_the_place_of_one_and_back_on_the_same_port() {
        let one = TcpListening::open("metrics", local(0)).unwrap();
        let port = one.address().port();
        let all = TcpListening::open_beside("metrics", any(port), &one).unwrap();
        drop(one);
        TcpStream::connect(local(port)).unwrap();
        let one = TcpListening::open_beside("metrics", local(port), &all).unwrap();
        drop(all);
        TcpStream::connect(local(port)).unwrap();
        assert!(TcpStream::connect(SocketAddr::from(([127, 0, 0, 2], port))).is_err());
        drop(one);
    }

    #[test]
    fn port_is_in_use_for_other_programs_afterwards() {
        let one = TcpListening::open("metrics", local(0)).unwrap();
        let port = one.address().port();
        let all = TcpListening::open_beside("metrics", any(port), &one).unwrap();
        for address in [
            local(port),
            any(port),
            SocketAddr::from(([127, 0, 0, 9], port)),
        ] {
            assert!(TcpListening::open_at(address, false).is_err(), "{address}");
        }
        drop(all);
        // What failed has left the first as it was.
        let other = TcpListening::open("metrics", SocketAddr::from(([127, 0, 0, 8], 0))).unwrap();
        assert!(TcpListening::open_beside("metrics", other.address(), &one).is_err());
        assert!(TcpListening::open_at(any(port), false).is_err());
        TcpStream::connect(local(port)).unwrap();
    }
}
