//! The clock on virtual readings: a machine whose CPU is taken away, whose counter drifts, sleeps,
//! or is reset.
#![expect(clippy::cast_possible_truncation, reason = "virtual time")]

use super::*;

/// Nanoseconds between two readings of a clock.
const STEP: u64 = 50;
const GHZ: f64 = 2.45;

/// A counter and a kernel's clock, in virtual time.
struct Machine {
    cycles: f64,
    ns: u64,
    /// Cycles a nanosecond.
    rate: f64,
    /// The CPU is taken away for so long...
    gap_ns: u64,
    /// ...after every so many steps, of which so many are done.
    gap_every: u64,
    n_steps: u64,
}

impl Machine {
    fn new() -> Self {
        Self {
            cycles: 1e12,
            ns: 77_000_000_000,
            rate: GHZ,
            gap_ns: 0,
            gap_every: u64::MAX,
            n_steps: 0,
        }
    }

    fn pass(&mut self, ns: u64) {
        self.ns += ns;
        self.cycles += ns as f64 * self.rate;
    }

    fn step(&mut self) {
        self.pass(STEP);
        self.n_steps += 1;
        if self.n_steps.is_multiple_of(self.gap_every) {
            self.pass(self.gap_ns);
        }
    }

    fn cycles(&mut self) -> u64 {
        self.step();
        self.cycles as u64
    }

    fn once(&mut self) -> Reading {
        let before = self.cycles();
        self.step();
        let ns = self.ns;
        Reading::between(before, ns, self.cycles())
    }

    fn take(&mut self) -> Reading {
        Reading::tightest(&mut || self.once())
    }

    fn measured(&mut self) -> Discipline {
        measure(&mut || self.take())
    }
}

/// How far a clock's rate is off, in parts in a million.
fn off_ppm(line: &Line, machine: &Machine) -> f64 {
    (line.ns_per_cycle as f64 / 4_294_967_296.0 * machine.rate - 1.0) * 1e6
}

#[test]
fn cpu_taken_away_at_any_moment_of_the_measurement_falsifies_no_rate() {
    // Between any two readings of a clock, once, thrice or all the time: the moment moves through
    // the whole of a reading.
    for gap_ns in [1_000, 30_000_000, 400_000_000] {
        for gap_every in (2..14).chain([95, 96, 97, 98, 99, 1000, 65_537]) {
            for phase in 0..if gap_every < 100 { gap_every } else { 4 } {
                let mut machine = Machine {
                    gap_ns,
                    gap_every,
                    n_steps: phase,
                    ..Machine::new()
                };
                let discipline = machine.measured();
                let off = off_ppm(&discipline.line, &machine).abs();
                assert!(
                    off <= discipline.error_ppm + 0.1,
                    "{off} ppm, said to be {}",
                    discipline.error_ppm
                );
                // Where every single reading was disturbed, nothing better could be had, and it is
                // known.
                let is_tight = gap_every >= 4;
                assert!(
                    off < 50.0 || !is_tight,
                    "{off} ppm: {gap_ns} ns every {gap_every} steps from {phase} on"
                );
            }
        }
    }
}

#[test]
fn counter_that_stands_still_is_given_up_on() {
    let mut ns = 0;
    let mut read = || {
        ns += 1_000_000;
        Reading {
            cycles: 5,
            ns,
            width: 0,
        }
    };
    assert!(measure(&mut read).line.at(u64::MAX) > 0);
}

/// A clock, and that it never went back.
struct Watched {
    discipline: Discipline,
    last: Nanos,
}

impl Watched {
    fn new(machine: &mut Machine) -> Self {
        Self {
            discipline: machine.measured(),
            last: 0,
        }
    }

    /// Lets a second pass, looking at the clock all the while as a core does, then checks it.
    fn second(&mut self, machine: &mut Machine) -> Checked {
        for _ in 0..100 {
            machine.pass(SECOND / 100);
            self.look(machine);
        }
        let checked = self.discipline.check(machine.take());
        self.look(machine);
        checked
    }

    fn seconds(&mut self, machine: &mut Machine, n: usize) {
        for _ in 0..n {
            self.second(machine);
        }
    }

