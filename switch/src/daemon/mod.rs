//! The daemon: its start, its threads, its stop.
//!
//! In reading order:
//! - `check`: errors of a topology and notes about it
//! - `run`: starts the daemon from a topology, and stops it
//! - `cpus`: which CPUs there are, and which threads run where
//! - `run_dir`: the run directory and its lock
//! - `files`: the limit of open files; `cores`: makes them, and their tables; `threads`
//! - `logging`: the log; `notify`: what the service manager is told; `watchdog`: whether cores and
//!   supervisor go on
//! - `change`: another topology takes the place of the one in force
//! - `operators`: the control socket, and the address of metrics
//! - `sockets`: those on which weir listens; `socket_note`: what a killed daemon leaves of them
//! - `running`: ports with their control threads
//! - `poller`: a polling thread; `pollers`: all of them
//! - `supervisor`: checks ports and addresses ten times a second
//! - `tsc`: whether the cycle counter behind the switch's clock is reliable

mod change;
pub(crate) mod check;
mod cores;
mod cpus;
mod files;
mod logging;
mod notify;
mod operators;
mod poller;
mod pollers;
pub(crate) mod run;
mod run_dir;
mod running;
mod socket_note;
mod sockets;
mod supervisor;
mod threads;
mod tsc;
mod watchdog;
