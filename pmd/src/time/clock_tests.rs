//! The clock of this machine, and the way of a correction to a core.

use super::*;

#[test]
#[cfg_attr(miri, ignore = "needs a real counter")]
fn calibrated_clock_keeps_step_with_the_kernels() {
    let clock = Clock::calibrate();
    assert!(clock.error_ppm() < 1000.0, "{}", clock.error_ppm());
    let from = sys::monotonic_ns();
    while sys::monotonic_ns() < from + 20_000_000 {}
    let (ahead, doubt) = clock.ahead_here();
    let may_be = 20_000 + i64::try_from(doubt).unwrap();
    assert!(ahead.abs() < may_be, "{ahead} ns ahead after 30 ms");
}

#[test]
fn correction_reaches_a_core_which_never_goes_back() {
    let clock = Clock::of(measure(&mut {
        let mut ns = 0;
        move || {
            ns += 1_000_000;
            Reading {
                cycles: ns * 2,
                ns,
                width: 0,
            }
        }
    }));
    let mut core = clock.reader();
    let start = core.at(2_000_000);
    assert_eq!(core.at(4_000_000) - start, 1_000_000);
    // Two percent slower from the next second on.
    let mut discipline = clock.discipline();
    let to = Reading {
        cycles: 2_000_000_000 + 22_000_000,
        ns: 1_020_000_000,
        width: 0,
    };
    assert_ne!(discipline.check(to), Checked::Nothing);
    clock.publish(&discipline.line);
    drop(discipline);
    let seen = core.at(to.cycles);
    assert_eq!(
        core.at(to.cycles - 1_000_000),
        seen,
        "what was said is said"
    );
    assert!(core.at(to.cycles + 2_000_000) > seen);
}

#[test]
fn cores_never_see_half_of_a_correction() {
    let clock = Clock::of(measure(&mut {
        let mut ns = 0;
        move || {
            ns += 1_000_000;
            Reading {
                cycles: ns,
                ns,
                width: 0,
            }
        }
    }));
    let n: u64 = if cfg!(miri) { 50 } else { 200_000 };
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for k in 1..=n {
                // Each word says the same number, so one of another line would be seen.
                clock.publish(&Line::from_words([k, k, k]));
            }
            is_done.store(true, Ordering::Release);
        });
        let mut core = clock.reader();
        let mut n_seen = 0;
        while !is_done.load(Ordering::Acquire) || n_seen == 0 {
            core.reload();
            let [from, ns, rate] = core.line.words();
            if core.seen > 1 {
                assert_eq!((from, ns), (rate, rate));
                n_seen += 1;
            }
        }
    });
}
