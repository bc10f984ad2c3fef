//! How the switch's clock keeps step with the kernel's: values alone, no clock is read here.
//!
//! Between two readings the counter's rate is what passed on the kernel's clock, divided by the
//! cycles. From then on the clock goes at that rate, a little faster or slower while it is behind
//! or ahead. Where it is so far off that making up for it would falsify limits for long (the
//! machine slept, the counter was reset), only the rate is set right, and what is past is past.

use super::reading::Reading;
use super::{Nanos, SECOND};

/// For the first measurement: nanoseconds that it takes at least, and at most.
const MEASURE_MIN: Nanos = 10_000_000;
const MEASURE_MAX: Nanos = SECOND;
/// Parts in a million by which that may be off, if it isn't to go on.
const MEASURE_PPM: f64 = 50.0;
/// Nanoseconds between two readings of which a rate is made, at least.
const BASE_MIN: Nanos = SECOND / 2;
/// Parts in a million by which such a rate may be off.
const BASE_PPM: f64 = 20.0;
/// A rate that differs from the last by so many parts in a million is believed when it is measured
/// twice.
const JUMP_PPM: f64 = 50_000.0;
/// How close these two have to be.
const ALIKE_PPM: f64 = 1000.0;
/// By how much faster or slower the clock goes, in parts in a million, to make up for what it is
/// behind or ahead.
const SLEW_PPM: f64 = 500.0;
/// Seconds in which it would make up for that at such a rate.
const SLEW_SECONDS: f64 = 4.0;
/// Nanoseconds behind or ahead that are not made up for.
const SLEW_MAX: i64 = 5_000_000;

/// The switch's clock from some cycle on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    from: u64,
    ns: Nanos,
    /// Nanoseconds a cycle, as a fraction of 2^32.
    ns_per_cycle: u64,
}

impl Line {
    /// The nanoseconds that so many cycles take.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "584 years of nanoseconds fit"
    )]
    pub(super) fn span(&self, n_cycles: u64) -> Nanos {
        ((u128::from(n_cycles) * u128::from(self.ns_per_cycle)) >> 32) as u64
    }

    /// The nanoseconds at a reading of the counter; of one before the line begins, those where it
    /// begins.
    #[inline(always)]
    pub(super) fn at(&self, cycles: u64) -> Nanos {
        self.ns + self.span(cycles.saturating_sub(self.from))
    }

    pub(super) fn words(&self) -> [u64; 3] {
        [self.from, self.ns, self.ns_per_cycle]
    }

    pub(super) fn from_words([from, ns, ns_per_cycle]: [u64; 3]) -> Self {
        Self {
            from,
            ns,
            ns_per_cycle,
        }
    }
}

/// What a comparison with the kernel's clock came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Checked {
    /// The reading is too close to the last one, or too vague: the next will tell.
    Nothing,
    /// Corrected: the counter's rate was other than the last one by so many parts in a million, the
    /// clock ahead by so many nanoseconds.
    Corrected {
        /// Of the rate.
        drift_ppm: f64,
        /// Negative: behind.
        ahead_ns: i64,
    },
    /// The clock had been so far off that only its rate was set right: the machine slept, or its
    /// counter was reset.
    Rebased {
        /// Negative: behind.
        ahead_ns: i64,
    },
}

/// The clock and what it is compared with.
#[derive(Clone, Debug)]
pub(super) struct Discipline {
    pub(super) line: Line,
    /// By how much the rate may be off.
    pub(super) error_ppm: f64,
    /// The counter's rate as it was measured last, as in `line`; that of the line is a little more
    /// or less.
    rate: u64,
    /// A rate that was too far from the last to be believed.
    suspect: Option<u64>,
    last: Reading,
    /// The kernel's clock where ours was zero, as far as that was made up for.
    zero: i128,
}

/// Measures for as long as it takes to know the counter's rate well.
pub(super) fn measure(read: &mut impl FnMut() -> Reading) -> Discipline {
    let first = read();
    loop {
        std::hint::spin_loop();
        let last = read();
        let passed = last.ns.saturating_sub(first.ns);
        let known = match rate(&first, &last) {
            None if passed < MEASURE_MAX => continue,
            // A counter that stands still: the clock stands too, but the switch can be ended.
            known => known.unwrap_or(Rate {
                ns_per_cycle: 1 << 32,
                error_ppm: 1e6,
            }),
        };
        let Rate {
            ns_per_cycle,
            error_ppm,
        } = known;
        if passed >= MEASURE_MAX || passed >= MEASURE_MIN && error_ppm <= MEASURE_PPM {
            let line = Line {
                from: first.cycles,
                ns: 0,
                ns_per_cycle,
            };
            return Discipline {
                line,
                error_ppm,
                rate: ns_per_cycle,
                suspect: None,
                last,
                zero: first.ns.into(),
            };
        }
    }
}

