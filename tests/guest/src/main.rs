//! `guest`: a software guest on a vhost-user socket. Answers ARP and ping, pings, floods, sinks,
//! measures latency, verifies; `guest pair` drives two ports from one thread, as testpmd does.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use guest::flows::{Flows, Vary};
use guest::options::Indirect;
use guest::stack::Mac;
use guest::{FrontendError, Guest, Manner, Options, Socket, sys};

mod commands;
mod modes;
mod report;

/// A software guest on a vhost-user socket.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    one: One,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Two ports in one thread: A sends to B.
    #[command(after_help = COMMANDS_HELP)]
    Pair(Pair),
}

/// One port.
#[derive(Debug, Args)]
struct One {
    /// Socket of the switch, or to listen on.
    #[arg(long, required = true)]
    socket: Option<PathBuf>,
    /// Listen on the socket, the switch connects.
    #[arg(long)]
    listen: bool,
    /// What to do.
    #[arg(long, value_enum, default_value_t = Mode::Echo)]
    mode: Mode,
    /// Own Ethernet address.
    #[arg(long, default_value = "02:00:00:00:00:0a")]
    mac: Mac,
    /// Own IP address.
    #[arg(long, default_value = "10.0.0.10")]
    ip: Ipv4Addr,
    /// Ethernet address to send to; ping finds it by ARP.
    #[arg(long, default_value = "02:00:00:00:00:0b")]
    peer_mac: Mac,
    /// IP address to send to.
    #[arg(long, default_value = "10.0.0.11")]
    peer_ip: Ipv4Addr,
    #[command(flatten)]
    common: Common,
}

/// Two ports.
#[derive(Debug, Args)]
struct Pair {
    /// Socket of port A.
    #[arg(long)]
    a: PathBuf,
    /// Socket of port B.
    #[arg(long)]
    b: PathBuf,
    /// Listen on both sockets.
    #[arg(long)]
    listen: bool,
    /// Ethernet address of A.
    #[arg(long, default_value = "02:00:00:00:00:0a")]
    mac_a: Mac,
    /// Ethernet address of B.
    #[arg(long, default_value = "02:00:00:00:00:0b")]
    mac_b: Mac,
    /// B sends to A too.
    #[arg(long)]
    both: bool,
    /// One frame there and back at a time: latency.
    #[arg(long)]
    pingpong: bool,
    /// Frames with sequence numbers and checksums, through the checking driver.
    #[arg(long)]
    verify: bool,
    /// Obey commands on standard input (see below); nothing is sent before `start`.
    #[arg(long, conflicts_with_all = ["pingpong", "verify"])]
    commands: bool,
    #[command(flatten)]
    common: Common,
}

const COMMANDS_HELP: &str = "\
With --commands, lines on standard input are commands, each answered with one line, a JSON object:
  start  B announces its address, then frames are sent
  stop   no more frames are sent; what comes is still counted
  stats  nothing but the answer
