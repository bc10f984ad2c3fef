//! Under a service manager: what it is told, and when it is told nothing.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::Options;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::cores::two_cpus;
use crate::rig::{Daemon, PATIENCE, cpu, exchange, folder, frame, topology, weir, write};

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    /// Lines of messages that came and were not looked at.
    lines: VecDeque<String>,
}

impl Manager {
    fn new(dir: &TempDir) -> Self {
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            lines: VecDeque::new(),
        }
    }

    /// The daemon's command. `watchdog`: how often this manager wants to hear of it.
    fn command(dir: &TempDir, watchdog: Option<Duration>) -> Command {
        let mut command = weir();
        command.env("NOTIFY_SOCKET", dir.path().join("notify"));
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        command
    }

    /// The next line that it is told.
    fn next(&mut self) -> String {
        while self.lines.is_empty() {
            let mut bytes = [0; 4096];
            let n = self.socket.recv(&mut bytes).unwrap();
            let text = std::str::from_utf8(&bytes[..n]).unwrap();
            self.lines.extend(text.lines().map(str::to_owned));
        }
        self.lines.pop_front().unwrap()
    }

    /// Passes over what it is told, to the first such line.
    fn until(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let line = self.next();
            if is_it(&line) {
                return line;
            }
            assert!(begun.elapsed() < PATIENCE, "it is not told: {line}");
        }
    }

    /// Everything that was told so far.
    fn all(mut self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        while let Ok(n) = self.socket.recv(&mut bytes) {
            let text = std::str::from_utf8(&bytes[..n]).unwrap();
            self.lines.extend(text.lines().map(str::to_owned));
        }
        self.lines.into()
    }
}

/// A daemon that tells a manager, which wants to hear of it every second.
fn start(names: &[&str]) -> (Daemon, Manager) {
    let dir = Arc::new(folder());
    let manager = Manager::new(&dir);
    let command = Manager::command(&dir, Some(Duration::from_secs(1)));
    let daemon = Daemon::start_by(dir, &topology(names, "weir"), command);
    (daemon, manager)
}

fn is_fed(line: &str) -> bool {
    line == "WATCHDOG=1"
}

#[test]
fn ready_is_said_when_everything_listens_and_answers() {
    let dir = Arc::new(folder());
    let mut manager = Manager::new(&dir);
    let names = ["a", "b", "c"];
    // One more, whose guest listens and is not there.
    let file = topology(&names, "weir")
        + "  d: { nics: { net0: { network: blue, vhost-user: { path: DIR/d.sock, listens: guest } \
           } } }\n";
    let command = Manager::command(&dir, None);
    let daemon = Daemon::spawn(dir, &file, command);
    manager.until(|line| line == "READY=1");
    for name in names {
        UnixStream::connect(daemon.path(&format!("{name}.sock"))).unwrap();
    }
    let shown = daemon.show(&["ports"]);
    assert!(shown.status.success(), "{shown:?}");
}

#[test]
fn daemon_that_cannot_start_is_never_ready() {
    let dir = folder();
    let manager = Manager::new(&dir);
    let file = topology(&["a", "b"], "weir").replace("DIR/b.sock", "DIR/missing/b.sock");
    let output = Manager::command(&dir, None)
        .arg("run")
        .arg(write(&dir, &file))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = manager.all();
    assert!(!told.contains(&"READY=1".to_owned()), "{told:?}");
}

#[test]
fn manager_is_told_of_ports_of_a_reload_and_of_the_end() {
    let (mut daemon, mut manager) = start(&["a", "b"]);
    manager.until(|line| line == "READY=1");
    manager.until(|line| line == "STATUS=0 of 2 ports up");
    let guest = daemon.guest("a.sock", Options::default());
    manager.until(|line| line == "STATUS=1 of 2 ports up");
    drop(guest);
    manager.until(|line| line == "STATUS=0 of 2 ports up");
    let before = monotonic_usec();
    daemon.signal(Signal::HUP);
    manager.until(|line| line == "RELOADING=1");
    let at = manager.next();
    let at: u128 = at.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!((before..=monotonic_usec()).contains(&at), "{before} {at}");
    manager.until(|line| line == "READY=1");
    daemon.signal(Signal::TERM);
    manager.until(|line| line == "STOPPING=1");
    assert!(daemon.ended().success());
    assert_eq!(manager.all(), ["STATUS=stopping"], "the last it is told");
}