    fn look(&mut self, machine: &Machine) {
        let now = self.discipline.line.at(machine.cycles as u64);
        assert!(now >= self.last, "it went back from {} to {now}", self.last);
        self.last = now;
    }

    fn ahead(&self, machine: &mut Machine) -> i64 {
        self.discipline.ahead(machine.take()).0
    }
}

#[test]
fn drift_is_made_up_for_without_ever_going_back() {
    for ppm in [-500.0, -20.0, 3.0, 100.0, 2000.0] {
        let mut machine = Machine::new();
        let mut clock = Watched::new(&mut machine);
        machine.rate = GHZ * (1.0 + ppm / 1e6);
        let Checked::Corrected { drift_ppm, .. } = clock.second(&mut machine) else {
            panic!("{ppm}")
        };
        assert!(
            (drift_ppm + ppm).abs() < ppm.abs() / 100.0 + 1.0,
            "{drift_ppm} for {ppm}"
        );
        assert!(off_ppm(&clock.discipline.line, &machine).abs() <= SLEW_PPM + 1.0);
        for _ in 0..60 {
            clock.second(&mut machine);
        }
        let ahead = clock.ahead(&mut machine);
        assert!(
            ahead.abs() < 1000,
            "{ahead} ns after a minute, for {ppm} ppm"
        );
        assert!(off_ppm(&clock.discipline.line, &machine).abs() < 1.0);
    }
}

#[test]
fn wandering_counter_is_followed() {
    let mut machine = Machine::new();
    let mut clock = Watched::new(&mut machine);
    for n in 0..600 {
        machine.rate = GHZ * (1.0 + 40e-6 * (f64::from(n) / 40.0).sin());
        clock.second(&mut machine);
        let ahead = clock.ahead(&mut machine);
        assert!(ahead.abs() < 50_000, "{ahead} ns");
    }
}

#[test]
fn cpu_taken_away_while_it_is_checked_changes_nothing() {
    let mut machine = Machine::new();
    let mut clock = Watched::new(&mut machine);
    clock.seconds(&mut machine, 5);
    for gap_every in 2..40 {
        (machine.gap_ns, machine.gap_every) = (30_000_000, gap_every);
        clock.second(&mut machine);
        let off = off_ppm(&clock.discipline.line, &machine).abs();
        assert!(off < 30.0, "{off} ppm");
    }
}

#[test]
fn machine_that_slept_goes_on_at_its_rate_whether_its_counter_went_on_or_was_reset() {
    for slept in [Some(3600 * SECOND), None] {
        let mut machine = Machine::new();
        let mut clock = Watched::new(&mut machine);
        clock.seconds(&mut machine, 5);
        match slept {
            // The kernel's clock stands while a machine sleeps.
            Some(ns) => machine.cycles += ns as f64 * GHZ,
            None => machine.cycles = 1e6,
        }
        let before = clock.last;
        let mut back = Watched {
            discipline: clock.discipline.clone(),
            last: 0,
        };
        let checked = back.second(&mut machine);
        assert!(matches!(checked, Checked::Rebased { .. }), "{checked:?}");
        let now = back.discipline.line.at(machine.cycles as u64);
        assert!(now >= before + SECOND * 99 / 100, "{before} {now}");
        for _ in 0..3 {
            let checked = back.second(&mut machine);
            assert!(
                matches!(
                    checked,
                    Checked::Corrected {
                        ahead_ns: -1000..=1000,
                        ..
                    }
                ),
                "{checked:?}"
            );
            assert!(off_ppm(&back.discipline.line, &machine).abs() < 1.0);
        }
    }
}

#[test]
fn counter_of_quite_another_rate_is_believed_when_it_is_seen_twice() {
    // As after a guest has moved to another host.
    let mut machine = Machine::new();
    let mut clock = Watched::new(&mut machine);
    clock.seconds(&mut machine, 3);
    machine.rate = GHZ * 1.3;
    assert!(matches!(
        clock.second(&mut machine),
        Checked::Rebased { .. }
    ));
    clock.second(&mut machine);
    for _ in 0..3 {
        clock.second(&mut machine);
        assert!(off_ppm(&clock.discipline.line, &machine).abs() < 1.0);
    }
}
