//! The switch's clock.
//!
//! The counter's rate is measured at the start and checked against the kernel's clock
//! (`CLOCK_MONOTONIC`) once a second, by control. A correction changes how fast the switch's clock
//! goes from now on; it never goes back and never jumps. Cores learn of it by one load a turn
//! ([`ClockReader`]).

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard};

use super::Nanos;
use super::discipline::{Checked, Discipline, Line, measure};
use super::reading::Reading;
use crate::lock::lock;
use crate::sys;

/// The switch's clock. A handle; all clones are the same clock. For control: cores have a
/// [`ClockReader`].
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Odd while `line` is being changed, and another one whenever it was.
    version: AtomicU64,
    line: [AtomicU64; 3],
    discipline: Mutex<Discipline>,
}

impl Clock {
    /// Measures the counter against the kernel's clock, for about ten milliseconds; longer, a
    /// second at most, where the CPU is taken away so often that its rate isn't known well by then.
    pub fn calibrate() -> Self {
        Self::of(measure(&mut Reading::take))
    }

    fn of(discipline: Discipline) -> Self {
        let line = discipline.line.words().map(AtomicU64::new);
        Self(Arc::new(Shared {
            version: AtomicU64::new(0),
            line,
            discipline: Mutex::new(discipline),
        }))
    }

    /// For one core.
    pub fn reader(&self) -> ClockReader {
        let line = self.discipline().line;
        // Odd numbers are no version, so the first look takes the line that is in force by then.
        ClockReader {
            shared: self.0.clone(),
            seen: 1,
            line,
            last: 0,
        }
    }

    /// The nanoseconds that so many cycles take, at the rate of now.
    pub fn span(&self, n_cycles: u64) -> Nanos {
        self.discipline().line.span(n_cycles)
    }

    /// The time now.
    pub fn now(&self) -> Nanos {
        self.discipline().line.at(sys::cycles())
    }

    /// Compares the clock with the kernel's and corrects it. For one control thread, about once a
    /// second.
    pub fn check(&self) -> Checked {
        let mut discipline = self.discipline();
        let checked = discipline.check(Reading::take());
        self.publish(&discipline.line);
        checked
    }

    /// By how many nanoseconds the counter of the CPU that the caller runs on is ahead of the
    /// others'; and how far that may be off. Where CPUs' counters are in step, it is next to
    /// nothing.
    pub fn ahead_here(&self) -> (i64, Nanos) {
        self.discipline().ahead(Reading::take())
    }

    /// Parts in a million by which the rate may be off, as it was measured last.
    pub fn error_ppm(&self) -> f64 {
        self.discipline().error_ppm
    }

    fn discipline(&self) -> MutexGuard<'_, Discipline> {
        lock(&self.0.discipline)
    }

    /// Called under the lock, so there is one writer.
    fn publish(&self, line: &Line) {
        let Shared {
            version,
            line: words,
            ..
        } = &*self.0;
        let before = version.load(Ordering::Relaxed);
        version.store(before | 1, Ordering::Relaxed);
        // Pairs with the acquire fence in `reload`: who sees one of the words sees the odd version.
        fence(Ordering::Release);
        for (word, value) in words.iter().zip(line.words()) {
            word.store(value, Ordering::Relaxed);
        }
        // Pairs with the acquire loads in `at` and `reload`: who sees this version sees the words.
        version.store((before | 1).wrapping_add(1), Ordering::Release);
    }
}

/// The clock as one core has it: never goes back, and costs a load beside the counter.
#[derive(Debug)]
pub struct ClockReader {
    shared: Arc<Shared>,
    /// The version of `line`.
    seen: u64,
    line: Line,
    /// What was said last: CPUs' counters may be a little apart, and so is a correction seen here
    /// from where it was made.
    last: Nanos,
}

impl ClockReader {
    /// The nanoseconds at a reading of the counter.
    #[inline(always)]
    pub fn at(&mut self, cycles: u64) -> Nanos {
        if self.shared.version.load(Ordering::Acquire) != self.seen {
            self.reload();
        }
        self.last = self.last.max(self.line.at(cycles));
        self.last
    }

    /// Takes the line in force. While it is being changed the one before serves for a turn longer:
    /// nobody waits.
    #[cold]
    fn reload(&mut self) {
        let version = self.shared.version.load(Ordering::Acquire);
        let words = self
            .shared
            .line
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed));
        // Pairs with the release fence in `publish`.
        fence(Ordering::Acquire);
        if version & 1 == 0 && self.shared.version.load(Ordering::Relaxed) == version {
            (self.seen, self.line) = (version, Line::from_words(words));
        }
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
