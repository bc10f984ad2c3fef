//! AF_XDP sockets.
//!
//! - [`rings`]: a socket's four rings; [`halves`]: who owns what is in them
//! - [`peer`]: the kernel's half, in memory

pub mod halves;
pub mod peer;
pub mod rings;

pub(crate) use rings::{SocketSpec, TxWaker, open};
