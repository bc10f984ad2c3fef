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
    /// Read the topology's files again and put in force what they say: whole or not at all
    Reload {
        #[command(flatten)]
        how: How,
    },
    /// Add or remove a VM while the daemon runs; it is kept in a file of its own, vms.d/NAME.yaml
    Vm {
        #[command(subcommand)]
        what: VmChange,
    },
    /// Change a VM's limit while the daemon runs; it is kept in the VM's file
    Limit {
        /// The VM
        vm: String,
        /// What is different: from-vm.rate=2gbit, to-vm.queue=20ms, or from-vm=2gbit for the rate;
        /// nothing behind = removes it, as in from-vm.packets= or to-vm=
        #[arg(required = true, value_name = "KEY=VALUE")]
        keys: Vec<String>,
        #[command(flatten)]
        how: How,
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

/// How a change of the topology is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct How {
    /// Only print what would be changed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only if the topology that runs has this number, as in `topology 7 is in force`
    #[arg(long, value_name = "NUMBER")]
    pub(crate) if_topology: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmChange {
    /// Add a VM
    Add {
        /// Its name
        name: String,
        /// File with what stands below its name in a topology, as in `nics: { … }`; - is standard
        /// input
        file: PathBuf,
        /// If there is such a VM, put this one in its place
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        how: How,
    },
    /// Remove a VM, and the file that it is in
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        how: How,
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
        /// received so far; those of cores that are gone count too
        #[arg(long, conflicts_with = "json")]
        busy: bool,
    },
    /// Receive queues: which CPU polls each, and which part of its time each takes
    Queues {
        /// Print JSON
        #[arg(long)]
        json: bool,
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
