//! `cores:` and `idle:` change while guests send.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use guest::Guest;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::rig::{Daemon, PATIENCE, exchange, frame, is_hello, topology, write};

/// Two VMs, `DIR/a.sock` and `DIR/b.sock`, and these CPUs.
fn two(cpus: &[usize]) -> String {
    topology(&["a", "b"], "weir").replace("[CPU]", &format!("{cpus:?}"))
}

/// The first two CPUs that may be used; none: there is but one.
pub(crate) fn two_cpus() -> Option<[usize; 2]> {
    let cpus = core_affinity::get_core_ids().unwrap();
    let [first, second, ..] = &cpus[..] else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "in CI nothing may be skipped: there is but one CPU"
        );
        eprintln!("NOT TESTED: there is but one CPU");
        return None;
    };
    Some([first.id, second.id])
}

impl Daemon {
    /// Has another topology read: 200, or a refusal.
    pub(crate) fn reload_by_api(&self, topology: &str) -> (u16, String) {
        write(&self.dir, topology);
        let (status, answer) = self.ask("POST", "/v1/reload", "");
        (status, answer.to_string())
    }

    /// Name and affinity of each of its threads, those apart that come and go by themselves.
    fn affinities(&self) -> Vec<(String, BTreeSet<usize>)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid().as_raw_nonzero())).unwrap();
        // One may end in between.
        let statuses =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        let threads = statuses.map(|status| {
            let field = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name));
                value.unwrap().trim().to_owned()
            };
            (field("Name:"), list(&field("Cpus_allowed_list:")))
        });
        let mut threads: Vec<_> = threads
            .filter(|(name, _)| !name.ends_with("-work"))
            .collect();
        threads.sort();
        // One that starts has the name of the one that starts it.
        threads.dedup_by(|a, b| a == b && a.0 == "control");
        threads
    }

    /// Waits until it has these threads and no others: what serves a request takes its name when it
    /// runs, and may end later.
    fn until_threads_are(&self, expected: &[(String, BTreeSet<usize>)]) {
        let begun = Instant::now();
        while self.affinities() != expected {
            let found = self.affinities();
            assert!(begun.elapsed() < PATIENCE, "{found:?} {expected:?}");
            std::thread::yield_now();
        }
    }

    /// Everything says that these CPUs are polled on, and no others.
    fn assert_polls_on(&self, cpus: &[usize]) {
        let polled: BTreeSet<_> = cpus.iter().copied().collect();
        let n_cpus = core_affinity::get_core_ids().unwrap().len();
        let (polling, others): (Vec<_>, Vec<_>) = self
            .affinities()
            .into_iter()
            .partition(|(name, _)| name.starts_with("poll-"));
        let expected = polled
            .iter()
            .map(|cpu| (format!("poll-{cpu}"), BTreeSet::from([*cpu])));
        assert_eq!(polling, expected.collect::<Vec<_>>());
        assert!(others.len() > 5, "{others:?}");
        for (name, allowed) in others {
            let is_off = allowed.is_disjoint(&polled) || polled.len() == n_cpus;
            assert!(
                is_off && !allowed.is_empty(),
                "{name} may run on {allowed:?}"
            );
        }
        let shown = self.json(&["cores"]);
        let shown = shown.as_array().unwrap().iter();
        let shown: Vec<_> = shown.map(|core| core["cpu"].as_u64().unwrap()).collect();
        let wanted: Vec<_> = cpus.iter().map(|&cpu| cpu as u64).collect();
        assert_eq!(shown, wanted, "in the file's order");
    }

    /// Receive queues, each with the CPU that polls it.
    fn queues(&self) -> Vec<(String, u64)> {
        let queues = self.json(&["queues"]);
        let queues = queues.as_array().unwrap().iter();
        let of = |queue: &serde_json::Value| {
            assert!(queue.get("is_moving").is_none(), "{queue}");
            let name = format!("{}:{}", queue["port"].as_str().unwrap(), queue["index"]);
            (name, queue["cpu"].as_u64().unwrap())
        };
        queues.map(of).collect()
    }

    /// Busy cycles and frames of all cores that there are and were.
    fn busy(&self) -> [u64; 2] {
        let shown = String::from_utf8(self.show(&["cores", "--busy"]).stdout).unwrap();
        let mut numbers = shown.split_whitespace().map(|n| n.parse().unwrap());
        [numbers.next().unwrap(), numbers.next().unwrap()]
    }
}

