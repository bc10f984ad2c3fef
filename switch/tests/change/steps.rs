//! Each step of a change is made to fail: all must be as it was, and the next change must work.
//!
//! A change is made once to see which system calls it makes, then again and again, each time with
//! one more of them refused by the kernel; then with ever more open files allowed.

use std::collections::BTreeMap;
use std::process::Command;

use guest::{Guest, Options};

use crate::rig::{exchange, introduce, weir};
use crate::state::{State, n_eventfds};
use crate::strace::{Call, Strace, can_inject, of_the_change};
use crate::typical::{after, before, vms};
use crate::world::{MAIN, Outcome, World};

/// What a system call fails with; others are left alone: their failure is nothing that a kernel
/// does, or is the end of every program (memory).
const ERRORS: [(&str, &str); 26] = [
    ("bind", "ENOSPC"),
    ("bpf", "ENOMEM"),
    ("chmod", "EPERM"),
    ("clone3", "EAGAIN"),
    ("epoll_ctl", "ENOSPC"),
    ("eventfd2", "EMFILE"),
    ("fchmod", "EPERM"),
    ("fchownat", "EPERM"),
    ("fstat", "EIO"),
    ("getdents64", "EIO"),
    ("getsockopt", "ENOBUFS"),
    ("ioctl", "ENODEV"),
    ("listen", "ENOBUFS"),
    ("memfd_create", "EMFILE"),
    ("mmap", "ENOMEM"),
    ("newfstatat", "EIO"),
    ("openat", "EMFILE"),
    ("read", "EIO"),
    ("readlink", "EACCES"),
    ("recvfrom", "ENOBUFS"),
    ("renameat2", "ENOSPC"),
    ("sendto", "ENOBUFS"),
    ("setsockopt", "ENOBUFS"),
    ("socket", "EMFILE"),
    ("statx", "EIO"),
    ("unlink", "EIO"),
];

/// A change, and the daemon that makes it.
pub(crate) struct Change<'a> {
    pub(crate) world: &'a World,
    /// Writes the files of before, and of after.
    pub(crate) before: &'a dyn Fn(&World),
    pub(crate) after: &'a dyn Fn(&World),
    /// What is said of devices.
    pub(crate) devices: &'a dyn Fn() -> String,
    /// Whether those who were there are as they were.
    pub(crate) is_well: &'a mut dyn FnMut(&str),
    /// What is there before, but for numbers.
    pub(crate) base: State,
}

/// What came of the attempts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) n_tried: usize,
    pub(crate) n_refused: usize,
    /// Why, and what was made to fail.
    pub(crate) whys: BTreeMap<String, String>,
}

