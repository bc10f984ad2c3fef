//! Whose an address is, on a running daemon.

use std::time::Instant;

use guest::flood::{LoadConfig, LoadPort};
use guest::flows::{Flows, Vary};
use guest::stack::Mac;
use guest::sys::cycles;
use guest::{Guest, Manner, Options, Socket};
use rustix::process::Signal;

use crate::rig::{
    Daemon, PATIENCE, exchange, folder, frame, introduce, receive, send, weir, write,
};

/// Frames that the flood is: a million and more.
const N_FRAMES: u64 = 1_000_000;
const N_SOURCES: u64 = 50_000;

fn topology(n_cores: usize, policy: &str) -> String {
    let cores: Vec<_> = core_affinity::get_core_ids()
        .unwrap()
        .into_iter()
        .take(n_cores)
        .map(|cpu| cpu.id)
        .collect();
    let nic = |name: &str, more: &str| {
        let socket = format!("{{ path: DIR/{name}.sock }}");
        format!(
            "  {name}: {{ nics: {{ net0: {{ network: blue, queues: 2, {more} vhost-user: {socket} \
            }} }} }}\n"
        )
    };
    format!(
        "cores: {cores:?}\ncontrol: {{ path: DIR/control.sock }}\nnetworks: {{ blue: {{}} \
        }}\nvms:\n{}{}",
        nic("a", policy),
        nic("b", "")
    )
}

/// As `a` floods with 50,000 sources on both its queues, the neighbour counts which of them come
/// through.
#[test]
fn flood_of_sources_at_full_rate_reaches_nobody() {
    let n_cpus = core_affinity::get_core_ids().unwrap().len();
    for (n_cores, policy, n_allowed) in [
        (1, "", 1),
        (2, "", 1),
        (2, "macs: 4,", 4),
        (2, "mac: \"52:54:00:00:00:01\",", 0),
        (1, "macs: 4,", 4),
    ] {
        if n_cores > n_cpus {
            continue;
        }
        let mut daemon = Daemon::start(&topology(n_cores, policy));
        let mut b = daemon.guest(
            "b.sock",
            Options {
                n_queue_pairs: 2,
                ..Options::default()
            },
        );
        send(&mut b, &frame(2, 9, 60, 0));
        let options = Options {
            n_queue_pairs: 2,
            checked: false,
            ..Options::default()
        };
        let socket = Socket::Connect(daemon.path("a.sock"));
        let opened = Guest::negotiate(socket, options, Manner::default(), PATIENCE).unwrap();
        let address = |n: u8| [10, 0, 0, n].into();
        let flows = Flows::new(
            (Mac([2, 6, 0, 0, 0, 1]), address(1)),
            (Mac([2, 0, 0, 0, 0, 2]), address(2)),
            60,
            N_SOURCES,
            Vary::Mac,
        );
        let mut a = LoadPort::new(opened, &flows, LoadConfig::default()).unwrap();
        let (begin, mut through) = (
            Instant::now(),
            std::collections::BTreeMap::<[u8; 6], u64>::new(),
        );
        while a.counters().n_sent < N_FRAMES {
            for _ in 0..100 {
                a.turn(cycles());
            }
            for pair in 0..2 {
                while let Some(frame) = b.recv(pair) {
                    *through
                        .entry(std::array::from_fn(|at| frame[6 + at]))
                        .or_default() += 1;
                }
            }
            assert!(begin.elapsed() < PATIENCE, "{:?}", a.counters());
        }
        assert!(
            through.len() <= n_allowed,
            "{n_cores} cores, {policy:?}: {} sources came through",
            through.len()
        );
        daemon.until("the rest is dropped as what it is", |daemon| {
            daemon.dropped("a/net0", "spoofed")
                >= N_FRAMES - N_FRAMES / N_SOURCES * 2 * n_allowed as u64 - 1000
        });
        let macs = daemon.json(&["macs"]);
        let owned = macs
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["port"] == "a/net0")
            .count();
        assert_eq!(owned, n_allowed.max(1), "{macs}");
    }
}

