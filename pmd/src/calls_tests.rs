use std::fs::File;
use std::io::{Read, Write};
use std::sync::mpsc::sync_channel;

use super::*;
use crate::sys::test_support::{eventfd, let_block, without_requests};

const PATIENCE: Duration = Duration::from_secs(60);
const FULL: u64 = u64::MAX - 1;

fn one(callers: &Callers, file: &File) -> (Arc<Calls>, Arc<EventFd>) {
    let event = Arc::new(EventFd::from_file(file.try_clone().unwrap()).unwrap());
    (callers.up(7, vec![(call_bit(0), event.clone())]), event)
}

#[test]
fn signals_are_indirect_after_two_that_took_the_cpu_and_not_after_a_preemption() {
    let calls = Calls::new(Arc::new(Bell::new().unwrap()));
    let now = sys::cycles();
    let is_indirect = |at: u64| at < calls.indirect_until.load(Ordering::Relaxed);
    calls.took_more(now, LONG + 1, None);
    assert!(!is_indirect(now), "nobody knows whose time it was");
    assert!(now < calls.suspect_until.load(Ordering::Relaxed));
    (0..100).for_each(|_| calls.took_more(now, 12_000_000, Some(3_000)));
    assert!(!is_indirect(now), "the CPU was another's");
    let mut at = now;
    for n in [1, 2, 4, 8, 16, 32, 64, 64] {
        calls.took_more(at, 12_000_000, Some(5_000_000));
        assert!(
            is_indirect(at + n * MINUTE - 1) && !is_indirect(at + n * MINUTE),
            "{n}"
        );
        at += n * MINUTE;
    }
    at += 2 * INDIRECT_MAX;
    calls.took_more(at, 12_000_000, Some(5_000_000));
    assert!(!is_indirect(at + MINUTE), "it begins anew");
}

#[test]
fn signals_that_each_take_a_little_less_are_indirect_when_they_take_too_much_together() {
    let calls = Calls::new(Arc::new(Bell::new().unwrap()));
    let mut now = sys::cycles();
    let begun = now;
    let n = (1..=2000).find(|_| {
        now += LONG;
        let is_suspect = now < calls.suspect_until.load(Ordering::Relaxed);
        calls.took_more(now, LONG, is_suspect.then_some(LONG / 2));
        now < calls.indirect_until.load(Ordering::Relaxed)
    });
    // Twice what was saved up, since the CPU's time is not read at first.
    let most = 2 * SAVED / ((LONG - ORDINARY) * SHARE - LONG) + 2;
    assert!(
        n.is_some_and(|n| n <= most),
        "{n:?} of {most} at most, in {} cycles",
        now - begun
    );
    // One that takes twice as long as an ordinary one, in each twentieth part of the time.
    let calls = Calls::new(Arc::new(Bell::new().unwrap()));
    for _ in 0..1_000_000 {
        now += 20 * ORDINARY;
        calls.took_more(now, 2 * ORDINARY, Some(u64::MAX));
    }
    assert!(calls.suspect_until.load(Ordering::Relaxed) == 0);
    // What another one's use of the CPU took of it is none of the guest's.
    (0..1_000_000).for_each(|_| calls.took_more(now, LONG, Some(4_000)));
    assert!(calls.suspect_until.load(Ordering::Relaxed) == 0);
}

#[test]
fn what_is_known_of_a_port_outlives_its_queues_and_is_no_other_ports() {
    let callers = Callers::new().unwrap();
    let (calls, _) = one(&callers, &eventfd(0));
    (0..2).for_each(|_| calls.measured(|| busy(Duration::from_millis(2))));
    callers.down(7);
    assert!(one(&callers, &eventfd(0)).0.is_indirect());
    assert_eq!(
        (callers.report(7), callers.report(8)),
        ((1, true), (0, false))
    );
}

#[test]
fn ports_thread_rests_for_most_of_the_time_however_short_its_signals_are() {
    let (callers, file) = (Callers::new().unwrap(), eventfd(0));
    let (calls, _event) = one(&callers, &file);
    let begun = (std::time::Instant::now(), sys::thread_cpu_ns());
    (0..2_000).for_each(|_| calls.signal_all(call_bit(0)));
    let (took, used) = (
        begun.0.elapsed(),
        Duration::from_nanos(sys::thread_cpu_ns() - begun.1),
    );
    assert!(took > 4 * used, "{used:?} of {took:?}");
}

/// Uses the CPU for so long.
fn busy(time: Duration) {
    let end = sys::thread_cpu_ns() + u64::try_from(time.as_nanos()).unwrap();
    while sys::thread_cpu_ns() < end {}
}

#[test]
fn indirect_signals_arrive() {
    let (callers, file) = (Callers::new().unwrap(), eventfd(0));
    let (calls, event) = one(&callers, &file);
    calls.indirect_until.store(u64::MAX, Ordering::Relaxed);
    for _ in 0..100 {
        calls.signal(&event, call_bit(0));
        // A read waits until it is there.
        (&file).read_exact(&mut [0; 8]).unwrap();
    }
}

#[test]
fn signals_without_requests_of_the_kernel_never_wait_and_arrive() {
    let (callers, file) = (Callers::new().unwrap(), eventfd(0));
    let (calls, event) = one(&callers, &file);
    fill(&file);
    // In step, so that each signal meets one filling.
    let (round, rounds) = sync_channel(0);
    let (again, event) = (calls.clone(), event);
    let to_signal = event.clone();
    let signalling = std::thread::spawn(move || {
        without_requests();
        for n in 0..50_000 {
            calls.signal(&to_signal, call_bit(0));
            if round.send(n).is_err() {
                return;
            }
        }
    });
    // Its other owner empties it and fills it up again, wherever the signal is just then, and
    // leaves it full.
    for _ in 0..50_000 {
        fill(&file);
        rounds
            .recv_timeout(PATIENCE / 6)
            .expect("a signal waits in the kernel");
    }
    signalling.join().unwrap();
    let_block(&file, false);
    let _ = (&file).read(&mut [0; 8]);
    let_block(&file, true);
    std::thread::spawn(move || {
        without_requests();
        again.signal(&event, call_bit(0));
    });
    // A read waits until it is there.
    (&file).read_exact(&mut [0; 8]).unwrap();
}

/// Leaves its counter full, such that who writes to it waits.
fn fill(mut file: &File) {
    let_block(file, false);
    loop {
        let _ = file.read(&mut [0; 8]);
        if file.write_all(&FULL.to_ne_bytes()).is_ok() {
            return let_block(file, true);
        }
    }
}
