//! Commands and options.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::base::log::LogFormat;

/// A virtual switch for the VMs of one host
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Control socket of the running daemon
    #[arg(long, value_name = "PATH", global = true, default_value = config::DEFAULT_CONTROL_PATH)]
    pub(crate) control: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the switch that a topology file describes, until SIGTERM or SIGINT
    Run {
        /// Topology file
        file: PathBuf,
        /// What log lines look like; which are logged says RUST_LOG (info, if it is not set)
        #[arg(
            long,
            env = "WEIR_LOG_FORMAT",
            value_name = "FORMAT",
            value_enum,
            default_value_t
        )]
        log_format: LogFormat,
    },
    /// Check a topology file; exit with 0 if it has no errors, else with 1
    Check {
        /// Topology file
        file: PathBuf,
    },
    /// Print every key of the topology file, with its description
    Schema {
        /// Print a JSON Schema, for editors
        #[arg(long)]
        json: bool,
    },
    /// Show the state of the running daemon
    Show {
        #[command(subcommand)]
        what: What,
    },
    /// Watch VMs, their limits, cores and uplinks; on a terminal until q is pressed
    Top {
        /// Print once and exit
        #[arg(long)]
        once: bool,
        /// Seconds between refreshes; the daemon takes its own samples once a second
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
        every: f64,
        /// Sort VMs by
        #[arg(long, value_enum, default_value_t)]
        order: Order,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// All ports: state, rates, and what they wait for
    Ports {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One port: counters, drops by reason, queues, connection
    Port {
        /// VM/NIC, as in web/net0
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// VMs: rates, limits, frames dropped
    Vms {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Networks: uplink, VLAN, MTU, NICs
    Networks {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Uplinks: device, mode in use, carrier, rates, frames lost in the kernel
    Uplinks {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The MAC table
    Macs {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The flow table: flows by port, cache hits and misses, evictions
    Flows {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// VMs with a limit: limit, rate, time throttled, frames dropped
    Limits {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Polling cores
    Cores {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print two numbers: TSC cycles of all cores in turns that had packets, and packets
        /// received so far
        #[arg(long, conflicts_with = "json")]
        busy: bool,
    },
}

/// Reads the time between refreshes.
fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds, from 0.1 to 3600".to_owned()),
    }
}

/// What VMs are sorted by, highest first; names from A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// As in the topology file.
    #[default]
    File,
    /// By name.
    Name,
    /// By bits a second from the VM.
    FromVm,
    /// By bits a second to the VM.
    ToVm,
    /// By part of the time throttled.
    Throttled,
    /// By frames dropped, missed and lost.
    Dropped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::path::Path;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn control_may_stand_before_and_behind_the_command() {
        for line in [
            ["weir", "--control", "/x", "show", "ports"],
            ["weir", "show", "ports", "--control", "/x"],
        ] {
            assert_eq!(Cli::try_parse_from(line).unwrap().control, Path::new("/x"));
        }
    }
}
