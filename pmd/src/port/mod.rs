//! Where frames come and go: receive queues and transmit queues, as seen from the switch. One file
//! per kind of port.
//!
//! - [`vhost`]: a guest's virtqueues
//! - [`afxdp`]: a queue of a NIC or a veth, through an AF_XDP socket
//! - [`tap`]: a tap device
//! - [`mem`]: plain memory, for tests
//! - `rxq`: those of any kind
//! - `lock`: what stands before each transmit queue
//! - `watched`: the same queues while page faults are watched for

pub mod afxdp;
pub(crate) mod lock;
pub mod mem;
mod rxq;
pub mod tap;
pub mod vhost;
pub(crate) mod watched;

pub(crate) use rxq::{Flushed, Room, RxKind, TxKind};
pub use rxq::{PortView, RxQueue, TxQueue};
