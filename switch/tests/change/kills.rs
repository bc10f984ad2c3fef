//! A daemon is killed in the midst of a change and started again: then all is as the files say.

use std::os::unix::process::ExitStatusExt;

use guest::{Guest, Options};

use crate::rig::{PATIENCE, exchange, introduce, weir};
use crate::state::State;
use crate::strace::{Call, Strace, can_inject, of_the_change};
use crate::typical::{after, before, vms};
use crate::world::{MAIN, Outcome, World};

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

/// A daemon whose tables are small, so that it starts soon.
fn main_file() -> String {
    format!("flows: 4096\nports: 64\n{MAIN}")
}

struct Killed {
    world: World,
    guests: [Guest; 2],
    /// What there must be after each start with the files of after the change.
    as_files_say: State,
}

impl Killed {
    fn start() -> Self {
        let mut world = World::start_by(weir(), &main_file(), &vms());
        let mut guests = ["a", "b"].map(|name| {
            let socket = format!("{name}.sock");
            world.daemon.guest(&socket, Options::default())
        });
        let [a, b] = &mut guests;
        introduce((1, a), (2, b));
        // As a daemon that was never killed in a change has it.
        after(&world);
        stop(&mut world);
        world.start_again(weir(), &main_file());
        reconnect(&mut world, &mut guests);
        let as_files_say = state(&world);
        let mut killed = Self {
            world,
            guests,
            as_files_say,
        };
        killed.go_back();
        killed
    }

    /// By a daemon that is stopped and started with the files of before.
    fn go_back(&mut self) {
        before(&self.world);
        stop(&mut self.world);
        self.world.start_again(weir(), &main_file());
        reconnect(&mut self.world, &mut self.guests);
    }

    /// The system calls of the change, which is not in force any more.
    fn calls(&mut self) -> Vec<Call> {
        after(&self.world);
        let strace = self.attach(None);
        assert_eq!(self.world.reload(), Outcome::InForce);
        let calls = of_the_change(strace.end());
        self.go_back();
        calls
    }

    fn attach(&self, inject: Option<&str>) -> Strace {
        let out = self.world.daemon.path("out.strace");
        Strace::attach(self.world.daemon.pid(), &out, inject)
    }

    /// The daemon is killed as it is about to make this call.
    fn kill_before(&mut self, call: &Call, what: &str) {
        after(&self.world);
        let inject = format!("{}:signal=KILL:when={}", call.name, call.nth);
        let strace = self.attach(Some(&inject));
        let _ = self.world.request_reload();
        let status = self.world.daemon.ended();
        assert_eq!(status.signal(), Some(9), "before: {what}: {status}");
        drop(strace);
        self.world.start_again(weir(), &main_file());
        reconnect(&mut self.world, &mut self.guests);
        let what = format!("being killed before: {what}: {}", call.line);
        self.as_files_say
            .assert_is_like(&self.world, &String::new, &what);
        self.go_back();
    }
}

fn stop(world: &mut World) {
    world.daemon.signal(rustix::process::Signal::TERM);
    let status = world.daemon.ended();
    assert!(status.success(), "{status}");
}

/// Guests find the new daemon with what they have, and go on.
fn reconnect(world: &mut World, [a, b]: &mut [Guest; 2]) {
    for guest in [&mut *a, &mut *b] {
        guest.reconnect(PATIENCE).unwrap();
    }
    for port in ["a/net0", "b/net0"] {
        world.daemon.until_state(port, "up");
    }
    introduce((1, &mut *a), (2, &mut *b));
    exchange((2, b), (1, a), 8);
}

fn state(world: &World) -> State {
    State::of(world, &String::new).without_numbers()
}

#[test]
fn daemon_that_is_killed_in_a_change_starts_with_what_the_files_say() {
    if !can_inject("daemon_that_is_killed_in_a_change_starts_with_what_the_files_say") {
        return;
    }
    let mut killed = Killed::start();
    let calls = killed.calls();
    for (what, name, argument) in POINTS {
        let is_it = |call: &&Call| call.name == name && call.line.contains(argument);
        // Of those that are alike, the last.
        let call = calls.iter().rfind(is_it);
        let call = call.unwrap_or_else(|| panic!("no call of {name} with {argument}"));
        killed.kill_before(call, what);
    }
}

#[test]
#[ignore = "two minutes: ./x kills"]
fn daemon_that_is_killed_before_any_call_of_a_change_starts_with_what_the_files_say() {
    let test = "daemon_that_is_killed_before_any_call_of_a_change_starts_with_what_the_files_say";
    if !can_inject(test) {
        return;
    }
    let mut killed = Killed::start();
    let calls = killed.calls();
    eprintln!("killed before each of {} calls", calls.len());
    for call in calls {
        killed.kill_before(&call, "any call");
    }
}
