//! Changes of the topology while the daemon runs: applied whole or not at all.
//!
//! In reading order:
//! - `switch`: what runs; `leaving`: what has been removed, until its id is free; `tidy`: what a
//!   change leaves to be done
//! - `asked`: what operators ask for; `reload`: what they can't have
//! - `vm_file`: the files that the API writes
//! - `apply`: one topology takes the place of another
//! - `plan`: what a change does to each port
//! - `cores`: cores that come and go
//! - `service`: a port with the thread that serves it
//! - `prepare`: what can fail; undone by being dropped
//! - `commit`: what can't; removals last

mod apply;
mod asked;
mod commit;
mod cores;
mod leaving;
mod plan;
mod prepare;
mod reload;
pub(super) mod service;
pub(super) mod switch;
mod tidy;
pub(super) mod vm_file;
