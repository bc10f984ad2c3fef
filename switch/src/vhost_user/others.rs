//! Front-ends that connect while the port has its guest: how many are looked at, so that none holds
//! up the guest.

use std::time::{Duration, Instant};

/// Others who try to connect while the port has its guest: so many at once, then one at a time.
#[derive(Debug)]
pub(super) struct Others {
    n_left: u32,
    refilled: Instant,
}

impl Others {
    const AT_ONCE: u32 = 64;
    pub(super) const EVERY: Duration = Duration::from_millis(50);

    /// How long nobody is looked at; none: somebody may come.
    pub(super) fn rest(&mut self, now: Instant) -> Option<Duration> {
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

    /// Takes one of those that may come.
    pub(super) fn may_come(&mut self, now: Instant) -> bool {
        let may = self.rest(now).is_none();
        self.n_left -= u32::from(may);
        may
    }

    /// Nobody had come: one more may come later.
    pub(super) fn nobody_came(&mut self) {
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
