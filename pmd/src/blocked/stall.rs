//! When a receiver counts as stalled: frames wanted in for a second, and not one got in.
//!
//! What counts is buffers that frames were put into. A receiver that adds buffers gets frames into
//! them at once, so that is the same as buffers it added; but broken ones, which a guest can add
//! for ever, never count.

use crate::time::Nanos;

/// How long a receiver may take nothing while frames for it wait.
pub(crate) const STALLED_AFTER: Nanos = 1_000_000_000;
/// Frames that come further apart than this don't wait on and on: the time begins anew.
const GAP: Nanos = 100_000_000;

/// One transmit queue's account. Looked at only when a frame finds no room.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stall {
    /// Buffers used for frames so far, counted in a number that wraps.
    n_used: u32,
    since: Nanos,
    wanted_at: Nanos,
    is_stalled: bool,
}

impl Stall {
    /// A frame found no room; `n_used`: buffers that frames were put into so far. Whether the
    /// receiver is stalled, which it stays until a frame got in.
    #[cold]
    pub(crate) fn is_stalled(&mut self, n_used: u32, now: Nanos) -> bool {
        if n_used != self.n_used {
            *self = Self {
                n_used,
                since: now,
                wanted_at: now,
                is_stalled: false,
            };
        }
        if now.saturating_sub(self.wanted_at) > GAP {
            self.since = now;
        }
        self.wanted_at = self.wanted_at.max(now);
        self.is_stalled |= now.saturating_sub(self.since) >= STALLED_AFTER;
        self.is_stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn receiver_that_takes_nothing_for_a_second_is_stalled_until_it_takes_a_frame() {
        let mut stall = Stall::default();
        let start = 5_000 * MS;
        assert!((0..1000).all(|ms| !stall.is_stalled(7, start + ms * MS)));
        assert!(stall.is_stalled(7, start + 1000 * MS));
        assert!(
            stall.is_stalled(7, start + 90_000 * MS),
            "however rarely frames come"
        );
        assert!(!stall.is_stalled(8, start + 90_001 * MS));
        assert!(
            (0..900).all(|n| !stall.is_stalled(9 + n, start + (91_000 + u64::from(n) * 900) * MS)),
            "slow, no more"
        );
    }

    #[test]
    fn time_without_a_frame_that_waits_does_not_count() {
        let mut stall = Stall::default();
        assert!((0..50).all(|n| !stall.is_stalled(0, 200 * MS * n)));
    }
}
