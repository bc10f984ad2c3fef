//! For tests: a file whose last close takes as long as one wants.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// A TCP socket with data that nobody takes, whose close waits for that for `seconds`.
pub(crate) fn lingering_socket(seconds: u64) -> OwnedFd {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // The other end stays open, and is never read.
    std::mem::forget(listener.accept().unwrap());
    stream.set_nonblocking(true).unwrap();
    let error = std::iter::repeat_with(|| stream.write_all(&[0; 65536]))
        .find_map(Result::err)
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    stream.set_nonblocking(false).unwrap();
    set_socket_linger(&stream, Some(Duration::from_secs(seconds))).unwrap();
    stream.into()
}
