//! Frames from guest to guest, and guests that come and go.

use std::time::{Duration, Instant};

use guest::{Guest, Indirect, Manner, Options, Socket};
use rustix::process::Signal;

use crate::rig::{Daemon, PATIENCE, exchange, folder, frame, introduce, receive, send, topology};

fn total(daemon: &Daemon, counter: &str) -> u64 {
    let ports = daemon.json(&["ports"]);
    ports
        .as_array()
        .unwrap()
        .iter()
        .map(|port| port["counters"][counter].as_u64().unwrap())
        .sum()
}

/// Every frame that came in is accounted for, on every port and over all.
fn assert_balanced(daemon: &mut Daemon) {
    daemon.until("all counters add up", |daemon| {
        let ports = daemon.json(&["ports"]);
        let is_balanced = |port: &serde_json::Value| {
            let get = |name: &str| port["counters"][name].as_u64().unwrap();
            get("rx_frames") + get("copied_frames")
                == get("forwarded_frames") + get("dropped_frames")
        };
        ports.as_array().unwrap().iter().all(is_balanced)
            && total(daemon, "forwarded_frames") == total(daemon, "tx_frames")
    });
}

/// The last guests are gone: a port has one at a time.
fn until_free(daemon: &mut Daemon) {
    daemon.until_state("a/net0", "waiting");
    daemon.until_state("b/net0", "waiting");
}

#[test]
fn two_guests_exchange_frames() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    daemon.until_state("a/net0", "up");
    daemon.until_state("b/net0", "up");
    exchange((1, &mut a), (2, &mut b), 200);
    exchange((2, &mut b), (1, &mut a), 200);
    a.driver.assert_intact();
    b.driver.assert_intact();
    assert_balanced(&mut daemon);
    assert!(total(&daemon, "rx_frames") >= 402);
    let macs = daemon.json(&["macs"]);
    assert_eq!(macs.as_array().unwrap().len(), 2, "{macs}");
    assert_eq!(macs[0]["kind"], "sticky");
    a.stop().unwrap();
    daemon.until_state("a/net0", "connected");
}

#[test]
fn switch_connects_to_guests_that_listen() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "guest"));
    let open = |name: &str| {
        let socket = Socket::listen(&daemon.path(name)).unwrap();
        Guest::open(socket, Options::default(), Manner::default(), PATIENCE).unwrap()
    };
    let (mut a, mut b) = (open("a.sock"), open("b.sock"));
    daemon.until_state("b/net0", "up");
    introduce((1, &mut a), (2, &mut b));
    exchange((1, &mut a), (2, &mut b), 50);
    // And again, as soon as the other end of the socket is back.
    drop(a);
    let socket = Socket::listen(&daemon.path("a.sock")).unwrap();
    let mut a = Guest::open(socket, Options::default(), Manner::default(), PATIENCE).unwrap();
    introduce((1, &mut a), (2, &mut b));
    exchange((2, &mut b), (1, &mut a), 50);
    assert_balanced(&mut daemon);
}

#[test]
fn guests_of_many_shapes_understand_each_other() {
    let shapes = [
        Options {
            version_1: false,
            mergeable: false,
            ..Options::default()
        },
        Options {
            mergeable: false,
            ..Options::default()
        },
        Options {
            indirect: Indirect::Always,
            tx_header_apart: true,
            tx_parts: 3,
            ..Options::default()
        },
        Options {
            event_idx: true,
            rx_shape: vec![100, 1948],
            ..Options::default()
        },
        Options {
            n_queue_pairs: 8,
            rx_ring: 64,
            tx_ring: 128,
            ..Options::default()
        },
        Options {
            rx_shape: vec![200],
            rx_ring: 1024,
            ..Options::default()
        },
    ];
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    for options in shapes {
        until_free(&mut daemon);
        let mut a = daemon.guest("a.sock", options.clone());
        let mut b = daemon.guest("b.sock", Options::default());
        introduce((1, &mut a), (2, &mut b));
        exchange((1, &mut a), (2, &mut b), 20);
        exchange((2, &mut b), (1, &mut a), 20);
        a.driver.assert_intact();
    }
}

#[test]
fn front_ends_of_every_manner_are_served() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    for bits in 0..16 {
        until_free(&mut daemon);
        let on = |bit: u32| bits >> bit & 1 == 0;
        let manner = Manner {
            reply_ack: on(0),
            mem_slots: on(1),
            kicks: on(2),
            calls: on(3),
        };
        let socket = Socket::Connect(daemon.path("a.sock"));
        let mut a = Guest::open(socket, Options::default(), manner, PATIENCE).unwrap();
        let mut b = daemon.guest("b.sock", Options::default());
        introduce((1, &mut a), (2, &mut b));
        exchange((1, &mut a), (2, &mut b), 5);
    }
}

