//! Words on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A host's virtual switch: gives every VM exactly its share.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The daemon's control socket, for the commands that ask a running one
    #[arg(long, value_name = "PATH", global = true, default_value = config::DEFAULT_CONTROL_PATH)]
    pub(crate) control: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the switch that a topology file describes, until SIGTERM or SIGINT
    Run {
        /// The topology
        file: PathBuf,
    },
    /// Say what is wrong with a topology file; exit 0 if nothing is, else 1
    Check {
        /// The topology
        file: PathBuf,
    },
    /// Print every key of the topology file, with a sentence each
    Schema {
        /// Print a JSON Schema, for editors
        #[arg(long)]
        json: bool,
    },
    /// Ask the running daemon
    Show {
        #[command(subcommand)]
        what: What,
    },
    /// Watch VMs, their limits, and cores; on a terminal until q is pressed
    Top {
        /// Print one table, then end
        #[arg(long)]
        once: bool,
        /// Seconds between two looks; the daemon itself looks once a second
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
        every: f64,
        /// What comes first
        #[arg(long, value_enum, default_value_t)]
        order: Order,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// All ports: how they stand, rates, and what they wait for
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
    /// Uplinks: device, mode in force, carrier, rates, what the kernel lost
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
    /// The flow table: how full, by whom, and how often it knew the answer
    Flows {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// VMs with a limit: what they may, what they do, for how long they were held back, what was
    /// dropped
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

/// A time between two looks.
fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds, from 0.1 to 3600".to_owned()),
    }
}

/// What VMs are sorted by, the most of it first; names from A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// As in the topology file.
    #[default]
    File,
    /// By name.
    Name,
    /// By what they send.
    FromVm,
    /// By what they get.
    ToVm,
    /// By how much of the time they are held back.
    Throttled,
    /// By frames dropped and missed.
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
