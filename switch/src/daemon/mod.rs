//! The daemon: started, run and ended.
//!
//! In reading order:
//! - `check`: what is wrong with a topology
//! - `run`: from a topology to a running daemon, and back
//! - `cpus`: which CPUs there are, which threads run where
//! - `run_dir`: the daemon's folder, and that it is the only one there
//! - `files`: that as many can be open as are needed; `fleet`: the polling cores and their tables;
//!   `threads`, `logging`
//! - `poller`: a polling thread
//! - `supervisor`: checks ports and addresses ten times a second
//! - `tsc`: whether the counter that the switch's clock is made of can be relied upon

pub(crate) mod check;
mod cpus;
mod files;
mod fleet;
mod logging;
mod poller;
pub(crate) mod run;
mod run_dir;
mod supervisor;
mod threads;
mod tsc;
