//! System calls of a running daemon that fail, or kill it: by strace(1), so that nothing in the
//! daemon knows of tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::request::request;
use crate::rig::PATIENCE;
use crate::world::World;

/// Whether system calls can be made to fail. It is said when they can't, and in CI they must be.
pub(crate) fn can_inject(test: &str) -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if Command::new("strace").arg("-V").output().is_err() {
        "strace"
    } else {
        return true;
    };
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "in CI nothing may be skipped: {test} needs {missing}"
    );
    eprintln!("SKIPPED {test}: needs {missing}");
    false
}

/// A system call that a thread makes: its name, and how many of that name the thread made before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) nth: usize,
    /// Its number; nothing, where only one was watched.
    thread: String,
    /// As strace prints it.
    pub(crate) line: String,
}

impl Call {
    /// Whether it wakes somebody: an eventfd refuses that to nobody.
    pub(crate) fn is_signal(&self) -> bool {
        self.name == "write" && self.line.contains("\\0\\0\\0\\0")
    }
}

/// Which thread makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// The main one, on SIGHUP.
    Main,
    /// One of those that do what requests ask for.
    Request,
}

impl Maker {
    /// strace at the thread, and no other that has work of its own. `inject`: as its option of that
    /// name takes it; none: only what is called is noted.
    pub(crate) fn attach(self, world: &World, inject: Option<&str>) -> Strace {
        let main = world.daemon.pid().as_raw_nonzero().to_string();
        let threads = match self {
            Self::Main => vec![main],
            Self::Request => {
                // One that is there is used again.
                let answer = request(&world.control(), "POST", "/v1/reload?dry_run=true", None);
                assert_eq!(answer.status, 200, "{}", answer.body);
                world.daemon.threads("control-work")
            }
        };
        Strace::attach(&threads, &world.daemon.path("out.strace"), inject)
    }

    /// The calls of a change: from where it reads or writes its first file on, and without those by
    /// which the main thread waits for signals.
    pub(crate) fn of_the_change(self, calls: Vec<Call>) -> Vec<Call> {
        let file = |call: &Call| call.line.split(',').next().unwrap_or_default().to_owned();
        let is_first = |call: &&Call| match self {
            Self::Main => call.name == "openat" && call.line.contains("weir.yaml"),
            Self::Request => call.line.contains("/vms.d"),
        };
        let first = calls.iter().find(is_first).expect("a file").clone();
        let waits = calls.iter().find(|call| call.name == "recvfrom").map(file);
        calls
            .into_iter()
            .filter(|call| call.thread == first.thread)
            .skip_while(|call| *call != first)
            .filter(|call| self == Self::Request || Some(file(call)) != waits)
            .collect()
    }
}

/// strace, attached to some threads of a daemon.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    out: PathBuf,
}

impl Strace {
    fn attach(threads: &[String], out: &Path, inject: Option<&str>) -> Self {
        let mut command = Command::new("strace");
        command.args(["-s", "256", "-o"]).arg(out);
        for thread in threads {
            command.args(["-p", thread]);
        }
        if let Some(inject) = inject {
            let name = inject.split(':').next().unwrap_or_default();
            command.args(["-e", &format!("trace={name}")]);
            command.args(["-e", &format!("inject={inject}")]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        for _ in threads {
            let mut said = String::new();
            stderr.read_line(&mut said).unwrap();
            assert!(said.contains("attached"), "strace: {said}");
        }
        // What it says of threads that end is read by nobody, and little.
        child.stderr = Some(stderr.into_inner());
        Self {
            child,
            out: out.to_owned(),
        }
    }

    /// What was called. It is attached no longer.
    pub(crate) fn end(mut self) -> Vec<Call> {
        // It may have ended with the daemon.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let begin = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "strace doesn't end");
            std::thread::sleep(Duration::from_millis(1));
        }
        calls(&fs::read_to_string(&self.out).unwrap())
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn calls(text: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for line in text.lines() {
        // Of several threads each has its number in front.
        let bare = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let thread = line[..line.len() - bare.len()].to_owned();
        let bare = bare.trim_start();
        let Some((name, _)) = bare.split_once('(') else {
            continue;
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let is_alike = |call: &&Call| call.name == name && call.thread == thread;
        let nth = 1 + calls.iter().filter(is_alike).count();
        calls.push(Call {
            name: name.to_owned(),
            nth,
            thread,
            line: bare.to_owned(),
        });
    }
    calls
}
