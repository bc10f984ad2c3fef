//! A daemon is killed in the midst of a change and started again: then all is as the files say.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;

use crate::request::try_request;
use crate::rig::weir;
use crate::state::State;
use crate::strace::{Call, Maker, can_inject};
use crate::typical::{Two, after, vms};
use crate::world::{MAIN, Outcome, World};
use crate::writes::{Asking, askings, let_it_write};

/// Points of a change: what comes next, and the system call that does it, by its name and what is
/// among its arguments.
const POINTS: [(&str, &str, &str); 12] = [
    ("read the main file", "openat", "weir.yaml"),
    ("read the last VM's file", "openat", "many.yaml"),
    ("give a socket to others", "chmod", "0600"),
    ("make a socket", "bind", "c.sock"),
    ("give it to its group", "fchownat", ""),
    ("listen on it", "listen", ""),
    ("make a socket beside another", "bind", "/.0"),
    ("let it be used", "chmod", "0660"),
    ("start a thread", "clone3", ""),
    ("exchange two sockets", "renameat2", ""),
    ("tell a core", "write", ""),
    ("close what was removed", "close", ""),
];

/// The same of requests.
const POINTS_OF_WRITES: [(&str, &str, &str); 8] = [
    ("make the temporary file", "openat", "draft"),
    ("write to it", "write", "vms:"),
    ("have it on the disk", "fsync", ""),
    ("make a socket", "bind", ""),
    ("put it in its place", "renameat2", "draft"),
    ("have its name on the disk", "openat", "O_RDONLY"),
    ("tell a core", "write", "\\0"),
    ("remove the temporary name", "unlink", "draft"),
];

/// How often a thread waits for others, or asks for memory, differs from one time to the next.
const DIFFERS: [&str; 5] = ["brk", "clock_nanosleep", "futex", "madvise", "munmap"];

/// A daemon whose tables are small, so that it starts soon.
fn main_file() -> String {
    format!("flows: 4096\nports: 64\n{MAIN}")
}

/// What the files of VMs say.
type Files = BTreeMap<String, String>;

struct Killed {
    world: World,
    guests: Two,
    before: Files,
    /// What there is after a start, by what the files say.
    as_files_say: Vec<(Files, State)>,
}

/// A change that a daemon is killed in.
#[derive(Clone, Copy)]
struct Doing<'a> {
    /// It is asked for, and perhaps made.
    begin: &'a dyn Fn(&World),
    /// It is made.
    make: &'a dyn Fn(&World) -> Outcome,
    maker: Maker,
}

impl Killed {
    fn start() -> Self {
        let world = World::start_by(weir(), &main_file(), &vms());
        let guests = Two::start(&world);
        let_it_write(&world);
        let before = world.vm_files();
        Self {
            world,
            guests,
            before,
            as_files_say: Vec::new(),
        }
    }

    /// By a daemon that is stopped and started with the files of before.
    fn go_back(&mut self) {
        self.world.set_vm_files(&self.before);
        self.restart();
    }

    fn restart(&mut self) {
        self.world.daemon.signal(rustix::process::Signal::TERM);
        let status = self.world.daemon.ended();
        assert!(status.success(), "{status}");
        self.world.start_again(weir(), &main_file());
        self.guests.reconnect(&mut self.world);
    }

    /// The system calls of a change, which is not in force any more. What a daemon has that starts
    /// before it or after it, and was never killed, is known from then on.
    fn calls(&mut self, doing: Doing<'_>) -> Vec<Call> {
        let Doing { make, maker, .. } = doing;
        self.go_back();
        self.know();
        let strace = maker.attach(&self.world, None);
        assert_eq!(make(&self.world), Outcome::InForce);
        let calls = maker.of_the_change(strace.end());
        self.restart();
        self.know();
        self.go_back();
        calls
    }

    fn know(&mut self) {
        let state = State::of(&self.world, &String::new).without_numbers();
        self.as_files_say.push((self.world.vm_files(), state));
    }

