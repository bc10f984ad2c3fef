//! Cores on threads of their own, in real time: several at one receiver, and asleep until somebody
//! kicks.

mod behind;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use guest::{GuestDriver, Options};
use pmd::idle::Idle;
use pmd::limit::VmLimits;
use rig::{ALL, NO_LIMIT, bits, frame, id_of, mac, options};

use crate::paging::buffers_of;
use crate::small_pages::given_back::giving_back;
use crate::threads::{PATIENCE, Threads, kick_if_due, wait_for};

#[test]
fn two_cores_that_send_to_one_receiver_lose_and_disorder_nothing() {
    const N: u64 = 30_000;
    for idle in [Idle::Poll, Idle::Adaptive] {
        let switch = Threads::new(2, 3, idle);
        // The senders' queues go to different cores.
        let (mut sink, sink_kicks) = switch.plug(2, &options());
        let mut senders: Vec<_> = (0..2).map(|port| switch.plug(port, &options())).collect();
        // Until all of them are up on the sink's core.
        let mut knows = [false; 2];
        wait_for("an introduction", || {
            sink.send(0, &frame(ALL, mac(2), 0, 60));
            kick_if_due(&mut sink, &sink_kicks, 1);
            for ((guest, _), knows) in senders.iter_mut().zip(&mut knows) {
                *knows |= guest.recv(0).is_some();
                guest.post_rx(0);
            }
            knows == [true; 2]
        });
        let (mut sent, mut got) = ([0; 2], [0; 2]);
        wait_for("all frames", || {
            for (port, (guest, kicks)) in senders.iter_mut().enumerate() {
                while sent[port] < N
                    && guest.send(0, &frame(mac(2), mac(port as u16), sent[port], 60))
                {
                    sent[port] += 1;
                }
                kick_if_due(guest, kicks, 1);
            }
            while let Some(bytes) = sink.recv(0) {
                let port = usize::from(bytes[11]);
                assert_eq!(id_of(&bytes), got[port], "out of order from {port}");
                got[port] += 1;
            }
            sink.post_rx(0);
            got == [N; 2]
        });
        let busy = switch.cores.core_counters();
        assert!(
            busy.iter().all(|core| core.rx_frames > 0),
            "both cores had work: {busy:?}"
        );
        for port in 0..3 {
            let down = switch.cores.down(port);
            assert_eq!((down.rxqs.len(), down.txqs.len()), (1, 1));
            assert!(switch.cores.counters(port).is_balanced());
        }
    }
}

/// Asleep for ever, if nobody wakes it; it is told to poll on, and to sleep again.
#[test]
fn idle_changes_while_the_core_runs() {
    let mut switch = Threads::new(1, 1, Idle::Adaptive);
    let counters = |switch: &Threads| switch.cores.core_counters()[0];
    for _ in 0..20 {
        wait_for("sleep", || {
            let before = counters(&switch);
            (0..200).for_each(|_| std::thread::yield_now());
            before.sleeps > 0 && counters(&switch).turns == before.turns
        });
        switch.set_idle(Idle::Poll);
        let (turns, sleeps) = (counters(&switch).turns, counters(&switch).sleeps);
        wait_for("turns", || counters(&switch).turns > turns + 10_000);
        assert!(counters(&switch).sleeps <= sleeps + 1);
        switch.set_idle(Idle::Adaptive);
    }
}

#[test]
fn core_asleep_misses_no_kick() {
    for event_idx in [false, true] {
        let switch = Threads::new(1, 2, Idle::Adaptive);
        let options = Options {
            event_idx,
            ..options()
        };
        let (mut a, a_kicks) = switch.plug(0, &options);
        let (mut b, _b_kicks) = switch.plug(1, &options);
        // Asleep for the first time, it has taken up both ports.
        wait_for("the ports", || switch.cores.core_counters()[0].n_rxqs == 2);
        let mut slept = 0;
        for id in 0..400 {
            // Every other frame is sent to a core that is asleep for sure, the others whenever it
            // may be.
            if id % 2 == 0 {
                wait_for("sleep", || switch.cores.core_counters()[0].sleeps > slept);
            }
            slept = switch.cores.core_counters()[0].sleeps;
            assert!(a.send(0, &frame(ALL, mac(0), id, 60)));
            kick_if_due(&mut a, &a_kicks, 1);
            let mut got = None;
            wait_for("a frame sent to a core asleep", || {
                got = b.recv(0);
                got.is_some()
            });
            assert_eq!(got.map(|bytes| id_of(&bytes)), Some(id));
            b.post_rx(0);
        }
    }
}

#[test]
fn port_comes_and_goes_while_cores_run() {
    let switch = Threads::new(2, 3, Idle::Adaptive);
    let (mut a, kicks) = switch.plug(0, &options());
    let (mut b, _) = switch.plug(1, &options());
    wait_for("the ports", || {
        switch
            .cores
            .core_counters()
            .iter()
            .all(|core| core.n_rxqs == 1)
    });
    let mut next = 0;
    for round in 0..50 {
        let (_c, _) = switch.plug(2, &options());
        for _ in 0..40 {
            assert!(a.send(0, &frame(ALL, mac(0), next, 60)));
            kick_if_due(&mut a, &kicks, 1);
            wait_for("a frame", || {
                b.recv(0)
                    .map(|bytes| assert_eq!(id_of(&bytes), next))
                    .is_some()
            });
            b.post_rx(0);
            next += 1;
        }
        let down = switch.cores.down(2);
        assert_eq!(down.txqs.len(), 1, "round {round}");
    }
}

