//! How much may pass in a time.
//!
//! - [`rate`]: one word for all cores
//! - `options`: the options of a limit, and its state
//! - `one_way`: one direction's limit
//! - `vm`: both of a VM; `vm_queue`, `chunks`, `free_list`: what is held at the one on what it
//!   gets, over all cores, and in which memory
//! - [`gate`]: what holds a receive queue back for them
//! - `out_limit`: what of a burst may go to a VM, and what is charged for that
//! - `queue`: what of one core's waits for VMs that get no more
//! - [`flood_budget`]: how many copies a port's floods may make

mod chunks;
pub mod flood_budget;
mod free_list;
pub mod gate;
mod one_way;
mod options;
mod out_limit;
pub(crate) mod queue;
pub mod rate;
mod vm;
mod vm_queue;

pub use crate::amount::{Allowance, Amount};
pub use one_way::Limit;
pub use options::{LimitOptions, LimitReport, QueueOptions, QueueReport};
pub(crate) use out_limit::OutLimit;
pub use vm::VmLimits;
pub(crate) use vm_queue::VmQueue;
// By this name `free_list` finds its atomics; the checker of `pmd/tests/loom.rs` puts others in
// their place.
use std::sync::atomic as atomics;
