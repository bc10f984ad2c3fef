//! The daemon: started, run and ended.
//!
//! In reading order:
//! - `check`: what is wrong with a topology
//! - `run`: from a topology to a running daemon, and back
//! - `cpus`: which CPUs there are, which threads run where
//! - `run_dir`: the daemon's folder, and that it is the only one there
//! - `poller`: a polling thread
//! - `supervisor`: checks ports and addresses ten times a second
//! - `tsc`: whether the counter that the switch's clock is made of can be relied upon

pub(crate) mod check;
pub(crate) mod cpus;
pub(crate) mod poller;
pub(crate) mod run;
pub(crate) mod run_dir;
pub(crate) mod supervisor;
pub(crate) mod tsc;