The end of the input ends the program. The first line printed is of the same form, once both ports \
are connected.
An answer has: at (the command, or \"ready\"), ns (a monotonic clock, since the program's start) \
and tsc at the moment of
counting, tsc_hz, and totals: a_sent, b_sent (frames the switch took), a_received, b_received, \
busy_cycles and busy_frames
(of turns that did something), offers (times that frames were offered), dry (those of them at \
which the switch had taken all
offered before, so that it may have waited), kicks, reconnects. A thread of its own reads: the \
load is not disturbed but by
writing the answer.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Answer ARP and ping.
    Echo,
    /// Send as fast as goes, or at --pps; take whatever comes.
    Flood,
    /// Take whatever comes.
    Sink,
    /// Ping --peer-ip ten times a second, or at --pps.
    Ping,
    /// Send a frame, wait for one, again: latency. The other end reflects.
    Pingpong,
    /// Send a frame for each that comes.
    Reflect,
    /// Send test frames.
    VerifySend,
    /// Check test frames.
    VerifyRecv,
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Stop after so many frames (verify), pings or rounds.
    #[arg(long)]
    count: Option<u64>,
    /// Frame bytes without FCS; for verify the most, for ping the whole frame.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Flows.
    #[arg(long, default_value_t = 1)]
    flows: u64,
    /// What differs between flows.
    #[arg(long, value_enum, default_value_t = By::Ip)]
    by: By,
    /// Frames a second and port, at most.
    #[arg(long, default_value_t = 0)]
    pps: u64,
    /// Queue pairs.
    #[arg(long, default_value_t = 1)]
    queues: u16,
    /// Entries of each ring.
    #[arg(long, default_value_t = 256)]
    ring: u16,
    /// Bytes of a receive buffer, header included.
    #[arg(long, default_value_t = 2048)]
    rx_buffer: u32,
    /// Frames offered or given back at once, at least.
    #[arg(long, default_value_t = 32)]
    burst: u16,
    /// Header and frame share a cache line, as a Linux guest's do.
    #[arg(long)]
    linux: bool,
    /// Without VERSION_1: a legacy driver.
    #[arg(long)]
    legacy: bool,
    /// Without mergeable receive buffers.
    #[arg(long)]
    no_merge: bool,
    /// Negotiate the event index.
    #[arg(long)]
    event_idx: bool,
    /// Negotiate indirect descriptors and use them (not when flooding).
    #[arg(long)]
    indirect: bool,
    /// Negotiate in-order use.
    #[arg(long)]
    in_order: bool,
    /// Read a word of each received frame.
    #[arg(long)]
    touch: bool,
    /// Run on this CPU.
    #[arg(long)]
    cpu: Option<usize>,
    /// Seconds to wait for the switch, at the start and when it goes away.
    #[arg(long, default_value_t = 10.0)]
    patience: f64,
    /// Don't print a line a second.
    #[arg(long)]
    quiet: bool,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Source port and address.
    Ip,
    /// Source MAC.
    Mac,
}

/// Both ends of what is sent.
type End = (Mac, Ipv4Addr);

impl Common {
    fn options(&self, load: bool) -> Options {
        Options {
            n_queue_pairs: self.queues,
            rx_ring: self.ring,
            tx_ring: self.ring,
            version_1: !self.legacy,
            mergeable: !self.no_merge,
            indirect: if self.indirect {
                Indirect::Always
            } else {
                Indirect::Off
            },
            event_idx: self.event_idx,
            in_order: self.in_order,
            require_order: false,
            rx_shape: vec![self.rx_buffer],
            // An answer is as long as what it answers, whatever the load would be.
            tx_frame_bytes: self.size.max(if load { 66 } else { 2048 }),
            line_offset: if self.linux { 0 } else { 52 },
            checked: !load,
            ..Options::default()
        }
    }

    fn patience(&self) -> Duration {
        Duration::try_from_secs_f64(self.patience).unwrap_or(Duration::MAX)
    }

    fn flows(&self, from: End, to: End) -> Flows {
        let vary = if self.by == By::Mac {
            Vary::Mac
        } else {
            Vary::Ip
        };
        Flows::new(from, to, self.size, self.flows, vary)
    }

    /// Connected and negotiated, not started.
    fn guest(&self, path: &Path, listen: bool, load: bool) -> Result<Guest, FrontendError> {
        let socket = if listen {
            Socket::listen(path)?
        } else {
            Socket::Connect(path.to_path_buf())
        };
        Guest::negotiate(
            socket,
            self.options(load),
            Manner::default(),
            self.patience(),
        )
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    sys::stop_on_signals();
    let result = match (cli.command, cli.one) {
        (Some(Command::Pair(pair)), _) => modes::run_pair(&pair),
        (None, one) => modes::run_one(&one),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(why) => {
            eprintln!("guest: {why}");
            ExitCode::FAILURE
        }
    }
}
