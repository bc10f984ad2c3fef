//! Header bytes to action: what to do with packets like this one.
//!
//! No ports, no clock, no memory of a guest: a burst's private headers go in, an [`Action`] for
//! each comes out. In reading order:
//!
//! - [`ids`]: numbers of ports, networks and trunks
//! - [`action`]: what a decision can be, and every reason to drop
//! - [`wire`]: the private `header` of a frame, and the `tuple` of what rules can test
//! - [`rules`]: a `rule` of a NIC; all of a NIC's, compiled (`policy`)
//! - [`network`]: broadcast domains, and what an ingress port may do
//! - [`mac`]: the MAC `table`, shared by all cores, and its `entry`; how addresses are learned
//!   (`learn`), and ports' own ones (`owned`); `owner`: which address is a port's own, and whether
//!   the port is started; `dispute`: an address that a guest and the wire both send from; `budget`:
//!   how much a port may change in a second; `reserve`: the part of each network
//! - [`cache`]: a flow's `key`; the flow `table`, shared by all cores, its entries (`slab`) and
//!   each port's part of them (`quota`); the flow cache of each core (`per_core`); hits and misses
//!   (`tally`)
//! - [`lookup`]: decides a burst (`decide`), with its look-up `context`; the `slow_path` for flows
//!   that are not cached; predictions for frames further back in a ring (`foresee`)
//! - [`memory`]: `cache_line`s of atomics, which are core's or loom's (`sync`)
#![deny(unsafe_code)]

pub mod action;
pub mod cache;
pub mod ids;
pub mod lookup;
pub mod mac;
pub mod memory;
pub mod network;
pub mod rules;
pub mod wire;

pub use action::{Action, DropReason};
pub use cache::key::{Key, Mask};
pub use cache::table::FlowTable;
pub use cache::tally::{FlowCounters, Tally};
pub use ids::{NetworkId, PortId, TrunkId};
pub use lookup::decide::Lookup;
pub use mac::table::MacTable;
pub use network::{Exit, Ingress, Network, Networks, SourcePolicy, Trunk};
pub use rules::policy::Policy;
pub use rules::rule::{Direction, Verdict};
pub use wire::header::{HEADER_MAX, Header};
pub use wire::tuple::{KeyFields, Tuple};