impl Change<'_> {
    /// The system calls of the change, once it reads its files. It is in force then, and undone.
    fn calls(&mut self) -> Vec<Call> {
        (self.after)(self.world);
        let strace = self.attach(None);
        assert_eq!(self.world.reload(), Outcome::InForce);
        let calls = of_the_change(strace.end());
        self.go_back("the change");
        calls
    }

    fn attach(&self, inject: Option<&str>) -> Strace {
        let out = self.world.daemon.path("out.strace");
        Strace::attach(self.world.daemon.pid(), &out, inject)
    }

    /// Each of the calls that can fail is made to fail.
    pub(crate) fn fail_each_call(&mut self) -> Tally {
        let mut tally = Tally::default();
        for call in self.calls() {
            if ERRORS.iter().any(|(name, _)| *name == call.name) {
                self.fail(&call, &mut tally);
            }
        }
        tally
    }

    fn fail(&mut self, call: &Call, tally: &mut Tally) {
        let (name, error) = ERRORS
            .into_iter()
            .find(|(name, _)| *name == call.name)
            .expect("it can fail");
        let (number, base) = (self.world.number(), self.now());
        (self.after)(self.world);
        let strace = self.attach(Some(&format!("{name}:error={error}:when={}", call.nth)));
        let outcome = self.world.reload();
        let was_injected = strace
            .end()
            .iter()
            .any(|call| call.line.contains("INJECTED"));
        let what = format!("{error} in call {} of {}", call.nth, call.line);
        tally.n_tried += 1;
        if let Outcome::Refused(why) = &outcome {
            assert!(was_injected, "refused without a reason: {why}");
            assert_eq!(self.world.number(), number, "after {what}");
        }
        self.settle(&base, &outcome, &what, tally);
    }

    /// The change with ever more files allowed, from none more than there are to as many as it
    /// needs.
    pub(crate) fn fail_for_want_of_files(&mut self) -> Tally {
        let mut tally = Tally::default();
        let n_files = self.world.daemon.n_files();
        for more in 0..200 {
            let base = self.now();
            (self.after)(self.world);
            // Numbers of files are those that are free, the lowest first.
            self.limit_files(&format!("{}", n_files + more));
            let outcome = self.world.reload();
            self.limit_files("");
            tally.n_tried += 1;
            self.settle(&base, &outcome, &format!("{more} more files"), &mut tally);
            if outcome == Outcome::InForce {
                return tally;
            }
        }
        panic!("the change needs more than 200 files");
    }

    /// The soft limit of open files; nothing: as high as may be.
    fn limit_files(&self, soft: &str) {
        let pid = self.world.daemon.pid().as_raw_nonzero().to_string();
        let hard = "1024";
        let limit = format!("--nofile={}:", if soft.is_empty() { hard } else { soft });
        let limited = Command::new("prlimit")
            .args(["--pid", &pid, &limit])
            .status();
        assert!(limited.unwrap().success());
    }

    /// All is as it was, or the change is in force and can be undone.
    fn settle(&mut self, base: &State, outcome: &Outcome, what: &str, tally: &mut Tally) {
        if let Outcome::Refused(why) = outcome {
            tally.n_refused += 1;
            tally
                .whys
                .entry(why.clone())
                .or_insert_with(|| what.to_owned());
            base.assert_is(self.world, self.devices, what);
            (self.is_well)(what);
            // What failed works now.
            let next = self.world.reload();
            assert_eq!(next, Outcome::InForce, "the next change, after {what}");
        }
        self.go_back(what);
        (self.is_well)(what);
    }

    /// To the files of before.
    fn go_back(&mut self, what: &str) {
        (self.before)(self.world);
        let outcome = self.world.reload();
        assert_eq!(outcome, Outcome::InForce, "the way back, after {what}");
        let what = format!("the way back, after {what}");
        self.base.assert_is_like(self.world, self.devices, &what);
    }

    fn now(&self) -> State {
        State::of(self.world, self.devices)
    }
}

fn guests_are_well([a, b]: &mut [Guest; 2], world: &World, after: &str) {
    exchange((1, &mut *a), (2, &mut *b), 8);
    exchange((2, b), (1, a), 8);
    for port in ["a/net0", "b/net0"] {
        let connections = &world.daemon.port(port)["connection"]["connections"];
        assert_eq!(*connections, 1, "{port} after {after}");
    }
}

/// The daemon may open 1,024 files, as many do.
fn limited() -> Command {
    let mut command = Command::new("prlimit");
    command.args(["--nofile=1024:1024", weir().get_program().to_str().unwrap()]);
    command
}

#[test]
fn change_of_which_any_call_fails_is_undone() {
    if !can_inject("change_of_which_any_call_fails_is_undone") {
        return;
    }
    let world = World::start_by(limited(), MAIN, &vms());
    let mut guests = ["a", "b"].map(|name| {
        let socket = format!("{name}.sock");
        world.daemon.guest(&socket, Options::default())
    });
    let [a, b] = &mut guests;
    introduce((1, a), (2, b));
    let no_devices = || String::new();
    let n_before = n_eventfds(&world);
    let mut change = Change {
        base: State::of(&world, &no_devices).without_numbers(),
        world: &world,
        before: &before,
        after: &after,
        devices: &no_devices,
        is_well: &mut |what| guests_are_well(&mut guests, &world, what),
    };
    let calls = change.fail_each_call();
    let files = change.fail_for_want_of_files();
    let n_more = n_eventfds(&world).saturating_sub(n_before);
    // One for each queue and its guest, while they take long; one for each change would be more.
    assert!(n_more <= 16, "{n_more} eventfds more than before");
    print(&calls, "a call refused");
    print(&files, "files wanting");
    assert!(calls.whys.len() >= 10, "{:#?}", calls.whys);
    assert!(files.whys.len() >= 4, "{:#?}", files.whys);
}

pub(crate) fn print(tally: &Tally, how: &str) {
    let Tally {
        n_tried,
        n_refused,
        whys,
    } = tally;
    eprintln!("{how}: {n_tried} changes, of which {n_refused} were refused and undone:");
    for (why, what) in whys {
        eprintln!("  {}\n    by {}", why.trim().replace('\n', " / "), what);
    }
}
