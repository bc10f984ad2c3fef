use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flowtable::Networks;
use pmd::control::CoresOptions;
use pmd::idle::Idle;
use pmd::time::Clock;
use pmd::{Core, Cores};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// For a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn cores(n_cores: usize) -> (Cores, Vec<Core>) {
    let options = CoresOptions {
        n_cores,
        n_ports: 1,
        n_flows: 1024,
        n_macs: 64,
        networks: Arc::new(Networks::default()),
        seeds: [1, 2],
    };
    Cores::new(&options).unwrap()
}

/// The core of this number, on the CPU of that number.
fn on(cpu: usize) -> Who {
    Who::Core { core: cpu, cpu }
}

fn turns(cores: &Cores) -> Vec<Progress> {
    let counters = cores.core_counters().into_iter().enumerate();
    counters
        .map(|(cpu, core)| Progress {
            who: on(cpu),
            n: core.turns,
        })
        .collect()
}

/// Runs cores on threads of their own while `work` lasts.
fn running(cores: &Cores, run: Vec<Core>, idle: Idle, work: impl FnOnce()) {
    let (stop, clock) = (AtomicBool::new(false), Clock::calibrate());
    std::thread::scope(|scope| {
        for core in run {
            let (stop, clock) = (&stop, clock.clone());
            scope.spawn(move || core.run(idle, clock, stop));
        }
        work();
        stop.store(true, Ordering::Release);
        cores.wake_all();
    });
}

/// Waits until each of these cores sleeps in vain: it has gone to sleep since the counts of before.
fn until_asleep(cores: &Cores, before: &[u64], which: &[usize]) {
    let begun = Instant::now();
    let sleeps = |idx: usize| cores.core_counters()[idx].sleeps;
    while which.iter().any(|&idx| sleeps(idx) == before[idx]) {
        assert!(begun.elapsed() < PATIENCE, "a core doesn't answer");
        std::thread::yield_now();
    }
}

/// Ten minutes of looks, each at cores that are asleep.
#[test]
fn cores_that_sleep_answer_and_are_well_for_ten_minutes() {
    let (cores, run) = cores(2);
    running(&cores, run, Idle::Adaptive, || {
        let mut watch = Watch::default();
        let mut n_woken = 0;
        until_asleep(&cores, &[0, 0], &[0, 1]);
        for second in 0..600 {
            let found = watch.look(second * SECOND, &turns(&cores));
            assert_eq!((found.still, &*found.lines), (None, &[][..]), "{second} s");
            let counters = cores.core_counters();
            let before: Vec<_> = counters.iter().map(|core| core.sleeps).collect();
            found.to_wake.iter().for_each(|&idx| cores.wake(idx));
            until_asleep(&cores, &before, &found.to_wake);
            n_woken += found.to_wake.len();
        }
        assert!(n_woken >= 2 * 200, "{n_woken} wake-ups: they were awake");
    });
}

#[test]
fn core_that_polls_is_well_and_is_not_woken() {
    let (cores, run) = cores(1);
    running(&cores, run, Idle::Poll, || {
        let mut watch = Watch::default();
        for second in 0..100 {
            let now = turns(&cores);
            let found = watch.look(second * SECOND, &now);
            assert!(found.still.is_none() && found.to_wake.is_empty());
            let begun = Instant::now();
            while turns(&cores)[0].n == now[0].n {
                assert!(begun.elapsed() < PATIENCE);
                std::thread::yield_now();
            }
        }
    });
}

/// One of two cores is never run: as one that is stuck, it answers nothing.
#[test]
fn core_that_is_stuck_is_named_with_the_time_and_nobody_else_is() {
    let (cores, mut run) = cores(2);
    let _stuck = run.pop();
    running(&cores, run, Idle::Adaptive, || {
        let mut watch = Watch::default();
        let mut found = Vec::new();
        until_asleep(&cores, &[0, 0], &[0]);
        for second in 0..100 {
            let look = watch.look(second * SECOND, &turns(&cores));
            let counters = cores.core_counters();
            let before: Vec<_> = counters.iter().map(|core| core.sleeps).collect();
            look.to_wake.iter().for_each(|&idx| cores.wake(idx));
            let first = look.to_wake.iter().copied().filter(|&idx| idx == 0);
            until_asleep(&cores, &before, &first.collect::<Vec<_>>());
            found.push(look);
        }
        // Well at the look that wakes it, and not from the one on that finds it where it was.
        assert!(found[..2].iter().all(|look| look.still.is_none()));
        for (second, look) in (2..).zip(&found[2..]) {
            assert_eq!(look.still, Some(Still(on(1), second * SECOND)));
        }
        let lines: Vec<_> = found.iter().flat_map(|look| &look.lines).collect();
        let still = |seconds| Line::Still(Still(on(1), seconds * SECOND));
        assert_eq!(lines, [&still(2), &still(62)], "a line a minute");
    });
}

