//! Words on the command line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use config::Topology;
use serde::de::DeserializeOwned;

use super::text;
use super::top::{self, Order, TopOptions};
use crate::base::http;
use crate::base::socket::open_stream;
use crate::control::flows::FlowsReport;
use crate::daemon::cpus::choose::Cpus;
use crate::device::probe;

/// How long the daemon may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A host's virtual switch: gives every VM exactly its share.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Cli {
    /// The daemon's control socket, for the commands that ask a running one
    #[arg(long, value_name = "PATH", global = true, default_value = config::DEFAULT_CONTROL_PATH)]
    control: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
enum What {
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
    /// VMs with a limit: what they may, what they do, for how long they were held back, what was dropped
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
        /// Print two numbers: TSC cycles of all cores in turns that had packets, and packets received so far
        #[arg(long, conflicts_with = "json")]
        busy: bool,
    },
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Command::Run { file } => run(file),
        Command::Check { file } => check(file),
        Command::Schema { json: false } => print(&config::schema()),
        Command::Schema { json: true } => print(&config::json_schema()),
        Command::Show { what } => show(&cli.control, what).and_then(|text| print(&text)),
        Command::Top { once, every, order } => {
            let every = Duration::from_secs_f64(*every);
            top::run(&cli.control, TopOptions { once: *once, every, order: *order })
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Where stderr is closed too, the exit code still says it.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(file: &Path) -> Result<(), String> {
    let topology = config::load(file).map_err(|report| report.to_string())?;
    crate::daemon::run::run(&topology).map_err(|why| format!("error: {why}"))
}

fn check(file: &Path) -> Result<(), String> {
    let topology = config::load(file).map_err(|report| report.to_string())?;
    let mut remarks = topology.remarks();
    remarks.extend(topology.advice_on_macs());
    // The file may be meant for another machine.
    remarks.extend(Cpus::choose(&topology.cores).err().map(|why| format!("on this machine, {why}")));
    remarks.extend(probe::check(&topology).map_err(|wrong| format!("error: {}", wrong.join("\nerror: ")))?);
    print(&checked(file, &topology, &remarks))
}

/// What a topology without mistakes comes to, and what should be known beside that.
fn checked(file: &Path, topology: &Topology, remarks: &[String]) -> String {
    let (n_networks, n_vms, n_nics) = (topology.networks.len(), topology.vms.len(), topology.nics().count());
    let n_uplinks = match topology.uplinks.len() {
        0 => String::new(),
        n => format!(", {n} uplinks"),
    };
    let mut text =
        format!("{}: no errors ({n_networks} networks, {n_vms} VMs, {n_nics} NICs{n_uplinks})\n", file.display());
    let unused = topology.uplinks.iter().enumerate().filter(|(idx, _)| topology.networks_on(*idx).next().is_none());
    let unused = unused.map(|(_, uplink)| format!("uplink {} is used by no network", uplink.name));
    for remark in unused.chain(remarks.iter().cloned()) {
        text.push_str(&format!("note: {remark}\n"));
    }
    text
}

fn show(control: &Path, what: &What) -> Result<String, String> {
    match what {
        What::Ports { json } => ask(control, "/v1/ports", *json, |ports: Vec<_>| text::ports(&ports)),
        What::Port { name, json } => {
            ask(control, &format!("/v1/ports/{}", plain(name)?), *json, |port| text::port(&port))
        }
        What::Uplinks { json } => ask(control, "/v1/uplinks", *json, |uplinks: Vec<_>| text::uplinks(&uplinks)),
        What::Macs { json } => ask(control, "/v1/macs", *json, |macs: Vec<_>| text::macs(&macs)),
        What::Flows { json } => ask(control, "/v1/flows", *json, |flows: FlowsReport| text::flows(&flows)),
        What::Limits { json } => ask(control, "/v1/limits", *json, |vms: Vec<_>| text::limits(&vms)),
        What::Cores { json, busy: false } => ask(control, "/v1/cores", *json, |cores: Vec<_>| text::cores(&cores)),
        What::Cores { busy: true, .. } => ask(control, "/v1/cores", false, |cores: Vec<_>| text::busy(&cores)),
    }
}

/// A port's name, which stands in the request's first line as it is.
fn plain(name: &str) -> Result<&str, String> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if is_plain && !name.is_empty() {
        return Ok(name);
    }
    Err(format!("error: {name:?} is not a port's name: VM/NIC is, as in web/net0"))
}

/// A time between two looks.
fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write seconds, from 0.1 to 3600".to_owned()),
    }
}

/// Asks the daemon, and gives the answer as it came or as text.
fn ask<T: DeserializeOwned>(
    control: &Path,
    path: &str,
    is_json: bool,
    to_text: impl FnOnce(T) -> String,
) -> Result<String, String> {
    let body = answer(control, path)?;
    if is_json { Ok(body + "\n") } else { parsed(&body).map(to_text) }
}

/// Asks the daemon.
pub(crate) fn ask_for<T: DeserializeOwned>(control: &Path, path: &str) -> Result<T, String> {
    parsed(&answer(control, path)?)
}

fn parsed<T: DeserializeOwned>(body: &str) -> Result<T, String> {
    serde_json::from_str(body)
        .map_err(|e| format!("error: the daemon's answer is not understood ({e}): is it another version?"))
}

fn answer(control: &Path, path: &str) -> Result<String, String> {
    let stream = open_stream(control).map_err(|e| nobody_answers(control, &e))?;
    let answered = http::get(&stream, path, ANSWERS_WITHIN);
    let (status, body) =
        answered.map_err(|e| format!("error: the daemon on {} does not answer: {e}", control.display()))?;
    if status != 200 {
        let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        return Err(format!("error: {}", error["error"].as_str().unwrap_or(&body)));
    }
    Ok(body)
}

fn nobody_answers(control: &Path, error: &io::Error) -> String {
    let path = control.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!(
                "error: no daemon answers on {path}: is it running? `weir run FILE` starts it, --control says where it listens"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("error: this user may not use {path}: control: {{ group: …, mode: … }} says who may")
        }
        _ => format!("error: no daemon answers on {path}: {error}"),
    }
}

/// Prints to standard output; that nobody reads any more is no error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("error: cannot write: {e}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn control_may_stand_before_and_behind_the_command() {
        for line in [["weir", "--control", "/x", "show", "ports"], ["weir", "show", "ports", "--control", "/x"]] {
            assert_eq!(Cli::try_parse_from(line).unwrap().control, Path::new("/x"));
        }
    }

    #[test]
    fn name_cannot_leave_its_line() {
        assert_eq!(plain("web/net0"), Ok("web/net0"));
        for name in ["", "a b", "a\r\nHost: x", "a?b", "ü"] {
            assert!(plain(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn absent_daemon_is_said_plainly() {
        let why = show(Path::new("/nonexistent/control.sock"), &What::Ports { json: false }).unwrap_err();
        assert!(why.contains("no daemon answers on /nonexistent/control.sock") && why.contains("weir run"), "{why}");
    }
}
