//! The weir daemon and its commands: the control plane. A polling core never waits for anything in here.
//!
//! In reading order:
//! - `operator`: words on the command line
//! - `launch`: from a topology to a running daemon, and back
//! - `poller`: a polling thread
//! - `cpus`: which CPUs there are, who runs where
//! - `run_dir`: the daemon's folder, and that it is the only one there; `folder`: files there that nobody else can forge
//! - `port`: a port as all of control shares it
//! - `rules`: NICs' rules, from the file's values to what cores decide by
//! - `closing`: files that may take long to close
//! - `plane`: what control needs of the polling cores
//! - `vhost_user`: ports of VMs: messages, connections, sockets
//! - `uplink`: ports that are devices of this host: found, guarded, prepared, watched, given back
//! - `tsc`: whether the counter that the switch's clock is made of can be relied upon
//! - `supervisor`: looks after ports and addresses, ten times a second
//! - `control`: answers operators on the control socket
//! - `http`: HTTP/1.1, as little as operators need of it
//! - `report`: what operators are told; `vms`: of VMs and their limits; `loads`: of the cores' work; `flows`: of the flow table
//! - `table`: the same as text; `top`: as a live view
//! - `notes`: log lines that a guest can cause
//! - `stop`: how threads are told to end
//! - `fuzzing`: what the fuzz targets in `fuzz/` reach; not part of the daemon
#![forbid(unsafe_code)]

mod api;
mod base;
mod cli;
mod control;
mod daemon;
mod device;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod pins;
mod plan;
mod vhost_user;

/// The program: does what its command line says.
pub fn main() -> std::process::ExitCode {
    cli::command::main()
}
