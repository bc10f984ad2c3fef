//! Where frames come and go: receive queues and transmit queues, as seen from the switch. One file
//! per kind of port.
//!
//! - [`vhost`]: a guest's virtqueues
//! - [`afxdp`]: a queue of a NIC or a veth, through an AF_XDP socket
//! - [`tap`]: a tap device
//! - `mem`: plain memory, for tests
//! - `rxq`, `txq`: queues of any kind; `room`: what becomes of frames at the latter
//! - `arm`: a receive queue before its core sleeps
//! - `watched`: the same queues while page faults are watched for
//! - `lock`: the lock of a transmit queue
//! - `view`: what every core knows of a port; `views`: of all of them, and where in them a frame
//!   goes

pub mod afxdp;
mod arm;
pub(crate) mod lock;
#[cfg(any(test, feature = "test-support"))]
pub mod mem;
mod room;
mod rxq;
pub mod tap;
mod txq;
pub mod vhost;
mod view;
pub(crate) mod views;
mod watched;

pub(crate) use room::{Flushed, Room};
pub use rxq::RxQueue;
pub use txq::TxQueue;
pub use view::PortView;