fn look(watch: &mut Watch, at: f64, n: &[(Who, u64)]) -> Found {
    let progress: Vec<_> = n.iter().map(|&(who, n)| Progress { who, n }).collect();
    watch.look(Duration::from_secs_f64(at), &progress)
}

#[test]
fn supervisor_that_hangs_is_named_and_is_well_when_it_goes_on() {
    let mut watch = Watch::default();
    for at in 0..10 {
        let n = u64::try_from(at).unwrap();
        let found = look(&mut watch, f64::from(at), &[(Who::Supervisor, n)]);
        assert_eq!(found.still, None);
    }
    for at in 10..12 {
        let found = look(&mut watch, f64::from(at) - 0.5, &[(Who::Supervisor, 9)]);
        assert_eq!((found.still, found.to_wake.len()), (None, 0));
    }
    let found = look(&mut watch, 11.5, &[(Who::Supervisor, 9)]);
    let still = Still(Who::Supervisor, Duration::from_millis(2500));
    assert_eq!(
        (found.still, &*found.lines),
        (Some(still), &[Line::Still(still)][..])
    );
    let found = look(&mut watch, 12.0, &[(Who::Supervisor, 10)]);
    assert_eq!(found.still, None);
    assert_eq!(found.lines, [Line::Moves(Who::Supervisor, 3 * SECOND)]);
}

/// As when looks are far apart, or many of them fall into the time of one slow turn.
#[test]
fn core_is_never_stuck_before_it_was_woken_and_had_its_time() {
    let mut watch = Watch::default();
    let core = [(on(7), 5)];
    assert!(look(&mut watch, 0.0, &core).to_wake.is_empty());
    let late = look(&mut watch, 100.0, &core);
    assert_eq!((late.still, late.to_wake), (None, vec![7]));
    assert!(look(&mut watch, 101.0, &core).still.is_some());
    let mut watch = Watch::default();
    let looks = (0..200).map(|n| look(&mut watch, f64::from(n) / 100.0, &core));
    assert!(looks.into_iter().all(|found| found.still.is_none()));
    assert!(look(&mut watch, 2.0, &core).still.is_some());
}

#[test]
fn core_that_goes_is_forgotten_and_its_successor_on_that_cpu_is_new() {
    let mut watch = Watch::default();
    let (one, two) = ((on(1), 5), (on(2), 7));
    for at in 0..5_i32 {
        look(
            &mut watch,
            f64::from(at),
            &[one, (two.0, at.unsigned_abs().into())],
        );
    }
    assert_eq!(look(&mut watch, 5.0, &[two]).still, None, "it is gone");
    let found = look(&mut watch, 6.0, &[one, (two.0, 100)]);
    assert_eq!((found.still, found.lines), (None, vec![]));
}

#[test]
fn core_that_is_woken_is_the_one_of_its_number_and_not_of_its_place() {
    let mut watch = Watch::default();
    let at = |core, cpu| Who::Core { core, cpu };
    // Core 0 is gone, and CPU 0 is core 2's.
    let cores = [(at(2, 0), 5), (at(1, 3), 6)];
    look(&mut watch, 0.0, &cores);
    assert_eq!(look(&mut watch, 1.0, &cores).to_wake, [2, 1]);
    // The CPU has another core: what was seen of the other doesn't count.
    let cores = [(at(0, 0), 5), (at(1, 3), 7)];
    let found = look(&mut watch, 60.0, &cores);
    assert_eq!((found.still, found.to_wake), (None, vec![]));
}
