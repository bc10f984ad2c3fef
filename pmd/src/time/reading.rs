//! The cycle counter and the kernel's clock at one moment.
//!
//! They can't be read at once: the counter is read before and after the kernel's clock, and the
//! moment lies in between. Where the thread lost its CPU meanwhile, that is long, and seen to be.
//! So the tightest of several is taken.

use super::Nanos;
use crate::sys;

/// Readings that are made at least, of which the tightest counts: some microseconds in all.
const N_TRIES: u32 = 32;
/// Readings that are made at most, while none was tight.
const N_TRIES_MAX: u32 = 1000;
/// Cycles that a reading may take to be called tight: two to five microseconds, some fifty times of
/// what it takes undisturbed.
const TIGHT: u64 = 10_000;

/// One of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// In the middle of `width`.
    pub(super) cycles: u64,
    /// Of the kernel's clock.
    pub(super) ns: Nanos,
    /// Cycles that the reading took: the moment of `ns` is at most half of them away.
    pub(super) width: u64,
}

impl Reading {
    /// The tightest of several, now.
    pub(super) fn take() -> Self {
        Self::tightest(&mut Self::once)
    }

    /// The same of any source.
    pub(super) fn tightest(source: &mut impl FnMut() -> Self) -> Self {
        let mut best = source();
        for n in 1..N_TRIES_MAX {
            if n >= N_TRIES && best.width <= TIGHT {
                break;
            }
            let next = source();
            if next.width <= best.width {
                best = next;
            }
        }
        best
    }

    fn once() -> Self {
        let before = sys::cycles();
        let ns = sys::monotonic_ns();
        Self::between(before, ns, sys::cycles())
    }

    /// Of the counter before and after the kernel's clock.
    pub(super) fn between(before: u64, ns: Nanos, after: u64) -> Self {
        let width = after.saturating_sub(before);
        Self {
            cycles: before.wrapping_add(width / 2),
            ns,
            width,
        }
    }
}
