//! The front-end against a minimal back-end: both roles, memory in one message and in slots,
//! several queues, resuming, load, and messages that break the rules.

mod backend;

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use guest::flood::{LoadConfig, LoadPort};
use guest::flows::{Flows, Vary};
use guest::hostile_messages::{Answer, MESSAGE_FAULTS, Messenger};
use guest::pingpong::{PingPort, round};
use guest::stack::{Mac, Stamp, Verifier, test_frame};
use guest::{Guest, Indirect, Layout, Manner, Options, Socket};

use backend::{Served, serve};

const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    _folder: tempfile::TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self {
            _folder: folder,
            path,
            listener,
        }
    }

    fn socket(&self) -> Socket {
        Socket::Connect(self.path.clone())
    }

    /// Runs `work`, which connects once, and serves that connection.
    fn serving<T>(&self, work: impl FnOnce() -> T) -> (Served, T) {
        std::thread::scope(|scope| {
            let served = scope.spawn(|| serve(self.listener.accept().unwrap().0));
            let result = work();
            (served.join().unwrap(), result)
        })
    }

    fn open(&self, options: Options, manner: Manner) -> (Served, Guest) {
        let (served, guest) =
            self.serving(|| Guest::open(self.socket(), options, manner, PATIENCE));
        (served, guest.unwrap())
    }
}

fn end(n: u8) -> (Mac, Ipv4Addr) {
    (Mac([2, 0, 0, 0, 0, n]), Ipv4Addr::new(10, 0, 0, n))
}

/// Sends `n` frames from sequence number `first` on and waits until they are back.
fn exchange(guest: &mut Guest, verifier: &mut Verifier, first: u64, n: u64) {
    let n_pairs = usize::from(guest.driver.options().n_queue_pairs);
    let (mut sent, want) = (first, verifier.n_good + n);
    let start = Instant::now();
    while verifier.n_good < want {
        let flow = u16::try_from(sent % n_pairs as u64).unwrap();
        let stamp = Stamp {
            flow,
            seq: sent / n_pairs as u64,
        };
        let len = 66 + usize::try_from(sent * 37 % 1400).unwrap();
        if sent < first + n
            && guest.send(usize::from(flow), &test_frame(end(1), end(2), stamp, len))
        {
            sent += 1;
        }
        for pair in 0..n_pairs {
            while let Some(frame) = guest.recv(pair) {
                verifier.take(&frame);
            }
        }
        if sent == first + n && verifier.n_good < want {
            guest.wait(Duration::from_secs(1));
        }
        assert!(start.elapsed() < PATIENCE, "{verifier:?}");
    }
    assert!(verifier.is_clean(), "{:?}", verifier.first_error);
}

fn exchange_with(options: Options, manner: Manner) {
    let rig = Rig::new();
    let (served, mut guest) = rig.open(options, manner);
    exchange(&mut guest, &mut Verifier::default(), 0, 2000);
    guest.stop().unwrap();
    guest.driver.assert_intact();
    assert_eq!(served.echo.lock().unwrap().n_echoed, 2000);
}

#[test]
fn frames_go_there_and_back() {
    exchange_with(Options::default(), Manner::default());
}

#[test]
fn four_queues_with_every_feature() {
    let options = Options {
        n_queue_pairs: 4,
        indirect: Indirect::Alternate,
        event_idx: true,
        in_order: true,
        tx_parts: 3,
        rx_shape: vec![200],
        ..Options::default()
    };
    exchange_with(options, Manner::default());
}

#[test]
fn legacy_guest_without_answers_or_slots() {
    let options = Options {
        version_1: false,
        mergeable: false,
        ..Options::default()
    };
    exchange_with(
        options,
        Manner {
            reply_ack: false,
            mem_slots: false,
            ..Manner::default()
        },
    );
}

#[test]
fn many_regions_in_slots() {
    let layout = Layout {
        region_bytes: Some(64 << 10),
        ..Layout::default()
    };
    exchange_with(
        Options {
            layout,
            ..Options::default()
        },
        Manner::default(),
    );
}

