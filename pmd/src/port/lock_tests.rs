//! Every interleaving of cores at one lock: whoever waits gets it, unless one burst holds it on and
//! on.

use super::*;
use crate::blocked::hold::Hold;
use crate::port::mem::MemPort;

fn lock() -> TxLock {
    TxLock::new(TxQueue::mem(&MemPort::new(4, true)))
}

#[test]
fn reservation_is_for_one_and_ends_when_it_came_or_did_not() {
    let lock = lock();
    let held = lock.open(1, 7, 0).unwrap();
    assert!(lock.open(3, 8, 0).is_none());
    assert_eq!(lock.holder(), 1);
    lock.reserve_turn(8, 0);
    lock.reserve_turn(9, 0);
    lock.closes();
    drop(held);
    assert!(lock.open(5, 7, 1_000).is_none() && lock.open(5, 9, 1_000).is_none());
    drop(lock.open(5, 8, 1_000).unwrap());
    drop(lock.open(7, 7, 2_000).unwrap());
    // One that is given back, by whom it is of alone.
    lock.reserve_turn(8, 2_000);
    lock.give_turn_back(7, 2_000);
    assert!(lock.open(9, 7, 3_000).is_none());
    lock.give_turn_back(8, 3_000);
    assert!(lock.open(9, 7, 3_000).is_some());
}

#[test]
fn reservation_that_nobody_came_for_is_short_and_the_next_one_a_while_off() {
    let lock = lock();
    let (mut n_shut, mut n) = (0, 0);
    // One that reserves whenever it can and never comes, nor gives back; others try every ten
    // microseconds.
    for now in (0..100_000_000).step_by(10_000) {
        match lock.open(9, 7, now) {
            Some(_held) => lock.reserve_turn(8, now),
            None => n_shut += 1,
        }
        n += 1;
        // Late, it finds the lock as any other does.
        if now % 1_000_000 == 500_000 {
            assert!(lock.open(9, 8, now).is_some());
        }
    }
    assert!(n_shut > 0 && n_shut * 18 < n, "shut {n_shut} times of {n}");
    // However often the one that did not come shows up, another may reserve in time.
    lock.reserve_turn(7, 105_000_000);
    assert!(lock.open(9, 8, 105_001_000).is_none());
}

#[test]
fn old_reservation_does_not_come_back_when_the_clock_comes_round() {
    let lock = lock();
    lock.reserve_turn(8, 0);
    for minutes in 1..80 {
        assert!(lock.open(1, 7, minutes * 60_000_000_000).is_some());
        lock.next.store(Turn::new(8, 0).0, Ordering::Relaxed);
    }
}

/// A core that sends bursts to the queue one after another: each opens the lock, holds it and lets
/// go, a step each.
struct Busy<'a> {
    who: u32,
    burst: u32,
    held: Option<(MutexGuard<'a, TxQueue>, Nanos)>,
    is_closed: bool,
}

impl<'a> Busy<'a> {
    fn step(&mut self, lock: &'a TxLock, now: Nanos) {
        match self.held.take() {
            None => {
                self.burst += 2;
                self.held = lock
                    .open(self.burst, self.who, now)
                    .map(|guard| (guard, now));
            }
            Some(held) if !self.is_closed => {
                lock.closes();
                (self.held, self.is_closed) = (Some(held), true);
            }
            Some(_) => self.is_closed = false,
        }
    }
}

/// Steps that are tried: of each, every core takes one turn or another.
const STEPS: u32 = 11;
/// How long a step takes.
const STEP: Nanos = 30_000;

/// One that waits for the lock beside two that are busy with it, in the order that `order` says in
/// the base of three.
fn run(mut order: u32) -> Result<u32, (Nanos, u32)> {
    let lock = lock();
    let mut busy = [7, 8].map(|who| Busy {
        who,
        burst: who << 24 | 1,
        held: None,
        is_closed: false,
    });
    let (mut hold, mut now) = (Hold::default(), 1_000_000);
    busy[0].step(&lock, now);
    let mut n_tries = 0;
    for _ in 0..STEPS {
        now += STEP;
        match order % 3 {
            0 => {
                n_tries += 1;
                if lock.open(5, 9, now).is_some() {
                    return Ok(n_tries);
                }
                if !hold.may_wait_for_lock(lock.holder(), now) {
                    let held = busy.iter().find_map(|core| core.held.as_ref());
                    return Err((held.map_or(0, |(_, since)| now - since), n_tries));
                }
                if hold.lock_waited(now) > 0 {
                    lock.reserve_turn(9, now);
                }
            }
            core => busy[core as usize - 1].step(&lock, now),
        }
        order /= 3;
    }
    Ok(0)
}

#[test]
fn in_no_interleaving_is_a_lock_given_up_that_one_burst_did_not_hold_for_a_tenth_of_a_millisecond()
{
    let (mut n_got, mut n_lost) = (0, 0);
    for order in 0..3u32.pow(STEPS) {
        match run(order) {
            Ok(0) => {}
            Ok(_) => n_got += 1,
            Err((held_for, _)) => {
                assert!(
                    held_for >= 100_000,
                    "{order}: given up though it was held for {held_for} ns"
                );
                n_lost += 1;
            }
        }
    }
    assert!(
        n_got > 1000 && n_lost > 100,
        "{n_got} got it, {n_lost} met one that was preempted"
    );
}

#[test]
fn whoever_waits_comes_after_one_burst_of_each_other_core_at_most() {
    // The others take as many turns as they like between two of the one that waits, which always
    // finds the lock taken but for its reservation.
    let lock = lock();
    let mut busy = [7, 8].map(|who| Busy {
        who,
        burst: who << 24 | 1,
        held: None,
        is_closed: false,
    });
    let mut hold = Hold::default();
    let mut n_tries = 0;
    for now in (0..).step_by(10_000) {
        // Until one has it, which is the worst moment, if any still can.
        for n in 0..100 {
            if busy
                .iter()
                .any(|core| core.held.is_some() && !core.is_closed)
                && n > 10
            {
                break;
            }
            busy[n % 2].step(&lock, now);
        }
        n_tries += 1;
        if lock.open(5, 9, now).is_some() {
            break;
        }
        assert!(hold.may_wait_for_lock(lock.holder(), now));
        if hold.lock_waited(now) > 0 {
            lock.reserve_turn(9, now);
        }
    }
    assert!((2..=4).contains(&n_tries), "{n_tries} tries");
}