/// A list of CPUs as the kernel writes them.
fn list(text: &str) -> BTreeSet<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<usize>().unwrap()..=last.parse().unwrap()
    };
    text.split(',').flat_map(range).collect()
}

/// Frames numbered from 0 on, one way. No more are under way than fit into the receiver's ring, so
/// that none may be dropped for want of room.
#[derive(Default)]
struct Way {
    n_sent: AtomicU64,
    n_got: AtomicU64,
}

impl Way {
    const UNDER_WAY_MAX: u64 = 64;

    fn send(&self, guest: &mut Guest, (from, to): (u8, u8)) {
        let mut n = self.n_sent.load(Ordering::Relaxed);
        let end = self.n_got.load(Ordering::Acquire) + Self::UNDER_WAY_MAX;
        while n < end {
            let mut bytes = frame(from, to, 60 + usize::try_from(n % 1400).unwrap(), n);
            bytes[14..22].copy_from_slice(&n.to_be_bytes());
            if !guest.send(0, &bytes) {
                break;
            }
            n += 1;
        }
        guest.driver.reclaim_tx(0);
        self.n_sent.store(n, Ordering::Release);
    }

    /// What has come is what was sent, in order.
    fn receive(&self, guest: &mut Guest) {
        while let Some(bytes) = guest.recv(0) {
            if is_hello(&bytes) {
                continue;
            }
            let n = self.n_got.load(Ordering::Relaxed);
            assert_eq!(bytes[14..22], n.to_be_bytes(), "frame {n} is lost or late");
            assert_eq!(bytes.len() as u64, 60 + n % 1400);
            self.n_got.store(n + 1, Ordering::Release);
        }
    }

    fn is_over(&self) -> bool {
        self.n_got.load(Ordering::Acquire) == self.n_sent.load(Ordering::Acquire)
    }
}

/// Both guests send and receive, until `work` is done and all that was sent has come.
fn exchanging(guests: &mut [Guest; 2], work: impl FnOnce(&[Way; 2])) {
    let ways = [Way::default(), Way::default()];
    let (is_done, n_done) = (AtomicBool::new(false), AtomicU64::new(0));
    let [a, b] = guests;
    let serve = |guest: &mut Guest, (out, from, to): (&Way, u8, u8), back: &Way| {
        let begun = Instant::now();
        let mut is_counted = false;
        while n_done.load(Ordering::Acquire) < 2 {
            let is_done = is_done.load(Ordering::Acquire);
            if !is_done {
                out.send(guest, (from, to));
            } else if out.is_over() && !is_counted {
                n_done.fetch_add(1, Ordering::AcqRel);
                is_counted = true;
            }
            guest.wait(Duration::from_millis(1));
            back.receive(guest);
            assert!(begun.elapsed() < 5 * PATIENCE, "what was sent doesn't come");
        }
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| serve(a, (&ways[0], 1, 2), &ways[1]));
        let second = scope.spawn(|| serve(b, (&ways[1], 2, 1), &ways[0]));
        // Whoever waits for frames sees it when a guest has failed.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&ways)));
        is_done.store(true, Ordering::Release);
        if done.is_err() {
            n_done.store(2, Ordering::Release);
        }
        first.join().unwrap();
        second.join().unwrap();
        done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
    });
}

/// Waits until frames have come both ways since.
fn until_some_came(ways: &[Way; 2]) {
    let n = || ways.each_ref().map(|way| way.n_got.load(Ordering::Acquire));
    let (before, begun) = (n(), Instant::now());
    while n()
        .iter()
        .zip(before)
        .any(|(now, before)| *now < before + 50)
    {
        assert!(begun.elapsed() < PATIENCE, "no frames come");
        std::thread::yield_now();
    }
}

