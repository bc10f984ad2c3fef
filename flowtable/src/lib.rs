//! Header bytes to action: what to do with packets like this one.
//!
//! No ports, no clock, no memory of a guest: a burst's private headers go in, an [`Action`] for each comes out.
//! In reading order:
//!
//! - [`action`]: what a decision can be, and every reason to drop
//! - [`header`]: the private header of a frame, and what is parsed of it
//! - [`tuple`]: what rules can ask of a frame, and how much of it a flow must hold
//! - [`policy`]: a NIC's rules, compiled, and what they say of a frame
//! - [`network`]: broadcast domains, and what an ingress port may do
//! - [`mac`]: the MAC table, shared by all cores
//! - [`owner`]: which address is a port's own, and whether it takes frames; [`dispute`]: who has one that a guest and the wire both use
//! - [`budget`]: how much a port may change of it in a second; [`reserve`]: how much of it is each network's own
//! - [`key`]: what a flow is recognised by
//! - [`table`]: decisions remembered, one entry a flow, shared by all cores; `slab` holds its entries, `quota` says whose they are
//! - `front`: those that one core has used most lately
//! - [`tally`]: how often which of them was asked, and what became of it
//! - [`lookup`]: the order in which all that is asked; `asked` is a burst on its way through it, `compose` the whole question, for what isn't
//!   remembered; `foresee` asks for frames that are not due yet
//! - [`reclaim`]: quiet states, by which control knows what no core uses any more
//! - `lines`, `sync`: cache lines of atomics, which are core's or loom's
#![deny(unsafe_code)]

pub mod action;
mod asked;
pub mod budget;
mod compose;
pub mod dispute;
mod foresee;
#[allow(unsafe_code)] // a prefetch, and a place that is cut to the table's size
mod front;
pub mod header;
pub mod key;
#[allow(unsafe_code)] // memory that is zero, and a prefetch
mod lines;
pub mod lookup;
pub mod mac;
pub mod network;
pub mod owner;
pub mod policy;
mod quota;
pub mod reclaim;
pub mod reserve;
mod slab;
mod sync;
pub mod table;
pub mod tally;
pub mod tuple;

pub use action::{Action, DropReason};
pub use header::{HEADER_MAX, Header};
pub use key::{Key, Mask};
pub use lookup::Lookup;
pub use mac::MacTable;
pub use network::{Exit, Ingress, Network, NetworkId, Networks, PortId, SourcePolicy, Trunk, TrunkId};
pub use policy::{Direction, Policy, Verdict};
pub use table::FlowTable;
pub use tally::{FlowReport, Tally};
pub use tuple::{KeyFields, Tuple};
