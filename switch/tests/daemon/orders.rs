//! What real front-ends say and in which order, each in its own way, to a daemon that has to serve
//! all of them.
//!
//! The orders are those of the front-ends' sources: QEMU (`hw/virtio/vhost-user.c`,
//! `hw/net/vhost_net.c`, `net/vhost-user.c`), DPDK (`drivers/net/virtio/virtio_user`),
//! cloud-hypervisor (`virtio-devices/src/vhost_user`), crosvm
//! (`devices/src/virtio/vhost_user_frontend`). QEMU's are also as recorded between version 7.2 and
//! weir.

mod front_end;
mod kinds;

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use guest::options::feature;
use guest::raw::{self, Message, request};
use guest::{Backing, GuestDriver, Options, Socket};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::rig::{Daemon, PATIENCE, frame, topology};
use front_end::{FrontEnd, Region};
use kinds::{KINDS, Kind, MEM_SLOTS};

/// A frame by each pair of `from` arrives whole, by whatever pair of the other.
fn exchange(from: (u8, &mut GuestDriver), to: (u8, &mut GuestDriver), seed: &mut u64, what: &str) {
    for pair in 0..from.1.n_vrings() / 2 {
        *seed += 1;
        let sent = frame(from.0, to.0, 700, *seed);
        assert!(from.1.send(pair, &sent), "{what}: no room in pair {pair}");
        let begin = Instant::now();
        loop {
            from.1.reclaim_tx(pair);
            let got = (0..to.1.n_vrings() / 2).find_map(|pair| {
                let got = to.1.recv(pair);
                to.1.post_rx(pair);
                got
            });
            match got {
                Some(got) if got == sent => break,
                Some(_) => {}
                None => assert!(
                    begin.elapsed() < PATIENCE,
                    "{what}: pair {pair} carries nothing"
                ),
            }
            std::thread::yield_now();
        }
    }
}

fn until_all_run(daemon: &mut Daemon, port: &str, front_end: &FrontEnd) {
    let n = front_end.driver.n_vrings();
    daemon.until("every queue runs", |daemon| {
        let port = daemon.port(port);
        port["queues"]
            .as_array()
            .is_some_and(|all| all.iter().take(n).filter(|q| q["state"] == "runs").count() == n)
    });
}

/// Everything that a front-end lives through, beside one that stays as it is.
fn live(kind: Kind, n_pairs: u16) {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let mut a = FrontEnd::connect(&daemon, "a.sock", kind, n_pairs);
    let mut b = FrontEnd::connect(&daemon, "b.sock", KINDS[2], 2);
    a.start();
    b.start();
    daemon.until_state("b/net0", "up");
    let mut seed = 0;
    let mut both_ways = |daemon: &mut Daemon, a: &mut FrontEnd, b: &mut FrontEnd, what: &str| {
        let what = format!("{}, {n_pairs} pairs, {what}", kind.name);
        daemon.until_state("a/net0", "up");
        // Each queue that is still to be started takes its port down for a moment.
        until_all_run(daemon, "a/net0", a);
        until_all_run(daemon, "b/net0", b);
        // What had been on its way while the port was down may be lost; what is sent from here on
        // may not.
        exchange((1, &mut a.driver), (2, &mut b.driver), &mut seed, &what);
        exchange((2, &mut b.driver), (1, &mut a.driver), &mut seed, &what);
        let port = daemon.port("a/net0");
        assert!(
            port["connection"]["last_refusal"].is_null(),
            "{what}: {}\n{}",
            port["connection"],
            daemon.log()
        );
        assert_eq!(
            port["connection"]["memory_regions"],
            a.regions.len(),
            "{what}"
        );
        assert!(
            port["queues"]
                .as_array()
                .unwrap()
                .iter()
                .take(a.driver.n_vrings())
                .all(|q| q["state"] == "runs")
        );
    };
    both_ways(&mut daemon, &mut a, &mut b, "started");
    // A module of memory is plugged in, gives way to a longer one at the same place, and that to
    // two others.
    let (gpa, uva, len) = (0x7000_0000_0000, 0x7100_0000_0000, 1 << 20);
    a.regions.push(Region::new(gpa, uva, len));
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "plugged");
    a.regions.pop();
    a.regions.push(Region::new(gpa, uva, 2 * len));
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "replaced by a longer one");
    a.regions.pop();
    a.regions.push(Region::new(gpa + len, uva + len, len));
    a.regions.push(Region::new(gpa, uva, len / 2));
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "replaced by two");
    a.regions.truncate(a.regions.len() - 2);
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "unplugged");
    // What the rings lie in goes, and comes back.
    let all = std::mem::take(&mut a.regions);
    if kind.protocol & MEM_SLOTS != 0 {
        a.share();
    }
    a.regions = all;
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "all memory exchanged");
    a.stop();
    daemon.until_state("a/net0", "connected");
    a.start();
    both_ways(&mut daemon, &mut a, &mut b, "stopped and started");
    a.reconnect(&daemon, "a.sock");
    a.start();
    both_ways(&mut daemon, &mut a, &mut b, "connected again");
    a.driver.assert_intact();
    b.driver.assert_intact();
    assert_eq!(
        daemon.dropped("a/net0", "queue-disabled"),
        0,
        "{}",
        kind.name
    );
}

