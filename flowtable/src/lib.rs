//! Header bytes to action: what to do with packets like this one.
//!
//! No ports, no clock, no memory of a guest: a burst's private headers go in, an [`Action`] for each comes out.
//! In reading order:
//!
//! - [`action`]: what a decision can be, and every reason to drop
//! - [`header`]: the private header of a frame, and what is parsed of it
//! - [`network`]: broadcast domains, and what an ingress port may do
//! - [`mac`]: the MAC table, shared by all cores
//! - [`table`]: decisions remembered, one entry a flow
//! - [`lookup`]: the order in which all that is asked
//! - [`reclaim`]: quiet states, by which control knows what no core uses any more
//! - `sync`: core's atomics, or loom's
#![deny(unsafe_code)]

pub mod action;
pub mod header;
pub mod lookup;
pub mod mac;
pub mod network;
pub mod reclaim;
mod sync;
#[allow(unsafe_code)] // one prefetch instruction, and a place that is cut to the table's size
pub mod table;

pub use action::{Action, DropReason};
pub use header::{HEADER_MAX, Header};
pub use lookup::Lookup;
pub use mac::MacTable;
pub use network::{Exit, Ingress, Network, NetworkId, Networks, PortId, SourcePolicy, Trunk, TrunkId};