#[test]
fn core_whose_only_guest_is_over_its_limit_sleeps_between_two_allowances() {
    let switch = Threads::new(1, 2, Idle::Adaptive);
    switch.cores.limit(&[0], &limit(10_000_000));
    let (mut a, kicks) = switch.plug(0, &options());
    let (mut b, _) = switch.plug(1, &options());
    wait_for("the ports", || switch.cores.core_counters()[0].n_rxqs == 2);
    // Well into it: what was saved up before is used up.
    let flood = |a: &mut GuestDriver, b: &mut GuestDriver| {
        while a.send(0, &frame(ALL, mac(0), 0, 1514)) {}
        kick_if_due(a, &kicks, 1);
        while b.recv(0).is_some() {}
        b.post_rx(0);
        std::thread::yield_now();
    };
    wait_for("a hundred frames", || {
        flood(&mut a, &mut b);
        switch.cores.counters(0).rx_frames >= 100
    });
    let (begin, before) = (Instant::now(), switch.cores.core_counters()[0]);
    wait_for("a thousand frames more", || {
        flood(&mut a, &mut b);
        switch.cores.counters(0).rx_frames >= 1100
    });
    let after = switch.cores.core_counters()[0];
    let elapsed = begin.elapsed();
    assert!(
        elapsed >= Duration::from_millis(1190),
        "{elapsed:?} for 12.1 Mbit"
    );
    assert!(
        after.sleeps - before.sleeps >= 500,
        "{} sleeps",
        after.sleeps - before.sleeps
    );
    let cpu = Duration::from_nanos(after.cpu_ns - before.cpu_ns);
    assert!(cpu < elapsed / 4, "{cpu:?} of CPU time in {elapsed:?}");
    assert_eq!(switch.cores.counters(0).n_dropped(), 0);
}

#[test]
fn core_that_waits_for_an_allowance_is_woken_by_its_other_guests() {
    let switch = Threads::new(1, 3, Idle::Adaptive);
    switch.cores.limit(&[0], &limit(10_000));
    let (mut a, a_kicks) = switch.plug(0, &options());
    let (mut b, b_kicks) = switch.plug(1, &options());
    let (mut c, _) = switch.plug(2, &options());
    wait_for("the ports", || switch.cores.core_counters()[0].n_rxqs == 3);
    // Its first frame is a debt of seven seconds; the second waits for so long.
    for id in 0..2 {
        assert!(a.send(0, &frame(ALL, mac(0), id, 9000)));
    }
    kick_if_due(&mut a, &a_kicks, 1);
    wait_for("the first frame", || {
        c.recv(0)
            .map(|bytes| assert_eq!(id_of(&bytes), 0))
            .is_some()
    });
    c.post_rx(0);
    let begin = Instant::now();
    let mut slept = switch.cores.core_counters()[0].sleeps;
    for id in 10..60 {
        wait_for("sleep", || switch.cores.core_counters()[0].sleeps > slept);
        slept = switch.cores.core_counters()[0].sleeps;
        assert!(b.send(0, &frame(ALL, mac(1), id, 60)));
        kick_if_due(&mut b, &b_kicks, 1);
        wait_for("a frame of another guest", || {
            c.recv(0)
                .map(|bytes| assert!(id_of(&bytes) == id || begin.elapsed().as_secs() > 5))
                .is_some()
        });
        c.post_rx(0);
        while b.recv(0).is_some() {}
        b.post_rx(0);
    }
    assert!(
        switch.cores.counters(0).rx_frames == 1 || begin.elapsed().as_secs() > 5,
        "the limit is kept"
    );
    wait_for("the count", || switch.cores.counters(1).rx_frames == 50);
}

fn limit(bits_per_sec: u64) -> Arc<VmLimits> {
    Arc::new(VmLimits::new(bits(bits_per_sec), NO_LIMIT))
}

#[test]
fn sleeping_core_waits_ever_more_seldom_for_a_ring_whose_page_is_being_given_back() {
    let _alone = giving_back();
    let switch = Threads::new(1, 3, Idle::Adaptive);
    let guest = GuestDriver::new(options()).expect("memory");
    let (pages, region) = (buffers_of(&guest, 4096), guest.memory().regions()[0].spec());
    let used = region.uva + pages.offset - region.file_offset;
    let _attacker = switch.plug_in(0, guest, Some(used));
    let [(mut a, kicks), (mut b, _)] = [1, 2].map(|port| switch.plug(port, &options()));
    wait_for("the ports", || switch.cores.core_counters()[0].n_rxqs == 3);
    let (stop, mut next, mut n_late) = (AtomicBool::new(false), 0, 0);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                pages.come_and_go();
            }
        });
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            let sent = Instant::now();
            assert!(a.send(0, &frame(ALL, mac(1), next, 60)));
            kick_if_due(&mut a, &kicks, 1);
            while b.recv(0).is_none_or(|bytes| id_of(&bytes) != next) {
                stop.store(sent.elapsed() > PATIENCE, Ordering::Relaxed);
                assert!(sent.elapsed() < PATIENCE, "frame {next} did not come");
                std::thread::yield_now();
            }
            n_late += u32::from(sent.elapsed() > Duration::from_millis(8));
            b.post_rx(0);
            a.reclaim_tx(0);
            next += 1;
            // Long enough for the core to fall asleep.
            while sent.elapsed() < Duration::from_millis(2) {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let waits = [0, 1, 2].map(|port| switch.cores.page_waits(port));
    println!("{n_late} of {next} frames came late; waits for pages: {waits:?}");
    assert!(
        waits[0] > 0 && waits[1] + waits[2] == 0,
        "told of whom: {waits:?}"
    );
    // Each pause is twice the one before. (How many came late says little where others want the
    // CPUs too.)
    assert!(waits[0] <= 8, "{waits:?}");
}
