//! All that a change that failed must leave as it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::request::read;
use crate::world::World;

/// What can be seen of a daemon from outside, but for what moves by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Files of its folder: sockets with inode, owner and mode, others by name.
    files: Vec<String>,
    /// What its file descriptors lead to.
    descriptors: BTreeMap<String, usize>,
    threads: BTreeMap<String, usize>,
    n_mappings: usize,
    /// What a test has to say beside that.
    more: Vec<String>,
    reports: Vec<Value>,
}

/// What operators may read, and what must be the same.
const REPORTS: [&str; 6] = [
    "/v1/ports?limit=1000",
    "/v1/vms?limit=1000",
    "/v1/networks?limit=1000",
    "/v1/uplinks",
    "/v1/macs?limit=1000",
    "/v1/cores",
];
const EVENTFD: &str = "anon_inode:[eventfd]";
/// Keys of reports that move by themselves.
const MOVING: [&str; 23] = [
    "counters",
    "drops",
    "rates",
    "load",
    "turns",
    "sleeps",
    "bursts",
    "busy",
    "age",
    "used",
    "seen",
    "throttled",
    "cycles",
    "frames",
    "wakeups",
    "flows",
    "share",
    "losses",
    "lost",
    "kernel",
    "addresses",
    "nanoseconds",
    "topology",
];

impl State {
    /// Of a daemon. `more`: what a test has to say beside that.
    pub(crate) fn of(world: &World, more: &dyn Fn() -> String) -> Self {
        let pid = world.daemon.pid().as_raw_nonzero().get();
        let socket = world.control();
        let reports = REPORTS.iter().map(|path| still(read(&socket, path)));
        let reports = reports.collect();
        Self {
            reports,
            files: files(world.daemon.dir.path()),
            descriptors: descriptors(pid),
            threads: counted(threads(&format!("/proc/{pid}/task"))),
            n_mappings: world.daemon.n_shared_mappings(),
            more: more().lines().map(str::to_owned).collect(),
        }
    }

    /// Without what is new whenever a socket is made again: for a change that was made and undone
    /// by another.
    pub(crate) fn without_numbers(mut self) -> Self {
        for file in &mut self.files {
            let mut words = file.split(' ');
            if let (Some(name), Some(_)) = (words.next(), words.next()) {
                *file = format!("{name} {}", words.collect::<Vec<_>>().join(" "));
            }
        }
        let before = std::mem::take(&mut self.descriptors);
        for (mut name, n) in before {
            if let Some((kind, _)) = name.split_once(":[") {
                name = kind.to_owned();
            }
            *self.descriptors.entry(name).or_default() += n;
        }
        self
    }

    /// Asserts that it is so, or comes to be so at once: files that were closed by other threads,
    /// connections of operators.
    pub(crate) fn assert_is(&self, world: &World, more: &dyn Fn() -> String, after: &str) {
        self.assert_comes(&|| Self::of(world, more), world, after);
    }

    /// The same, but for numbers of what was made again.
    pub(crate) fn assert_is_like(&self, world: &World, more: &dyn Fn() -> String, after: &str) {
        let now = || Self::of(world, more).without_numbers();
        self.assert_comes(&now, world, after);
    }

    fn assert_comes(&self, now: &dyn Fn() -> Self, world: &World, after: &str) {
        let begin = Instant::now();
        loop {
            let now = now();
            if now == *self {
                return;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "after {after}:\n{}\n{}",
                self.difference(&now),
                world.daemon.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn difference(&self, now: &Self) -> String {
        let lines = |state: &Self| -> Vec<String> {
            format!("{state:#?}").lines().map(str::to_owned).collect()
        };
        let (before, now) = (lines(self), lines(now));
        let missing = before.iter().filter(|line| !now.contains(line));
        let more = now.iter().filter(|line| !before.contains(line));
        let missing = missing.map(|line| format!("- {line}\n"));
        missing
            .chain(more.map(|line| format!("+ {line}\n")))
            .collect()
    }
}

/// A report without what moves by itself.
fn still(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter(|(key, _)| !MOVING.iter().any(|moving| key.contains(moving)))
            .map(|(key, value)| (key, still(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(still).collect(),
        other => other,
    }
}

fn files(dir: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, Ok(at)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        let name = path.display();
        if at.is_dir() {
            files.extend(self::files(&path));
        } else if at.file_type().is_socket() {
            let (uid, gid, mode) = (at.uid(), at.gid(), at.mode() & 0o7777);
            files.push(format!("{name} {} {uid}:{gid} {mode:04o}", at.ino()));
        } else if !is_of_test(&path) {
            files.push(name.to_string());
        }
    }
    files.sort();
    files
}

/// Files of VMs and of strace, which the test itself writes; and that of addresses, which the
/// supervisor writes ten times a second.
fn is_of_test(path: &Path) -> bool {
    let of_vm = path
        .parent()
        .is_some_and(|folder| folder.ends_with("vms.d"));
    let is_draft = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let is_other = path.extension().is_some_and(|end| end == "strace") || is_of_supervisor(path);
    of_vm && !is_draft || is_other
}

/// It writes addresses ten times a second, under another name first.
fn is_of_supervisor(path: &Path) -> bool {
    path.to_string_lossy().contains("pins.json")
}

/// Without eventfds: while a guest's take long, a thread of its own has another handle to each. See
/// [`n_eventfds`].
fn descriptors(pid: i32) -> BTreeMap<String, usize> {
    let mut descriptors = counted(links(&format!("/proc/{pid}/fd")));
    descriptors.remove(EVENTFD);
    descriptors.retain(|path, _| !is_of_supervisor(Path::new(path)));
    descriptors
}

/// Eventfds that a daemon has open.
pub(crate) fn n_eventfds(world: &World) -> usize {
    let pid = world.daemon.pid().as_raw_nonzero();
    let all = links(&format!("/proc/{pid}/fd"));
    all.iter().filter(|link| *link == EVENTFD).count()
}

fn links(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map_while(Result::ok);
    let link = |entry: fs::DirEntry| fs::read_link(entry.path()).ok();
    entries
        .filter_map(link)
        .map(|link| link.display().to_string())
        .collect()
}

fn threads(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map_while(Result::ok);
    let name = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("comm")).ok();
    entries
        .filter_map(name)
        .map(|name| name.trim().to_owned())
        // As many as were needed of late; and while eventfds of guests take long.
        .filter(|name| !["control-work", "calls"].contains(&name.as_str()))
        .collect()
}

fn counted(names: Vec<String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    names
        .into_iter()
        .for_each(|name| *counted.entry(name).or_default() += 1);
    counted
}