#[test]
fn cores_are_exchanged_fifty_times_while_guests_send_and_no_frame_is_lost_or_late() {
    let Some([one, other]) = two_cpus() else {
        return;
    };
    let daemon = Daemon::start(&two(&[one]));
    let mut guests = daemon.guests(["a", "b"]);
    let round = [&[one, other][..], &[other], &[other, one], &[one]];
    let mut before = (daemon.busy(), None, None);
    exchanging(&mut guests, |ways| {
        for cpus in round.iter().cycle().take(52) {
            let (status, answer) = daemon.reload_by_api(&two(cpus));
            assert_eq!(status, 200, "{answer}");
            daemon.assert_polls_on(cpus);
            let queues = daemon.queues();
            let names: Vec<_> = queues.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["a/net0:1", "b/net0:1"]);
            let used: BTreeSet<_> = queues.iter().map(|(_, cpu)| *cpu).collect();
            let wanted = cpus.iter().map(|&cpu| cpu as u64).collect();
            assert_eq!(used, wanted, "each CPU has a queue");
            until_some_came(ways);
            let busy = daemon.busy();
            assert!(
                busy >= before.0 && busy[1] > before.0[1],
                "{before:?} {busy:?}"
            );
            before.0 = busy;
            if cpus == &[one] {
                let files = *before.1.get_or_insert(daemon.n_files());
                let threads = before.2.get_or_insert_with(|| daemon.affinities());
                daemon.until_threads_are(threads);
                assert_eq!(daemon.n_files(), files);
            }
        }
    });
    for port in ["a/net0", "b/net0"] {
        let port = daemon.port(port);
        assert_eq!(port["connection"]["connections"], 1, "{port}");
        let drops = port["drops"].as_array().unwrap().iter();
        // A guest that greets another one goes on while that has no buffers yet.
        let drops = drops.filter(|drop| drop["reason"] != "receiver-full");
        assert_eq!(drops.count(), 0, "{port}");
    }
    assert!(!daemon.log().contains("has been stuck"), "{}", daemon.log());
}

#[test]
fn change_of_cores_that_fails_changes_nothing() {
    let Some([one, other]) = two_cpus() else {
        return;
    };
    let mut daemon = Daemon::start(&two(&[one]));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let before = daemon.affinities();
    // Each with what is said about it. The last ones fail when the new core runs already.
    let vm = "  z: { nics: { net0: { network: blue, vhost-user: { path: DIR/no/z.sock } } } }\n";
    let is_there = vm.replace("DIR/no/z.sock", "DIR/weir.yaml");
    for (bad, why) in [
        (two(&[one, 1000]), "there is no CPU 1000"),
        (two(&[1000]), "there is no CPU 1000"),
        (two(&[other, other]), "twice"),
        (two(&[]), "is empty"),
        (two(&[one, other]) + vm, "z.sock"),
        (two(&[other]) + vm, "z.sock"),
        (two(&[other]) + &is_there, "weir.yaml"),
    ] {
        let (status, answer) = daemon.reload_by_api(&bad);
        assert!(status >= 400 && answer.contains(why), "{status} {answer}");
        daemon.until_threads_are(&before);
        daemon.assert_polls_on(&[one]);
        exchange((1, &mut a), (2, &mut b), 20);
    }
    // There are no more files: for the first of what a new core needs, for the second, and so on.
    let (process, n_files) = (daemon.pid(), daemon.n_files());
    let all = files_of(process);
    // Fewer at first, since a connection that ends may have counted.
    for n in n_files.saturating_sub(6).. {
        set_files(process, Some(n as u64), all.maximum);
        let is_done = daemon.reload(&two(&[one, other]));
        set_files(process, all.current, all.maximum);
        if is_done {
            break;
        }
        daemon.until_threads_are(&before);
        exchange((2, &mut b), (1, &mut a), 20);
    }
    let log = daemon.log();
    assert!(log.contains("cannot add a polling core"), "{log}");
    assert_eq!(daemon.reload_by_api(&two(&[other, one])).0, 200);
    daemon.assert_polls_on(&[other, one]);
    exchange((1, &mut a), (2, &mut b), 20);
    for port in ["a/net0", "b/net0"] {
        assert_eq!(daemon.port(port)["connection"]["connections"], 1);
    }
}

/// How many files the process may have open.
fn files_of(process: Pid) -> Rlimit {
    let path = format!("/proc/{}/limits", process.as_raw_nonzero());
    let limits = fs::read_to_string(path).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut numbers = line.unwrap().split_whitespace().skip(3);
    let mut next = || numbers.next().unwrap().parse().ok();
    Rlimit {
        current: next(),
        maximum: next(),
    }
}

