//! Cached decisions: a flow table that all cores share, and a cache of each core's own in front of
//! it.

pub mod key;
#[allow(unsafe_code)] // a prefetch, and a place that is cut to the table's size
pub(crate) mod per_core;
mod quota;
mod removal;
mod slab;
pub mod table;
pub mod tally;
