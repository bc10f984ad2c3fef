//! The weir daemon and its commands: the control plane. A polling core never waits for anything
//! here.
//!
//! Rooms, in reading order; each imports only rooms below it, and nobody but this file imports
//! `cli`:
//! - `cli`: the command line: requests to a running daemon, its answers as text or as a live view
//! - `daemon`: starts and stops the daemon: CPUs, run directory, threads, supervisor
//! - `page`: the status page for browsers
//! - `control`: answers to operators' requests
//! - `vhost_user`: ports of VMs: sockets, connections, messages
//! - `device`: ports that are devices of this host: probed, set up, attached, watched, restored
//! - `pins`: which guest a sticky address belongs to
//! - `plan`: ports, networks and rules, derived from the topology
//! - `api`: reports for operators, with a fixed shape in JSON
//! - `base`: stop, log lines, locks, sockets, files of the run directory
//! - `fuzzing`: for the fuzz targets in `fuzz/`; not part of the daemon
#![forbid(unsafe_code)]

mod api;
mod base;
mod cli;
mod control;
mod daemon;
mod device;
#[cfg(test)]
mod docs_tests;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod page;
mod pins;
mod plan;
mod vhost_user;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;
use std::thread::Builder;
use std::time::Duration;

use clap::Parser;
use tracing::Level;

use base::journal;
use cli::change;
use cli::command::{Cli, Command};
use cli::show::{print, show};
use cli::top::{self, TopOptions};

/// How long the end of the program waits for standard error.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// The program `weir`.
pub fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(why);
            ExitCode::FAILURE
        }
    }
}

/// Writes what failed to standard error. If that is closed, or takes nothing, only the exit code
/// tells: who reads it must not keep this process from ending.
fn complain(why: String) {
    let (written, is_written) = sync_channel(1);
    let writing = Builder::new().spawn(move || {
        let mut prefix = "";
        if journal::takes_stderr() {
            prefix = journal::prefix(Level::ERROR);
        }
        let lines: String = why
            .lines()
            .map(|line| format!("{prefix}{line}\n"))
            .collect();
        let _ = io::stderr().write_all(lines.as_bytes());
        let _ = written.send(());
    });
    if writing.is_ok() {
        let _ = is_written.recv_timeout(WRITTEN_WITHIN);
    }
}

fn run(cli: &Cli) -> Result<(), String> {
    match &cli.command {
        Command::Run { file, log_format } => daemon::run::run(file, *log_format),
        Command::Check { file } => daemon::check::check(file).and_then(|text| print(&text)),
        Command::Schema { json: false } => print(&config::schema()),
        Command::Schema { json: true } => print(&config::json_schema()),
        Command::Show { what } => show(&cli.control, what).and_then(|text| print(&text)),
        Command::Reload { how } => change::reload(&cli.control, how).and_then(|text| print(&text)),
        Command::Vm { what } => change::vm(&cli.control, what).and_then(|text| print(&text)),
        Command::Limit { vm, keys, how } => {
            change::limit(&cli.control, vm, keys, how).and_then(|text| print(&text))
        }
        Command::Top { once, every, order } => {
            let every = Duration::from_secs_f64(*every);
            top::run(
                &cli.control,
                TopOptions {
                    once: *once,
                    every,
                    order: *order,
                },
            )
        }
    }
}
