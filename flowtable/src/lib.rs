//! Header bytes to action: what to do with packets like this one.
//!
//! No ports, no clock, no memory of a guest: a burst's private headers go in, an [`Action`] for
//! each comes out. In reading order:
//!
//! - [`ids`]: numbers of ports, networks and trunks
//! - [`action`]: what a decision can be, and every reason to drop
//! - [`wire`]: the private `header` of a frame, and the `tuple` of what rules can ask of it
//! - [`rules`]: a NIC's rules, compiled (`policy`), and what they say of a frame
//! - [`network`]: broadcast domains, and what an ingress port may do
//! - [`mac`]: the MAC `table`, shared by all cores, and its `entry`; how addresses are learned
//!   (`learn`), and ports' own ones (`owned`); `owner`: which address is a port's own, and whether
//!   it takes frames; `dispute`: who has one that a guest and the wire both use; `budget`: how much
//!   a port may change of it in a second; `reserve`: how much of it is each network's own
//! - [`cache`]: the `key` that a flow is recognised by; the `table` of decisions, one entry a flow,
//!   shared by all cores; its entries (`slab`) and whose they are (`quota`); the flows that one
//!   core used last (`per_core`); how often which of them was hit (`tally`)
//! - [`lookup`]: the order of all that (`decide`); a burst on its way through it (`context`); what
//!   decides a flow that is not cached (`slow_path`), or frames that are not due yet (`foresee`)
//! - [`memory`]: `cache_line`s of atomics, which are core's or loom's (`sync`), and the quiet
//!   states by which control knows what no core uses any more (`reclaim`)
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
pub use cache::tally::{FlowReport, Tally};
pub use ids::{NetworkId, PortId, TrunkId};
pub use lookup::decide::Lookup;
pub use mac::table::MacTable;
pub use network::{Exit, Ingress, Network, Networks, SourcePolicy, Trunk};
pub use rules::policy::{Direction, Policy, Verdict};
pub use wire::header::{HEADER_MAX, Header};
pub use wire::tuple::{KeyFields, Tuple};
