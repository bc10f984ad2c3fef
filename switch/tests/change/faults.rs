//! A change with a system call that fails: all must be as it was, and the next change must work.
//!
//! It is made once to see which system calls it makes, then again and again, each time with one
//! more of them refused by the kernel; or with ever more open files allowed.

use std::collections::BTreeMap;
use std::process::Command;

use crate::state::State;
use crate::strace::{Call, Maker};
use crate::world::{Outcome, World};

/// What a system call fails with; others are left alone: their failure is nothing that a kernel
/// does, or is the end of every program (memory).
const ERRORS: [(&str, &str); 32] = [
    ("bind", "ENOSPC"),
    ("bpf", "ENOMEM"),
    ("chmod", "EPERM"),
    ("clone3", "EAGAIN"),
    ("epoll_ctl", "ENOSPC"),
    ("eventfd2", "EMFILE"),
    ("fchmod", "EPERM"),
    ("fchownat", "EPERM"),
    ("fstat", "EIO"),
    ("fsync", "EIO"),
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
    ("recvmsg", "ENOBUFS"),
    ("rename", "ENOSPC"),
    ("recvfrom", "ENOBUFS"),
    ("renameat2", "ENOSPC"),
    ("sendmsg", "ENOBUFS"),
    ("sendto", "ENOBUFS"),
    ("setsockopt", "ENOBUFS"),
    ("socket", "EMFILE"),
    ("statx", "EIO"),
    ("unlink", "EIO"),
    ("unlinkat", "EIO"),
    ("write", "ENOSPC"),
];

/// A change, and the daemon that makes it.
pub(crate) struct Change<'a> {
    pub(crate) world: &'a World,
    pub(crate) make: &'a dyn Fn(&World) -> Outcome,
    /// From whatever became of it to what was before.
    pub(crate) undo: &'a dyn Fn(&World) -> Outcome,
    pub(crate) maker: Maker,
    /// Whether a change that fails may take something from somebody, and give it back.
    pub(crate) gives_back: bool,
    /// What else must be as it was.
    pub(crate) more: &'a dyn Fn() -> String,
    /// Whether those who were there are as they were.
    pub(crate) is_well: &'a mut dyn FnMut(&str),
}

/// What came of the attempts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) n_tried: usize,
    /// Of these, such as the kernel was seen to refuse something in.
    pub(crate) n_failed: usize,
    pub(crate) n_refused: usize,
    /// Why, and what was made to fail.
    pub(crate) whys: BTreeMap<String, String>,
}

impl Change<'_> {
    /// The system calls of the change. It is in force then, and undone.
    fn calls(&mut self) -> Vec<Call> {
        let base = self.now();
        let strace = self.maker.attach(self.world, None);
        assert_eq!((self.make)(self.world), Outcome::InForce);
        let calls = self.maker.of_the_change(strace.end());
        self.go_back(&base, "the change");
        calls
    }

    /// Each of the calls that can fail is made to fail.
    pub(crate) fn fail_each_call(&mut self) -> Tally {
        self.fail_calls("", 1)
    }

    /// The same of those behind the last call with this among its arguments (nothing: of all), but
    /// of each kind only the first of `every` in a row.
    pub(crate) fn fail_calls(&mut self, argument: &str, every: usize) -> Tally {
        let mut tally = Tally::default();
        let calls = self.calls();
        let is_it = |call: &Call| !argument.is_empty() && call.line.contains(argument);
        let begin = calls.iter().rposition(is_it).unwrap_or(0);
        let mut n_alike = BTreeMap::<String, usize>::new();
        for call in calls.into_iter().skip(begin) {
            let n = n_alike.entry(call.name.clone()).or_default();
            let is_due = n.is_multiple_of(every);
            *n += 1;
            let can_fail = ERRORS.iter().any(|(name, _)| *name == call.name);
            if is_due && can_fail && !call.is_signal() {
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
        let inject = format!("{name}:error={error}:when={}", call.nth);
        let strace = self.maker.attach(self.world, Some(&inject));
        let outcome = (self.make)(self.world);
        let is_injected = |call: &Call| call.line.contains("INJECTED");
        let was_injected = strace.end().iter().any(is_injected);
        let what = format!("{error} in call {} of {}", call.nth, call.line);
        tally.n_tried += 1;
        tally.n_failed += usize::from(was_injected);
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
            // Numbers of files are those that are free, the lowest first.
            self.limit_files(&format!("{}", n_files + more));
            let outcome = (self.make)(self.world);
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
            if self.gives_back {
                let base = base.clone().without_numbers();
                base.assert_is_like(self.world, self.more, what);
            } else {
                base.assert_is(self.world, self.more, what);
            }
            (self.is_well)(what);
            // What failed works now.
            let next = (self.make)(self.world);
            assert_eq!(next, Outcome::InForce, "the next change, after {what}");
        }
        self.go_back(base, what);
        (self.is_well)(what);
    }

    /// To what was before.
    fn go_back(&mut self, base: &State, what: &str) {
        let outcome = (self.undo)(self.world);
        assert_eq!(outcome, Outcome::InForce, "the way back, after {what}");
        let what = format!("the way back, after {what}");
        let base = base.clone().without_numbers();
        base.assert_is_like(self.world, self.more, &what);
    }

    fn now(&self) -> State {
        State::of(self.world, self.more)
    }
}

pub(crate) fn print(tally: &Tally, how: &str) {
    let Tally {
        n_tried,
        n_failed,
        n_refused,
        whys,
    } = tally;
    eprintln!(
        "{how}: {n_tried} changes, in {n_failed} of which something failed; {n_refused} were \
        refused and undone:"
    );
    for (why, what) in whys {
        eprintln!("  {}\n    by {}", why.trim().replace('\n', " / "), what);
    }
}
