//! Decisions that are remembered: in a table that all cores share, and in front of it what each core used last.

pub mod key;
#[allow(unsafe_code)] // a prefetch, and a place that is cut to the table's size
pub(crate) mod per_core;
mod quota;
mod slab;
pub mod table;
pub mod tally;
