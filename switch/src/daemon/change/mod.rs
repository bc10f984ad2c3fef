//! Changes of the topology while the daemon runs: applied whole or not at all.
//!
//! In reading order:
//! - `switch`: what runs, and the number of its topology
//! - `reload`: what operators ask for
//! - `plan`: what a change does to each port
//! - `prepare`: what can fail; undone by being dropped
//! - `commit`: what can't; removals last

mod commit;
mod plan;
mod prepare;
mod reload;
pub(super) mod switch;
