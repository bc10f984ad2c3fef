//! AF_XDP sockets.
//!
//! - `rings`: a socket's four rings; `socket`: how it is opened
//! - `frame`: a frame of its UMEM; [`halves`]: the owner of each
//! - `peer`, `peer_rings`: the kernel's half, in memory

mod frame;
pub mod halves;
#[cfg(any(test, feature = "test-support"))]
pub mod peer;
#[cfg(any(test, feature = "test-support"))]
mod peer_rings;
mod rings;
mod socket;

pub(crate) use frame::{PACKET_MAX, RxFrame};
pub(crate) use halves::{XskRx, XskTx};
pub(crate) use rings::TxWaker;
pub(crate) use socket::{SocketSpec, open};