#[test]
fn address_that_stuck_is_its_guests_after_a_kill_whoever_sends_first() {
    let topology = topology(1, "");
    let mut daemon = Daemon::start(&topology);
    let mut a = daemon.guest("a.sock", Options::default());
    let mut b = daemon.guest("b.sock", Options::default());
    daemon.until_state("a/net0", "up");
    send(&mut a, &frame(1, 2, 60, 0));
    let note = daemon.path("pins.json");
    daemon.until("it is noted", |_| {
        std::fs::read_to_string(&note).is_ok_and(|text| text.contains("a/net0"))
    });
    for round in 0..2 {
        let dir = daemon.dir.clone();
        daemon.signal(Signal::KILL);
        daemon.ended();
        for guest in [&mut a, &mut b] {
            while guest.recv(0).is_some() {}
            guest.driver.forget_unsaid(0);
        }
        daemon = Daemon::start_in(dir, &topology);
        // The thief comes back first, and has had no address yet.
        if round == 0 {
            b.reconnect(PATIENCE).unwrap();
            daemon.until_state("b/net0", "up");
            for seed in 0..100 {
                send(&mut b, &frame(1, 9, 60, seed));
            }
            daemon.until("none of it passed", |daemon| {
                daemon.dropped("b/net0", "spoofed") == 100
            });
            a.reconnect(PATIENCE).unwrap();
        } else {
            a.reconnect(PATIENCE).unwrap();
            b.reconnect(PATIENCE).unwrap();
        }
        introduce((1, &mut a), (2, &mut b));
        exchange((1, &mut a), (2, &mut b), 20);
        exchange((2, &mut b), (1, &mut a), 20);
    }
    let port = daemon.port("a/net0");
    assert_eq!(port["addresses"]["own"], "02:00:00:00:00:01", "{port}");
    // A connection is no guest, another memory is.
    drop(a);
    daemon.until_state("a/net0", "waiting");
    assert_eq!(
        daemon.port("a/net0")["addresses"]["own"],
        "02:00:00:00:00:01"
    );
    let mut a = daemon.guest("a.sock", Options::default());
    introduce((3, &mut a), (2, &mut b));
    assert_eq!(
        daemon.port("a/net0")["addresses"]["own"],
        "02:00:00:00:00:03"
    );
    let text = String::from_utf8(daemon.show(&["port", "a/net0"]).stdout).unwrap();
    assert!(
        text.contains("own 02:00:00:00:00:03, 1 in the MAC table; 0 moved to the uplink"),
        "{text}"
    );
}

#[test]
fn check_advises_to_give_an_address_and_finds_no_error_in_its_absence() {
    for (policy, named) in [
        ("", "a/net0, b/net0"),
        ("mac: \"52:54:00:00:00:01\",", "b/net0"),
    ] {
        let dir = folder();
        let output = weir()
            .arg("check")
            .arg(write(&dir, &topology(1, policy)))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let note = format!("note: no `mac` is given for {named}: the first address");
        assert!(output.status.success() && text.contains(&note), "{text}");
    }
}

#[test]
fn same_guest_that_connects_again_has_no_second_address() {
    let mut daemon = Daemon::start(&topology(1, ""));
    let [mut a, mut b] = daemon.guests(["a", "b"]);
    a.stop().unwrap();
    a.session()
        .stream()
        .shutdown(std::net::Shutdown::Both)
        .unwrap();
    daemon.until_state("a/net0", "waiting");
    a.reconnect(PATIENCE).unwrap();
    daemon.until_state("a/net0", "up");
    let before = daemon.dropped("a/net0", "spoofed");
    send(&mut a, &frame(5, 2, 60, 1));
    daemon.until("it is dropped", |daemon| {
        daemon.dropped("a/net0", "spoofed") == before + 1
    });
    let last = frame(1, 2, 99, 2);
    send(&mut a, &last);
    while receive(&mut b) != last {}
}