/// A measured rate.
#[derive(Clone, Copy, Debug)]
struct Rate {
    ns_per_cycle: u64,
    error_ppm: f64,
}

/// None: nothing passed, or the counter went back.
fn rate(from: &Reading, to: &Reading) -> Option<Rate> {
    let n_cycles = to.cycles.checked_sub(from.cycles).filter(|&n| n > 0)?;
    let passed = to.ns.checked_sub(from.ns).filter(|&ns| ns > 0)?;
    let ns_per_cycle = u64::try_from((u128::from(passed) << 32) / u128::from(n_cycles))
        .ok()
        .filter(|&rate| rate > 0)?;
    Some(Rate {
        ns_per_cycle,
        error_ppm: float(from.width.saturating_add(to.width) / 2) / float(n_cycles) * 1e6,
    })
}

/// By how many parts in a million `rate` is more than `than`.
fn more_ppm(rate: u64, than: u64) -> f64 {
    (float(rate) / float(than) - 1.0) * 1e6
}

impl Discipline {
    /// Takes a reading into account.
    pub(super) fn check(&mut self, now: Reading) -> Checked {
        let passed = now.ns.saturating_sub(self.last.ns);
        if passed < BASE_MIN {
            return Checked::Nothing;
        }
        if now.cycles <= self.last.cycles {
            return self.restart(now, passed);
        }
        let Some(measured) = rate(&self.last, &now).filter(|rate| rate.error_ppm <= BASE_PPM)
        else {
            return Checked::Nothing;
        };
        self.last = now;
        let drift_ppm = more_ppm(measured.ns_per_cycle, self.rate);
        let is_confirmed = self
            .suspect
            .is_some_and(|suspect| more_ppm(measured.ns_per_cycle, suspect).abs() < ALIKE_PPM);
        if drift_ppm.abs() > JUMP_PPM && !is_confirmed {
            self.suspect = Some(measured.ns_per_cycle);
            return self.rebase(now);
        }
        (self.rate, self.error_ppm, self.suspect) =
            (measured.ns_per_cycle, measured.error_ppm, None);
        let (ahead_ns, _) = self.ahead(now);
        if ahead_ns.abs() > SLEW_MAX {
            return self.rebase(now);
        }
        let slew_ppm = (signed(ahead_ns) / 1e3 / SLEW_SECONDS).clamp(-SLEW_PPM, SLEW_PPM);
        self.go_on(
            now.cycles,
            self.line.at(now.cycles),
            scaled(self.rate, -slew_ppm),
        );
        Checked::Corrected {
            drift_ppm,
            ahead_ns,
        }
    }

    /// By how many nanoseconds the clock is ahead at a reading, and how far that may be off.
    pub(super) fn ahead(&self, at: Reading) -> (i64, Nanos) {
        let (ours, kernels) = (
            i128::from(self.line.at(at.cycles)),
            i128::from(at.ns) - self.zero,
        );
        let ahead = (ours - kernels).clamp(i64::MIN.into(), i64::MAX.into());
        (
            i64::try_from(ahead).unwrap_or(0),
            self.line.span(at.width / 2),
        )
    }

    /// Goes on from where the clock is, at the rate that is known, as if it had always been right.
    fn rebase(&mut self, now: Reading) -> Checked {
        let (ahead_ns, _) = self.ahead(now);
        self.zero -= i128::from(ahead_ns);
        self.go_on(now.cycles, self.line.at(now.cycles), self.rate);
        Checked::Rebased { ahead_ns }
    }

    /// The counter went back, as it does when a machine wakes up: goes on by what passed on the
    /// kernel's clock since.
    fn restart(&mut self, now: Reading, passed: Nanos) -> Checked {
        let ours = self.line.at(self.last.cycles).saturating_add(passed);
        let ahead_ns = self.ahead(now).0;
        self.go_on(now.cycles, ours, self.rate);
        self.zero = i128::from(now.ns) - i128::from(ours);
        self.last = now;
        Checked::Rebased { ahead_ns }
    }

    fn go_on(&mut self, from: u64, ns: Nanos, ns_per_cycle: u64) {
        self.line = Line {
            from,
            ns,
            ns_per_cycle,
        };
    }
}

#[expect(clippy::cast_precision_loss, reason = "parts in a million of it count")]
fn float(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds within seconds")]
fn signed(n: i64) -> f64 {
    n as f64
}

/// So many parts in a million more.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number near `rate`"
)]
fn scaled(rate: u64, ppm: f64) -> u64 {
    (float(rate) * (1.0 + ppm / 1e6)).round() as u64
}

#[cfg(test)]
#[path = "discipline_tests.rs"]
mod tests;
