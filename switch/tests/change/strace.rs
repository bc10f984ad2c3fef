//! System calls of a running daemon that fail, or kill it: by strace(1), so that nothing in the
//! daemon knows of tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::PATIENCE;

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
    /// As strace prints it.
    pub(crate) line: String,
}

/// strace, attached to the daemon's main thread, which reads files again, and to no other.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    out: PathBuf,
}

impl Strace {
    /// Attached to a thread. `inject`: as strace's option of that name takes it; none: only what is
    /// called is noted.
    pub(crate) fn attach(thread: Pid, out: &Path, inject: Option<&str>) -> Self {
        let mut command = Command::new("strace");
        command.args(["-s", "256", "-p", &thread.as_raw_nonzero().to_string()]);
        command.arg("-o").arg(out);
        if let Some(inject) = inject {
            let name = inject.split(':').next().unwrap_or_default();
            command.args(["-e", &format!("trace={name}")]);
            command.args(["-e", &format!("inject={inject}")]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "strace: {said}");
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
        let Some((name, _)) = line.split_once('(') else {
            continue;
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let nth = 1 + calls.iter().filter(|call| call.name == name).count();
        calls.push(Call {
            name: name.to_owned(),
            nth,
            line: line.to_owned(),
        });
    }
    calls
}

/// Those of a reload, from where it reads its main file on; without those by which the main thread
/// waits for signals.
pub(crate) fn of_the_change(calls: Vec<Call>) -> Vec<Call> {
    let file = |call: &Call| call.line.split(',').next().unwrap_or_default().to_owned();
    let waits = calls.iter().find(|call| call.name == "recvfrom").map(file);
    let begins = |call: &Call| call.name == "openat" && call.line.contains("weir.yaml");
    let begin = calls.iter().position(begins).expect("it reads its file");
    let calls = calls.into_iter().skip(begin);
    calls.filter(|call| Some(file(call)) != waits).collect()
}