#[test]
fn watchdog_is_fed_while_cores_sleep_and_while_they_work() {
    let (daemon, mut manager) = start(&["a", "b"]);
    (0..8).for_each(|_| drop(manager.until(is_fed)));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let mut n_sent = 0;
    for _ in 0..8 {
        // As much as goes, until it is fed again.
        manager.socket.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        let mut bytes = [0; 4096];
        loop {
            match manager.socket.recv(&mut bytes) {
                Ok(n) if bytes[..n].starts_with(b"WATCHDOG=1") => break,
                Ok(_) => {}
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
            for seed in 0..256 {
                n_sent += u64::from(a.send(0, &frame(1, 2, 1500, seed)));
                a.driver.reclaim_tx(0);
                while b.recv(0).is_some() {}
            }
            assert!(begun.elapsed() < PATIENCE, "it is not fed");
        }
    }
    assert!(n_sent > 1000, "{n_sent} frames are no work");
}

#[test]
fn watchdog_is_fed_while_cores_come_and_go() {
    let Some([one, other]) = two_cpus() else {
        return;
    };
    let (daemon, mut manager) = start(&["a", "b"]);
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let mut told = Vec::new();
    for cpus in [[one, other], [other, other]].iter().cycle().take(16) {
        let n = if cpus[0] == cpus[1] { 1 } else { 2 };
        let file = topology(&["a", "b"], "weir").replace("[CPU]", &format!("{:?}", &cpus[..n]));
        let (status, answer) = daemon.reload_by_api(&file);
        assert_eq!(status, 200, "{answer}");
        exchange((1, &mut a), (2, &mut b), 20);
        // By two looks, so that each core was looked at where it is now.
        for _ in 0..2 {
            loop {
                told.push(manager.next());
                if told.last().is_some_and(|line| is_fed(line)) {
                    break;
                }
            }
        }
    }
    let stuck = told.iter().find(|line| line.contains("stuck"));
    assert_eq!(stuck, None);
}

#[test]
fn core_that_stands_still_is_named_and_the_watchdog_is_not_fed() {
    let cpu = cpu();
    stands_still(
        &format!("poll-{cpu}"),
        &format!("the polling core on CPU {cpu} has been stuck for "),
    );
}

#[test]
fn supervisor_that_stands_still_is_named_and_the_watchdog_is_not_fed() {
    stands_still("supervisor", "the supervisor's thread has been stuck for ");
}

#[test]
fn control_thread_that_stands_still_is_named_and_the_watchdog_is_not_fed() {
    stands_still("control", "the control socket's thread has been stuck for ");
}

/// Stops one thread of the daemon: it is fed no more, until the thread goes on.
fn stands_still(thread: &str, text: &str) {
    let (mut daemon, mut manager) = start(&["a", "b"]);
    manager.until(is_fed);
    let [task] = &daemon.threads(thread)[..] else {
        panic!("{thread} is not one thread")
    };
    let Some(stopped) = StoppedThread::new(task.parse().unwrap()) else {
        return eprintln!("NOT TESTED: this user may not trace its children");
    };
    let status = format!("STATUS={text}");
    manager.until(|line| line.starts_with(&status));
    daemon.until("it says which", |daemon| daemon.log().contains(text));
    // For seconds: the time is told anew with each.
    for _ in 0..4 {
        let line = manager.next();
        assert!(line.starts_with(&status), "{line}");
    }
    drop(stopped);
    manager.until(is_fed);
    manager.until(|line| line == "STATUS=0 of 2 ports up");
    daemon.until("it goes on", |daemon| {
        daemon.log().contains(" goes on, after ")
    });
    daemon.guest("a.sock", Options::default()).stop().unwrap();
}

#[test]
fn manager_that_reads_nothing_keeps_nobody_waiting() {
    let dir = Arc::new(folder());
    let manager = Manager::new(&dir);
    // Full before the daemon starts.
    let filling = UnixDatagram::unbound().unwrap();
    filling.connect(dir.path().join("notify")).unwrap();
    filling.set_nonblocking(true).unwrap();
    while filling.send(b"X=1").is_ok() {}
    let command = Manager::command(&dir, Some(Duration::from_millis(40)));
    let mut daemon = Daemon::start_by(dir, &topology(&["a", "b"], "weir"), command);
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    for _ in 0..20 {
        daemon.signal(Signal::HUP);
        exchange((1, &mut a), (2, &mut b), 20);
        assert!(daemon.show(&["ports"]).status.success());
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success(), "{}", daemon.log());
    drop(manager);
}

#[test]
fn manager_that_is_not_there_is_said_once() {
    let dir = Arc::new(folder());
    let command = Manager::command(&dir, Some(Duration::from_millis(40)));
    let mut daemon = Daemon::start_by(dir, &topology(&["a"], "weir"), command);
    let text = "cannot notify the service manager";
    daemon.until("it says so", |daemon| daemon.log().contains(text));
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
    assert_eq!(daemon.log().matches(text).count(), 1);
}

fn monotonic_usec() -> u128 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u128::try_from(time.tv_sec).unwrap() * 1_000_000 + u128::try_from(time.tv_nsec).unwrap() / 1000
}

/// One thread of a child that stands still as long as this lives, while all its others go on.
struct StoppedThread(libc::pid_t);

impl StoppedThread {
    /// None: this user may not.
    fn new(thread: libc::pid_t) -> Option<Self> {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: plain calls, about a thread of a child; no memory is passed.
        unsafe {
            if libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) != 0 {
                return None;
            }
            assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none), 0);
            let mut status = 0;
            assert_eq!(libc::waitpid(thread, &raw mut status, libc::__WALL), thread);
        }
        Some(Self(thread))
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: as above; by the thread that stopped it.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, none, none) };
    }
}