    /// The daemon is killed as it is about to make this call. Gives whether the change is kept.
    fn kill_before(&mut self, call: &Call, doing: Doing<'_>, what: &str) -> bool {
        let inject = format!("{}:signal=KILL:when={}", call.name, call.nth);
        let strace = doing.maker.attach(&self.world, Some(&inject));
        (doing.begin)(&self.world);
        let status = self.world.daemon.ended();
        assert_eq!(status.signal(), Some(9), "before: {what}: {status}");
        drop(strace);
        self.world.start_again(weir(), &main_file());
        self.guests.reconnect(&mut self.world);
        let what = format!("being killed before: {what}: {}", call.line);
        let files = self.world.vm_files();
        let known = self.as_files_say.iter().find(|(of, _)| *of == files);
        let (_, state) = known.unwrap_or_else(|| panic!("after {what}: {files:?}"));
        state.assert_is_like(&self.world, &String::new, &what);
        let is_kept = files != self.before;
        self.go_back();
        is_kept
    }

    /// Kills it before each of these points.
    fn kill_at(&mut self, points: &[(&str, &str, &str)], doing: Doing<'_>) {
        let calls = self.calls(doing);
        for (what, name, argument) in points {
            let is_it = |call: &&Call| call.name == *name && call.line.contains(argument);
            // Of those that are alike, the last.
            let call = calls.iter().rfind(is_it);
            let call = call.unwrap_or_else(|| panic!("no call of {name} with {argument}"));
            let is_kept = self.kill_before(call, doing, what);
            eprintln!("killed before: {what}: the change is kept: {is_kept}");
        }
    }

    /// Kills it before any call.
    fn kill_at_each(&mut self, doing: Doing<'_>, what: &str) {
        let mut calls = self.calls(doing);
        calls.retain(|call| !DIFFERS.contains(&call.name.as_str()));
        let kept = calls
            .iter()
            .filter(|call| self.kill_before(call, doing, what));
        let n_kept = kept.count();
        eprintln!(
            "{what}: killed before each of {} calls; the change is kept by {n_kept}",
            calls.len()
        );
    }
}

/// The typical change, by files.
const BY_FILES: Doing<'static> = Doing {
    begin: &|world| {
        after(world);
        let _ = world.request_reload();
    },
    make: &|world| {
        after(world);
        world.reload()
    },
    maker: Maker::Main,
};

/// Asks, and waits for no answer that doesn't come.
fn try_to_ask(world: &World, asking: &Asking) {
    let (method, path, body) = asking.make.clone();
    let (control, dir) = (
        world.control(),
        world.daemon.dir.path().display().to_string(),
    );
    let body = body.map(|body| body.replace("DIR", &dir));
    let _ = try_request(&control, method, path, body.as_deref());
}

#[test]
fn daemon_that_is_killed_in_a_change_starts_with_what_the_files_say() {
    if !can_inject("daemon_that_is_killed_in_a_change_starts_with_what_the_files_say") {
        return;
    }
    let mut killed = Killed::start();
    killed.kill_at(&POINTS, BY_FILES);
    let added = &askings()[0];
    killed.kill_at(
        &POINTS_OF_WRITES,
        Doing {
            begin: &|world| try_to_ask(world, added),
            make: &|world| Asking::ask(world, &added.make),
            maker: Maker::Request,
        },
    );
}

#[test]
#[ignore = "some minutes: ./x faults"]
fn daemon_that_is_killed_before_any_call_of_a_change_starts_with_what_the_files_say() {
    let test = "daemon_that_is_killed_before_any_call_of_a_change_starts_with_what_the_files_say";
    if !can_inject(test) {
        return;
    }
    let mut killed = Killed::start();
    killed.kill_at_each(BY_FILES, "files read again");
    for asking in &askings() {
        let doing = Doing {
            begin: &|world| try_to_ask(world, asking),
            make: &|world| Asking::ask(world, &asking.make),
            maker: Maker::Request,
        };
        killed.kill_at_each(doing, asking.what);
    }
}