fn set_files(process: Pid, current: Option<u64>, maximum: Option<u64>) {
    let limit = Rlimit { current, maximum };
    prlimit(Some(process), Resource::Nofile, limit).unwrap();
}

#[test]
fn idle_cores_poll_or_sleep_as_the_file_says_from_one_turn_to_the_next() {
    let Some([one, _]) = two_cpus() else {
        return;
    };
    let adaptive = two(&[one]);
    let polls = format!("idle: poll\n{adaptive}");
    let daemon = Daemon::start(&adaptive);
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let thread = daemon.threads(&format!("poll-{one}"));
    let task = format!("/proc/{}/task/{}", daemon.pid().as_raw_nonzero(), thread[0]);
    // Nanoseconds for which it had the CPU.
    let used = || -> u64 {
        let text = fs::read_to_string(format!("{task}/schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    // The part of a tenth of a second that it had the CPU for, of those that pass until it is so.
    let until = |what: &str, is_so: fn(f64) -> bool| {
        let begun = Instant::now();
        loop {
            let (before, at) = (used(), Instant::now());
            std::thread::sleep(Duration::from_millis(100));
            let ns = u32::try_from(used() - before).unwrap();
            if is_so(f64::from(ns) / 1e9 / at.elapsed().as_secs_f64()) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}");
        }
    };
    for _ in 0..3 {
        until("it sleeps", |part| part < 0.1);
        // Nothing comes that would wake it.
        assert_eq!(daemon.reload_by_api(&polls).0, 200);
        until("it polls", |part| part > 0.3);
        exchange((1, &mut a), (2, &mut b), 20);
        assert_eq!(daemon.reload_by_api(&adaptive).0, 200);
    }
    until("it sleeps", |part| part < 0.1);
    exchange((1, &mut a), (2, &mut b), 20);
    assert_eq!(
        daemon.threads(&format!("poll-{one}")),
        thread,
        "no other thread"
    );
}

/// A core that comes is as the file says, too.
#[test]
fn core_that_comes_with_another_idle_has_it() {
    let Some([one, other]) = two_cpus() else {
        return;
    };
    let daemon = Daemon::start(&format!("idle: poll\n{}", two(&[one])));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    assert_eq!(daemon.reload_by_api(&two(&[one, other])).0, 200);
    let sleeps = || {
        let cores = daemon.json(&["cores"]);
        let cores = cores.as_array().unwrap().iter();
        cores
            .map(|core| core["sleeps"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let (before, begun) = (sleeps(), Instant::now());
    while sleeps().iter().zip(&before).any(|(now, then)| now <= then) {
        exchange((1, &mut a), (2, &mut b), 5);
        exchange((2, &mut b), (1, &mut a), 5);
        assert!(begun.elapsed() < PATIENCE, "{:?}", sleeps());
    }
}

#[test]
fn part_of_a_core_that_a_queue_takes_is_shown() {
    let daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let mut guests = daemon.guests(["a", "b"]);
    exchanging(&mut guests, |ways| {
        let begun = Instant::now();
        loop {
            until_some_came(ways);
            let (queues, cores) = (daemon.json(&["queues"]), daemon.json(&["cores"]));
            let ratio = |load: &serde_json::Value| load["load"]["busy_ratio"].as_f64().unwrap();
            let ratios: Vec<_> = queues.as_array().unwrap().iter().map(ratio).collect();
            assert!(
                ratios.len() == 2 && ratios.iter().sum::<f64>() <= 1.0,
                "{queues}"
            );
            if ratios.iter().all(|&ratio| ratio > 0.0) {
                assert!(ratio(&cores[0]) > 0.0, "{cores}");
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{queues}");
        }
    });
    let text = String::from_utf8(daemon.show(&["queues"]).stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("PORT") && lines[1].starts_with("a/net0"),
        "{text}"
    );
    // A port that goes down has none.
    drop(guests);
    let begun = Instant::now();
    while daemon
        .json(&["queues"])
        .as_array()
        .is_none_or(|queues| !queues.is_empty())
    {
        assert!(begun.elapsed() < PATIENCE);
    }
}
