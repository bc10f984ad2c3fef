//! Limits how many other connections are accepted while the port has a front-end, so that they
//! don't delay it.

use std::time::{Duration, Instant};

/// The allowance for other connections: [`Others::AT_ONCE`], then one per [`Others::EVERY`].
#[derive(Debug)]
pub(super) struct Others {
    n_left: u32,
    refilled: Instant,
}

impl Others {
    const AT_ONCE: u32 = 64;
    pub(super) const EVERY: Duration = Duration::from_millis(50);

    /// How long to accept no connection; none: one may be accepted.
    pub(super) fn pause(&mut self, now: Instant) -> Option<Duration> {
        let due = now.saturating_duration_since(self.refilled).as_nanos() / Self::EVERY.as_nanos();
        if due > 0 {
            self.n_left = self
                .n_left
                .saturating_add(u32::try_from(due).unwrap_or(u32::MAX))
                .min(Self::AT_ONCE);
            self.refilled = now;
        }
        (self.n_left == 0).then_some(Self::EVERY)
    }

    /// Uses up one connection of the allowance; false: there is none.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let may = self.pause(now).is_none();
        self.n_left -= u32::from(may);
        may
    }

    /// There was no connection: gives back the one used up.
    pub(super) fn refund(&mut self) {
        self.n_left += 1;
    }
}

impl Default for Others {
    fn default() -> Self {
        Self {
            n_left: Self::AT_ONCE,
            refilled: Instant::now(),
        }
    }
}