#[test]
fn without_kick_fds_the_back_end_polls() {
    exchange_with(
        Options::default(),
        Manner {
            kicks: false,
            ..Manner::default()
        },
    );
}

#[test]
fn guest_listens_and_back_end_connects() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port.sock");
    let socket = Socket::listen(&path).unwrap();
    let (served, guest) = std::thread::scope(|scope| {
        let served = scope.spawn(|| serve(std::os::unix::net::UnixStream::connect(&path).unwrap()));
        let guest = Guest::open(socket, Options::default(), Manner::default(), PATIENCE);
        (served.join().unwrap(), guest)
    });
    let mut guest = guest.unwrap();
    exchange(&mut guest, &mut Verifier::default(), 0, 300);
    drop(served);
}

#[test]
fn guest_resumes_where_a_vanished_back_end_was() {
    let rig = Rig::new();
    let (mut served, mut guest) = rig.open(Options::default(), Manner::default());
    let mut verifier = Verifier::default();
    for life in 0..5 {
        exchange(&mut guest, &mut verifier, life * 300, 300);
        assert!(!guest.is_gone());
        drop(served);
        assert!(guest.is_gone());
        let (next, resumed) = rig.serving(|| guest.reconnect(PATIENCE));
        resumed.unwrap();
        served = next;
    }
    exchange(&mut guest, &mut verifier, 1500, 300);
    assert_eq!((verifier.n_good, guest.n_connects()), (1800, 6));
    guest.driver.assert_intact();
}

#[test]
fn flood_comes_back_and_is_counted() {
    let rig = Rig::new();
    let (served, guest) = rig.serving(|| {
        Guest::negotiate(
            rig.socket(),
            Options::default(),
            Manner::default(),
            PATIENCE,
        )
    });
    let flows = Flows::new(end(1), end(2), 64, 1000, Vary::Ip);
    let config = LoadConfig {
        count_bytes: true,
        touch: true,
        ..LoadConfig::default()
    };
    let mut port = LoadPort::new(guest.unwrap(), &flows, config).unwrap();
    let (mut now, start) = (guest::sys::cycles(), Instant::now());
    while port.counters().n_received < 20_000 && start.elapsed() < PATIENCE {
        now = port.turn(now);
        std::thread::yield_now();
    }
    let counters = port.counters();
    assert!(
        counters.n_received >= 20_000 && counters.n_sent >= counters.n_received,
        "{counters:?}"
    );
    assert_eq!(counters.n_bytes, counters.n_received * 76);
    drop(served);
}

#[test]
fn paced_flood_keeps_its_pace() {
    let rig = Rig::new();
    let (served, guest) = rig.serving(|| {
        Guest::negotiate(
            rig.socket(),
            Options::default(),
            Manner::default(),
            PATIENCE,
        )
    });
    let flows = Flows::new(end(1), end(2), 64, 1, Vary::Ip);
    let mut port = LoadPort::new(
        guest.unwrap(),
        &flows,
        LoadConfig {
            pps: 1000,
            ..LoadConfig::default()
        },
    )
    .unwrap();
    let (mut now, start) = (guest::sys::cycles(), Instant::now());
    while start.elapsed() < Duration::from_millis(500) {
        now = port.turn(now);
        std::thread::yield_now();
    }
    let n = port.counters().n_sent;
    assert!((100..=501).contains(&n), "{n} frames in half a second");
    drop(served);
}

/// The program with `--commands`, both ports on back-ends that echo.
struct Obeying {
    child: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Obeying {
    fn start(a: &Rig, b: &Rig) -> Self {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_guest"));
        command
            .args(["pair", "--commands", "--a"])
            .arg(&a.path)
            .arg("--b")
            .arg(&b.path);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, answers }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        self.answers.next().expect("an answer").unwrap()
    }