#[test]
fn guest_that_vanishes_disturbs_nobody_and_may_come_back() {
    let mut daemon = Daemon::start(&topology(&["a", "b", "c"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    for round in 0..20 {
        let mut c = daemon.guest("c.sock", Options::default());
        introduce((3, &mut c), (1, &mut a));
        // In the midst of frames to it and from it: its process ends as if by `kill -9`.
        for seed in 0..100 {
            a.send(0, &frame(1, 3, 1000, seed));
            c.send(0, &frame(3, 1, 1000, seed));
        }
        drop(c);
        // What `c` sent last may still be on its way.
        let probe = frame(2, 1, 99, round);
        send(&mut b, &probe);
        while receive(&mut a) != probe {}
        exchange((1, &mut a), (2, &mut b), 5);
        daemon.until_state("c/net0", "waiting");
    }
    assert_balanced(&mut daemon);
    daemon.until("nothing of it is left", |daemon| {
        daemon.n_shared_mappings() == 2
    });
    let macs = daemon.json(&["macs"]);
    // Its process lives, and may connect again.
    let is_left = |row: &serde_json::Value| row["port"] == "c/net0" && row["kind"] != "sticky";
    assert!(!macs.as_array().unwrap().iter().any(is_left), "{macs}");
}

#[test]
fn daemon_killed_and_started_again_goes_on_where_it_was() {
    for listens in ["weir", "guest"] {
        let (dir, topology) = (
            std::sync::Arc::new(folder()),
            topology(&["a", "b"], listens),
        );
        let mut daemon = Daemon::start_in(dir.clone(), &topology);
        let open = |name: &str| {
            let path = dir.path().join(name);
            let socket = if listens == "weir" {
                Socket::Connect(path)
            } else {
                Socket::listen(&path).unwrap()
            };
            Guest::open(socket, Options::default(), Manner::default(), PATIENCE).unwrap()
        };
        let (mut a, mut b) = (open("a.sock"), open("b.sock"));
        introduce((1, &mut a), (2, &mut b));
        for round in 0..5 {
            exchange((1, &mut a), (2, &mut b), 20);
            // In the midst of a burst.
            for seed in 0..64 {
                a.send(0, &frame(1, 2, 300, seed));
            }
            daemon.signal(Signal::KILL);
            daemon.ended();
            // A frame that was copied and not shown yet may lie where a shorter one comes next.
            for guest in [&mut a, &mut b] {
                while guest.recv(0).is_some() {}
                guest.driver.forget_unsaid(0);
            }
            daemon = Daemon::start_in(dir.clone(), &topology);
            a.reconnect(PATIENCE).unwrap();
            b.reconnect(PATIENCE).unwrap();
            a.kick_if_due(1);
            let last = frame(2, 1, 400, round);
            send(&mut b, &last);
            while receive(&mut a) != last {}
            let last = frame(1, 2, 401, round);
            send(&mut a, &last);
            while receive(&mut b) != last {}
        }
        a.driver.assert_intact();
        b.driver.assert_intact();
    }
}

#[test]
fn daemon_stopped_and_continued_loses_nothing() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    let stat = format!("/proc/{}/stat", daemon.pid().as_raw_nonzero());
    for round in 0..20 {
        let sent: Vec<_> = (0..100)
            .map(|seed| frame(1, 2, 700, round * 100 + seed))
            .collect();
        sent[..50].iter().for_each(|frame| send(&mut a, frame));
        daemon.signal(Signal::STOP);
        daemon.until("it stands still", |_| {
            std::fs::read_to_string(&stat).unwrap().contains(") T ")
        });
        sent[50..].iter().for_each(|frame| send(&mut a, frame));
        daemon.signal(Signal::CONT);
        for frame in &sent {
            assert_eq!(&receive(&mut b), frame);
        }
    }
    assert_balanced(&mut daemon);
}

#[test]
fn idle_guests_cost_next_to_nothing() {
    let names: Vec<_> = (0..16).map(|n| format!("vm{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&topology(&names, "weir"));
    let guests: Vec<_> = names
        .iter()
        .map(|name| daemon.guest(&format!("{name}.sock"), Options::default()))
        .collect();
    for name in &names {
        daemon.until_state(&format!("{name}/net0"), "up");
    }
    let used = |daemon: &Daemon| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid().as_raw_nonzero()))
            .unwrap();
        // utime and stime, in hundredths of a second, behind the name in parentheses.
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let sleeps = |daemon: &Daemon| daemon.json(&["cores"])[0]["sleeps"].as_u64().unwrap();
    // Idle is a matter of time, so this is the one test that lets some pass.
    let (begin, before, slept_before) = (Instant::now(), used(&daemon), sleeps(&daemon));
    while begin.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let percent = (used(&daemon) - before) as f64 / begin.elapsed().as_secs_f64();
    assert!(
        percent < 10.0,
        "16 idle guests cost {percent:.1} % of a CPU"
    );
    // A nap of a millisecond, time and again, would be two thousand of them.
    let slept = sleeps(&daemon) - slept_before;
    assert!(slept < 100, "the core woke up {slept} times for nothing");
    drop(guests);
}
