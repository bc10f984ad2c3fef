//! Network namespaces, veths between them, and programs in them. Everything is gone when the value
//! is, also after a panic.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::rig::{PATIENCE, folder, write};

/// One test at a time: they share two CPUs and measure.
static TURN: Mutex<()> = Mutex::new(());

/// A set of namespaces of one test.
pub(crate) struct Spaces {
    roles: Vec<&'static str>,
    _turn: MutexGuard<'static, ()>,
}

/// Namespaces for these roles, empty but for `lo`. None: this user can't make any; that is said, or
/// fails where nothing may be skipped.
pub(crate) fn spaces(roles: &[&'static str]) -> Option<Spaces> {
    if !rustix::process::geteuid().is_root() {
        let why = "network namespaces and AF_XDP need root";
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "in CI nothing may be skipped: {why}"
        );
        eprintln!("SKIPPED: {why}");
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut spaces = Spaces {
        roles: Vec::new(),
        _turn: turn,
    };
    for role in roles {
        spaces.roles.push(role);
        must(Command::new("ip").args(["netns", "add", &spaces.name(role)]));
        spaces.ip(role, "link set lo up");
        // Its neighbour discovery would be traffic that no test expects.
        spaces.run(
            role,
            "sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'",
        );
    }
    Some(spaces)
}

impl Spaces {
    /// A namespace's name.
    pub(crate) fn name(&self, role: &str) -> String {
        format!("weir-{}-{role}", std::process::id())
    }

    /// `ip -n NAMESPACE …`
    pub(crate) fn ip(&self, role: &str, words: &str) -> String {
        must(
            Command::new("ip")
                .args(["-n", &self.name(role)])
                .args(words.split_whitespace()),
        )
    }

    /// A command in a namespace.
    pub(crate) fn command(&self, role: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(role), program]);
        command
    }

    /// What a line for the shell prints, in a namespace. It must end well.
    pub(crate) fn run(&self, role: &str, line: &str) -> String {
        must(self.command(role, "sh").args(["-c", line]))
    }

    /// Starts a program in a namespace; it is killed when the value goes.
    pub(crate) fn spawn(&self, role: &str, line: &str) -> Program {
        Program::start(
            self.command(role, "sh")
                .args(["-c", &format!("exec {line}")]),
        )
    }

    /// Two devices, each the other end of the other, both up.
    pub(crate) fn veth(&self, a: (&str, &str), b: (&str, &str), n_queues: u16) {
        let end = |(role, device): (&str, &str)| {
            format!(
                "{device} netns {} numtxqueues {n_queues} numrxqueues {n_queues}",
                self.name(role)
            )
        };
        let line = format!("link add {} type veth peer name {}", end(a), end(b));
        must(Command::new("ip").args(line.split_whitespace()));
        for (role, device) in [a, b] {
            self.ip(role, &format!("link set {device} up"));
        }
    }

    /// `weir run` of a topology in a namespace.
    pub(crate) fn weir(&self, role: &str) -> Command {
        self.command(role, env!("CARGO_BIN_EXE_weir"))
    }

    /// What a daemon says in a namespace that does not start.
    pub(crate) fn refusal(&self, role: &str, topology: &str) -> String {
        self.refusal_by(self.weir(role), topology).1
    }

    /// The same with a command of one's own, and the folder it was tried in.
    pub(crate) fn refusal_by(&self, mut weir: Command, topology: &str) -> (TempDir, String) {
        let dir = folder();
        let mut child = weir
            .arg("run")
            .arg(write(&dir, topology))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!(
                    "it runs: {}",
                    String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        (dir, said)
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for role in &self.roles {
            // With it go its devices.
            let _ = Command::new("ip")
                .args(["netns", "del", &self.name(role)])
                .output();
        }
    }
}

/// A program in a namespace.
pub(crate) struct Program {
    child: Child,
    /// What it has printed so far.
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            read(child.stdout.take().unwrap(), said.clone()),
            read(child.stderr.take().unwrap(), said.clone()),
        ];
        Self {
            child,
            said,
            readers,
        }
    }

    /// Waits until it has printed this.
    pub(crate) fn until_says(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.said.lock().unwrap().contains(text) {
            let said = self.said.lock().unwrap().clone();
            assert!(
                begin.elapsed() < PATIENCE,
                "it doesn't say {text:?}: {said}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it has ended by itself; what it printed.
    pub(crate) fn ended(mut self) -> String {
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(
                begin.elapsed() < PATIENCE,
                "it doesn't end: {}",
                self.said.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(from: impl std::io::Read + Send + 'static, to: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut to = to.lock().unwrap();
            to.push_str(&line);
            to.push('\n');
        }
    })
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

/// Runs a command that must end well; what it printed, but for errors.
pub(crate) fn must(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
