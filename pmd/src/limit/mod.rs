//! How much may pass in a time.
//!
//! - [`rate`]: one word for all cores
//! - [`vm`]: a VM's, in each direction
//! - [`gate`]: what holds a receive queue back for them
//! - `policer`: what of a burst may go to a VM
//! - `queue`: what waits for a VM that gets no more
//! - [`flood_budget`]: how many copies a port's floods may make

pub mod flood_budget;
pub mod gate;
pub mod vm;
pub use vm as limits;
pub(crate) mod policer;
pub(crate) mod queue;
pub mod rate;
