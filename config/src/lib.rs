//! Text of the topology file to checked values.
//!
//! [`load`] reads the file and those it includes and returns a [`Topology`], in which nothing can be wrong that the
//! text alone could show, or a [`Report`] with all mistakes at once. Called from control threads only; never panics
//! over what a user wrote.
//!
//! In reading order:
#![forbid(unsafe_code)]

/// The checked values: what the daemon is given.
mod topology;
/// Quantities as people write them: `1gbit`, `200kpps`, `64KiB`, a CPU, a MAC address.
mod units;

pub use topology::{
    Control, DEFAULT_CONTROL_PATH, DEFAULT_FLOWS, DEFAULT_MTU, DEFAULT_SOCKET_MODE, Idle, Listens, MacPolicy, Network,
    Nic, PortKind, Topology, Vm, port_name,
};
pub use units::{BadValue, BitsPerSec, Bytes, CoreId, MacAddr, PacketsPerSec};
