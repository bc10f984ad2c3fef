//! In real time: how soon a frame goes out behind a ring of others to a guest that takes nothing,
//! and what that costs the core.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use guest::{GuestDriver, Options};
use pmd::idle::Idle;
use pmd::stats::CoreCounters;
use pmd::sys::{self, EventFd};
use rig::{ALL, frame, id_of, mac, options};

use crate::threads::{Threads, kick_if_due, wait_for};

type Plugged = (GuestDriver, Vec<Arc<EventFd>>);

/// A switch of one core with a CPU to itself, as the daemon's have, and on another `n` guests that
/// know each other, of which 1 has a receive ring of eight.
fn switch(n: u16, tx_ring: u16) -> (Threads, Vec<Plugged>) {
    static CPUS: LazyLock<Vec<CoreId>> =
        LazyLock::new(|| core_affinity::get_core_ids().unwrap_or_default());
    let &[core, .., guests] = &CPUS[..] else {
        panic!("it takes two CPUs")
    };
    assert!(
        core_affinity::set_for_current(guests),
        "the guests' CPU can't be had"
    );
    let switch = Threads::start(1, n, Idle::Adaptive, Some(core));
    let plug = |port| {
        switch.plug(
            port,
            &Options {
                tx_ring,
                rx_ring: if port == 1 { 8 } else { 256 },
                ..options()
            },
        )
    };
    let mut guests: Vec<_> = (0..n).map(plug).collect();
    wait_for("the ports", || {
        switch.cores.core_counters()[0].n_rxqs == u64::from(n)
    });
    for port in 0..n {
        let (guest, kicks) = &mut guests[usize::from(port)];
        assert!(guest.send(0, &frame(ALL, mac(port), 0, 60)));
        kick_if_due(guest, kicks, 1);
        wait_for("an introduction", || {
            switch.cores.counters(port).rx_frames == 1
        });
        guests
            .iter_mut()
            .for_each(|(guest, _)| drop(receive(guest)));
    }
    (switch, guests)
}

fn receive(guest: &mut GuestDriver) -> Vec<Vec<u8>> {
    let got = std::iter::from_fn(|| guest.recv(0)).collect();
    guest.post_rx(0);
    got
}

/// The core's part spent on looking ahead, and on bursts of which nothing could go, in thousandths.
fn parts(before: CoreCounters, after: CoreCounters, n_cycles: u64) -> [u64; 2] {
    let cycles = [
        after.scan_cycles - before.scan_cycles,
        after.held_cycles - before.held_cycles,
    ];
    cycles.map(|part| part * 1000 / n_cycles)
}

#[test]
#[ignore = "it measures time, for which the machine must be quiet: ./x behind"]
fn measured_time_of_a_frame_behind_a_ring_of_others_to_a_suspended_guest() {
    for tx_ring in [256, 1024] {
        let (switch, mut guests) = switch(3, tx_ring);
        let (mut times, begin) = (Vec::new(), Instant::now());
        let (before, cycles, mut resumes) = (switch.cores.core_counters()[0], sys::cycles(), begin);
        while begin.elapsed() < Duration::from_secs(10) {
            let [(a, kicks), (b, _), (c, _)] = &mut guests[..] else {
                unreachable!("three guests")
            };
            // It takes a frame now and again, else it would count as stalled, and nothing would
            // wait for it.
            if resumes.elapsed() > Duration::from_millis(500) {
                receive(b);
                resumes = Instant::now();
            }
            let id = times.len() as u64;
            a.reclaim_tx(0);
            (0..tx_ring - 1).for_each(|_| assert!(a.send(0, &frame(mac(1), mac(0), 0, 60))));
            assert!(a.send(0, &frame(mac(2), mac(0), id, 60)));
            let sent = Instant::now();
            kick_if_due(a, kicks, 1);
            wait_for("the frame behind", || {
                receive(c)
                    .first()
                    .map(|bytes| assert_eq!(id_of(bytes), id))
                    .is_some()
            });
            times.push(sent.elapsed());
            // Apart, so that what can be held is earned again and the core may sleep in between.
            let next = sent + Duration::from_millis(20);
            while Instant::now() < next {
                std::thread::yield_now();
            }
        }
        let [scanned, held] = parts(
            before,
            switch.cores.core_counters()[0],
            sys::cycles() - cycles,
        );
        times.sort_unstable();
        let (p99, most) = (times[times.len() * 99 / 100], times[times.len() - 1]);
        println!(
            "ring of {tx_ring}, {} rounds: p99 {p99:?}, most {most:?}; looking ahead {scanned}, \
            held {held} thousandths of the core",
            times.len()
        );
        assert!(most < Duration::from_millis(10), "{most:?}");
        assert!(scanned <= 10, "{scanned} thousandths");
    }
}

#[test]
#[ignore = "it measures time, for which the machine must be quiet: ./x behind"]
fn measured_part_of_the_core_that_64_senders_to_a_slow_guest_take() {
    let (switch, mut guests) = switch(66, 256);
    let (mut next, begin) = (vec![0; 66], Instant::now());
    let (before, cycles) = (switch.cores.core_counters()[0], sys::cycles());
    let mut sent = vec![0; 66];
    while begin.elapsed() < Duration::from_secs(5) {
        for from in (0..66).filter(|&from| from != 1 && from != 2) {
            let (guest, kicks) = &mut guests[from];
            guest.reclaim_tx(0);
            while guest.send(0, &frame(mac(1), mac(from as u16), sent[from], 60)) {
                sent[from] += 1;
            }
            kick_if_due(guest, kicks, 1);
        }
        for bytes in receive(&mut guests[1].0) {
            let from = usize::from(bytes[11]);
            assert_eq!(id_of(&bytes), next[from], "one was lost");
            next[from] += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = switch.cores.core_counters()[0];
    let [scanned, held] = parts(before, after, sys::cycles() - cycles);
    println!(
        "64 senders, {} frames through: looking ahead {scanned}, held {held} thousandths of the \
        core",
        next.iter().sum::<u64>()
    );
    assert!(
        (0..66).all(|port| switch.cores.counters(port).n_dropped() == 0),
        "frames to a slow guest were lost"
    );
    assert!(scanned <= 10, "{scanned} thousandths");
}
