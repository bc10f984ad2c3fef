//! Cores on threads of their own, in real time, and several control threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use guest::GuestDriver;
use pmd::Cores;
use pmd::idle::Idle;
use pmd::sys::EventFd;
use rig::ingress;

use super::*;
use crate::threads::{PATIENCE, Threads, kick_if_due, wait_for};

/// Frames of a port that were dropped, but for those that introduced it before anybody was there.
fn n_lost(cores: &Cores, port: PortId) -> u64 {
    let counters = cores.counters(port);
    counters.n_dropped() - counters.drops[flowtable::DropReason::NoDestination.index()]
}

/// Two guests that send to one another by two queue pairs each, as fast as they can, and check what
/// comes.
struct Traffic {
    guests: Vec<(GuestDriver, Vec<Arc<EventFd>>)>,
    n_sent: [[u64; 2]; 2],
    n_got: [[u64; 2]; 2],
}

impl Traffic {
    fn new(switch: &Threads) -> Self {
        let options = Options {
            n_queue_pairs: 2,
            event_idx: true,
            ..options()
        };
        let guests: Vec<_> = (0..2).map(|port| switch.plug(port, &options)).collect();
        let all_know = switch.cores.now();
        wait_for("both ports on all cores", || {
            switch.cores.is_past(&all_know)
        });
        let mut traffic = Self {
            guests,
            n_sent: [[0; 2]; 2],
            n_got: [[0; 2]; 2],
        };
        let mut knows = [false; 2];
        wait_for("an introduction", || {
            for (port, knows) in knows.iter_mut().enumerate() {
                let (guest, kicks) = &mut traffic.guests[port];
                guest.reclaim_tx(0);
                guest.send(0, &frame(ALL, mac(port as u16), u64::MAX, 60));
                kick_if_due(guest, kicks, 1);
                for pair in 0..2 {
                    while guest.recv(pair).is_some() {
                        *knows = true;
                    }
                    guest.post_rx(pair);
                }
            }
            knows == [true; 2]
        });
        traffic
    }

    /// Sends up to `n` frames by each queue and takes what has come.
    fn work(&mut self, n: usize) {
        for port in 0..2 {
            let (guest, kicks) = &mut self.guests[port];
            for pair in 0..2 {
                guest.reclaim_tx(pair);
                for _ in 0..n {
                    let id = id(
                        (port as u16, pair, 1 - port as u16),
                        self.n_sent[port][pair],
                    );
                    if !guest.send(pair, &frame(mac(1 - port as u16), mac(port as u16), id, 60)) {
                        break;
                    }
                    self.n_sent[port][pair] += 1;
                }
                kick_if_due(guest, kicks, 2 * pair + 1);
                while let Some(bytes) = guest.recv(pair) {
                    let id = id_of(&bytes);
                    if id != u64::MAX {
                        let ((from, queue, _), number) = flow_of(id);
                        let next = &mut self.n_got[usize::from(from)][queue];
                        assert_eq!(number, *next, "of port {from} by queue {queue}");
                        *next += 1;
                    }
                }
                guest.post_rx(pair);
            }
        }
    }

    /// All that was sent arrives.
    fn finish(&mut self, cores: &Cores) {
        let begun = Instant::now();
        while self.n_got != self.n_sent {
            assert!(
                begun.elapsed() < PATIENCE,
                "{:?} sent, {:?} came: {:?}, {:?}, {:?}",
                self.n_sent,
                self.n_got,
                cores.queues(),
                cores.core_counters(),
                [0, 1].map(|port| cores.counters(port))
            );
            self.work(0);
            std::thread::yield_now();
        }
    }
}

#[test]
fn cores_go_one_two_one_fifty_times_under_full_load_and_nothing_is_lost() {
    for idle in [Idle::Poll, Idle::Adaptive] {
        let mut switch = Threads::new(1, 2, idle);
        let mut traffic = Traffic::new(&switch);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50 {
                    let id = switch.add();
                    assert_eq!(switch.cores.core_ids().len(), 2);
                    switch.remove(1 - id);
                }
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                traffic.work(100);
            }
        });
        traffic.finish(&switch.cores);
        assert!(
            traffic.n_sent.iter().flatten().all(|&n| n > 1000),
            "{:?}",
            traffic.n_sent
        );
        for port in 0..2 {
            assert_eq!(n_lost(&switch.cores, port), 0);
            let down = switch.cores.down(port);
            assert_eq!((down.rxqs.len(), down.txqs.len()), (2, 2));
            assert!(switch.cores.counters(port).is_balanced());
        }
    }
}