#[test]
fn front_end_of_every_kind_and_number_of_queues_lives_through_everything() {
    for &kind in KINDS {
        for n_pairs in [1, 2, 4, 8] {
            live(kind, n_pairs);
        }
    }
}

/// A queue pair that a guest gives up: what is left in its transmit ring is dropped, and so is what
/// comes after; what comes before a pair is first enabled waits for that.
#[test]
fn what_is_sent_by_a_disabled_queue_is_dropped_and_counted_and_not_delivered_late() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let mut a = FrontEnd::connect(&daemon, "a.sock", KINDS[2], 2);
    let mut b = FrontEnd::connect(&daemon, "b.sock", KINDS[2], 1);
    let counter =
        |daemon: &Daemon, name: &str| daemon.port("a/net0")["counters"][name].as_u64().unwrap();
    let disabled = |daemon: &Daemon| daemon.dropped("a/net0", "queue-disabled");
    a.start();
    b.start();
    daemon.until_state("a/net0", "up");
    let mut seed = 0;
    exchange((2, &mut b.driver), (1, &mut a.driver), &mut seed, "hello");
    exchange((1, &mut a.driver), (2, &mut b.driver), &mut seed, "hello");
    let before = counter(&daemon, "rx_frames");
    a.enable(2, false);
    a.enable(3, false);
    (0..40).for_each(|n| assert!(a.driver.send(1, &frame(1, 2, 500, 1000 + n))));
    daemon.until("they are dropped", |daemon| disabled(daemon) == 40);
    assert_eq!(
        counter(&daemon, "rx_frames"),
        before + 40,
        "they count as received"
    );
    daemon.until("their buffers come back", |_| {
        (0..2).for_each(|pair| _ = a.driver.reclaim_tx(pair));
        a.driver.counters().tx_done == 42
    });
    a.enable(2, true);
    a.enable(3, true);
    exchange(
        (1, &mut a.driver),
        (2, &mut b.driver),
        &mut seed,
        "enabled again",
    );
    assert_eq!(disabled(&daemon), 40);
    // Started, and not enabled yet: as after a crash of the switch.
    a.reconnect(&daemon, "a.sock");
    a.kind.enables_first = false;
    let n_vrings = a.driver.n_vrings();
    a.say(Message::with_u64(request::SET_FEATURES, a.features));
    a.share();
    (0..n_vrings).for_each(|queue| a.set_up(queue));
    (2..4).for_each(|queue| a.enable(queue, false));
    let waiting: Vec<_> = (0..40).map(|n| frame(1, 2, 500, 2000 + n)).collect();
    waiting
        .iter()
        .for_each(|frame| assert!(a.driver.send(1, frame)));
    (0..2).for_each(|queue| a.enable(queue, true));
    exchange(
        (2, &mut b.driver),
        (1, &mut a.driver),
        &mut seed,
        "the first pair runs",
    );
    (2..4).for_each(|queue| a.enable(queue, true));
    for expected in &waiting {
        let begin = Instant::now();
        let got =
            std::iter::repeat_with(|| (b.driver.recv(0), b.driver.post_rx(0)).0).find_map(|got| {
                assert!(begin.elapsed() < PATIENCE, "what waited is not delivered");
                got
            });
        assert_eq!(got.as_ref(), Some(expected));
    }
    assert_eq!(
        disabled(&daemon),
        40,
        "of those that waited none was dropped"
    );
}
