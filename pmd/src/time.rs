//! Time as a value: nanoseconds since the switch started, made from the cycle counter, read once a turn.

use crate::sys;

/// Nanoseconds of the switch's clock.
pub type Nanos = u64;

/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000_000_000;

/// Turns cycles into nanoseconds by one multiplication.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    /// Nanoseconds a cycle, as a fraction of 2^32.
    ns_per_cycle: u64,
}

impl Clock {
    /// Measures the counter against the kernel's clock, for about ten milliseconds.
    pub fn calibrate() -> Self {
        let (from, from_ns) = (sys::cycles(), sys::monotonic_ns());
        let mut to_ns = from_ns;
        while to_ns < from_ns + 10_000_000 {
            std::hint::spin_loop();
            to_ns = sys::monotonic_ns();
        }
        let n_cycles = u128::from(sys::cycles().wrapping_sub(from).max(1));
        let ns_per_cycle = (u128::from(to_ns - from_ns) << 32) / n_cycles;
        Self { start: from, ns_per_cycle: u64::try_from(ns_per_cycle).unwrap_or(1 << 32) }
    }

    /// The nanoseconds that so many cycles take.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "584 years of nanoseconds fit")]
    pub fn span(&self, n_cycles: u64) -> Nanos {
        ((u128::from(n_cycles) * u128::from(self.ns_per_cycle)) >> 32) as u64
    }

    /// The nanoseconds at a reading of the counter.
    #[inline(always)]
    pub fn at(&self, cycles: u64) -> Nanos {
        self.span(cycles.wrapping_sub(self.start))
    }
}

/// Whole seconds, for what is only looked at that often.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "136 years of seconds fit")]
pub fn seconds(now: Nanos) -> u32 {
    (now / SECOND) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "needs a real counter")]
    fn calibrated_clock_keeps_step_with_the_kernels() {
        let clock = Clock::calibrate();
        let (from, from_ns) = (clock.at(sys::cycles()), sys::monotonic_ns());
        while sys::monotonic_ns() < from_ns + 20_000_000 {}
        let (ours, kernels) = (clock.at(sys::cycles()) - from, sys::monotonic_ns() - from_ns);
        assert!(ours.abs_diff(kernels) < kernels / 50, "{ours} against {kernels}");
    }
}