    /// Asks for counts until they are as wanted.
    fn stats_until(&mut self, good: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let stats = self.ask("stats");
            if good(&stats) {
                return stats;
            }
            assert!(start.elapsed() < PATIENCE, "{stats}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Obeying {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn field(answer: &str, name: &str) -> u64 {
    let at = answer
        .find(&format!("\"{name}\": "))
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
        + name.len()
        + 4;
    answer[at..]
        .split([',', '}'])
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn pair_starts_counts_and_stops_on_command() {
    let (a, b) = (Rig::new(), Rig::new());
    std::thread::scope(|scope| {
        let served = [&a, &b].map(|rig| scope.spawn(|| serve(rig.listener.accept().unwrap().0)));
        let mut pair = Obeying::start(&a, &b);
        assert!(pair.answer().starts_with("{\"at\": \"ready\", "));
        let served = served.map(|thread| thread.join().unwrap());

        let first = pair.ask("stats");
        assert_eq!(
            [field(&first, "a_sent"), field(&first, "offers")],
            [0, 0],
            "{first}"
        );
        assert_eq!(pair.ask("fly"), "{\"unknown\": \"fly\"}");

        assert!(pair.ask("start").starts_with("{\"at\": \"start\", "));
        let running = pair.stats_until(|stats| field(stats, "a_received") > 1000);
        assert!(
            field(&running, "ns") > field(&first, "ns")
                && field(&running, "tsc") > field(&first, "tsc")
        );
        assert!(
            field(&running, "dry") <= field(&running, "offers"),
            "{running}"
        );
        // B's announcements come back to it: before the start and at the start.
        pair.stats_until(|stats| field(stats, "b_received") == 2);

        let stopped = pair.ask("stop");
        // What was under way comes back; nothing new is offered.
        let later = pair.stats_until(|stats| field(stats, "a_sent") == field(stats, "a_received"));
        assert_eq!(field(&later, "offers"), field(&stopped, "offers"));
        assert_eq!(
            [field(&later, "b_sent"), field(&later, "reconnects")],
            [0, 0],
            "{later}"
        );

        drop(pair.child.stdin.take());
        assert!(
            pair.child.wait().unwrap().success(),
            "the end of the input is the end"
        );
        drop(served);
    });
}

#[test]
fn ping_pong_measures_a_round() {
    let rig = Rig::new();
    let (served, guest) = rig.serving(|| {
        Guest::negotiate(
            rig.socket(),
            Options::default(),
            Manner::default(),
            PATIENCE,
        )
    });
    let mut port =
        PingPort::new(guest.unwrap(), Flows::new(end(1), end(2), 64, 1, Vary::Ip)).unwrap();
    let n = (0..1000).filter_map(|_| round(&mut port, |_| true)).count();
    assert!(n > 900, "{n} rounds of 1000");
    drop(served);
}

#[test]
fn back_end_that_says_nothing_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port.sock");
    let silent = UnixListener::bind(&path).unwrap();
    let start = Instant::now();
    let result = Guest::open(
        Socket::Connect(path),
        Options::default(),
        Manner::default(),
        PATIENCE,
    );
    assert!(result.is_err() && start.elapsed() < PATIENCE);
    drop(silent);
}

#[test]
fn every_bad_message_is_answered_somehow() {
    let rig = Rig::new();
    for fault in MESSAGE_FAULTS {
        let (served, answer) = rig.serving(|| {
            let mut messenger = Messenger::connect(&rig.socket(), PATIENCE).unwrap();
            messenger.run(fault)
        });
        // Only what the crate's handler decides; the rest is for a real back-end to get right.
        if matches!(fault.row, "M1" | "M2" | "M3" | "M5") {
            assert!(
                fault.expect.allows(answer),
                "{} {}: {answer:?}",
                fault.row,
                fault.name
            );
        }
        assert_ne!(answer, Answer::Silent, "{} {}", fault.row, fault.name);
        // The device thread may have died of what was set up; that's this back-end's affair.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(served)));
    }
}