#[test]
fn queue_that_moves_wakes_the_core_that_it_is_on() {
    let switch = Threads::new(2, 2, Idle::Adaptive);
    let mut traffic = Traffic::new(&switch);
    let asleep = |core: usize| {
        wait_for("sleep", || {
            let counters = || switch.cores.core_counters()[core];
            let before = counters();
            (0..200).for_each(|_| std::thread::yield_now());
            before.sleeps > 0 && counters() == before
        });
    };
    for round in 0..400 {
        // Frames come before the move, in the midst of it, and when the new core sleeps: before it
        // has the queue, or with the queue.
        let to = round % 2;
        match round % 3 {
            0 => traffic.work(1),
            1 => asleep(to),
            _ => {}
        }
        switch.cores.start_move(0, 1, to).expect("it moves");
        if round % 5 == 0 {
            traffic.work(3);
        }
        wait_for("the move", || switch.cores.try_finish_move(0, 1));
        if round % 4 == 0 {
            traffic.finish(&switch.cores);
            asleep(to);
        }
        traffic.work(1);
        // One that is not woken sleeps for ever.
        traffic.finish(&switch.cores);
    }
    let counters = switch.cores.core_counters();
    assert!(counters.iter().all(|core| core.sleeps > 10), "{counters:?}");
}

#[test]
fn control_threads_that_change_all_at_once_leave_the_switch_whole() {
    let mut switch = Threads::new(2, 4, Idle::Adaptive);
    let mut traffic = Traffic::new(&switch);
    let (cores, is_over) = (switch.cores.clone(), Arc::new(AtomicBool::new(false)));
    let n_done: [AtomicU64; 3] = Default::default();
    std::thread::scope(|scope| {
        // One moves whatever it finds to wherever it may.
        scope.spawn(|| {
            let mut dice = Dice::new(1);
            while !is_over.load(Ordering::Acquire) {
                let all = cores.queues();
                let queue = all[dice.below(all.len())];
                let to = dice.below(3);
                let is_done = cores.move_queue(queue.port, queue.queue, to).is_ok();
                n_done[0].fetch_add(u64::from(is_done), Ordering::Relaxed);
            }
        });
        // Two ports come and go.
        for port in 2..4 {
            let (cores, is_over, n_done) = (&cores, &is_over, &n_done);
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    let end = MemPort::new(usize::MAX, port == 2);
                    cores.up(pmd::control::PortUp {
                        ingress: ingress(port, 0, ANY),
                        rxqs: vec![RxQueue::mem(port, &end)],
                        txqs: vec![TxQueue::mem(&end)],
                    });
                    (0..50).for_each(|_| end.send(&frame(mac(0), mac(port), u64::MAX, 60)));
                    let down = cores.down(port);
                    assert_eq!((down.rxqs.len(), down.txqs.len()), (1, 1));
                    n_done[1].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Cores come and go.
        scope.spawn(|| {
            for _ in 0..100 {
                let id = switch.add();
                let other = cores.core_ids()[0];
                switch.remove(if other == id {
                    cores.core_ids()[1]
                } else {
                    other
                });
                n_done[2].fetch_add(1, Ordering::Relaxed);
            }
            is_over.store(true, Ordering::Release);
        });
        while !is_over.load(Ordering::Acquire) {
            traffic.work(20);
        }
    });
    traffic.finish(&cores);
    let n_done = n_done.map(|n| n.into_inner());
    assert!(n_done.iter().all(|&n| n >= 50), "{n_done:?}");
    for port in 0..4 {
        let counters = cores.counters(port);
        assert!(counters.is_balanced(), "{port}: {counters:?}");
        assert!(port > 1 || n_lost(&cores, port) == 0, "{counters:?}");
    }
}
