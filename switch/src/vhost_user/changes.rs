//! How often a port's front-end may have its queues taken off the cores.
//!
//! Each time, every core does some work for all queues of the port, and the kernel may interrupt
//! all cores for memory that goes. So there is an allowance, which outlives connections: who has
//! used it up waits, on its own port's thread, until the next message is looked at.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::base::lock::lock;

/// Changes at once. A guest with 16 queue pairs makes less than 200 when it starts; twice that, for
/// firmware before it.
const AT_ONCE: u64 = 512;
/// After those, one each.
const EVERY: Duration = Duration::from_millis(10);

/// One port's allowance.
#[derive(Debug)]
pub(crate) struct Changes(Mutex<Instant>);

impl Default for Changes {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Changes {
    /// So many were made.
    pub(crate) fn made(&self, n: u64, now: Instant) {
        let mut paid_until = lock(&self.0);
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        *paid_until = (*paid_until).max(now) + EVERY * n;
    }

    /// How long the port's front-end has to wait now; none: no time at all.
    pub(crate) fn rest(&self, now: Instant) -> Option<Duration> {
        let most = EVERY * u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        let ahead = lock(&self.0).saturating_duration_since(now);
        ahead.checked_sub(most).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_let_at_once_and_a_hundred_a_second_after_that() {
        let begin = Instant::now();
        let changes = Changes(Mutex::new(begin));
        let (mut now, mut n) = (begin, 0);
        while now < begin + Duration::from_secs(10) {
            changes.made(1, now);
            n += 1;
            now += changes.rest(now).unwrap_or_default();
        }
        assert!((AT_ONCE + 999..=AT_ONCE + 1001).contains(&n), "{n}");
        // Having rested, it starts anew, with no more than before.
        now += Duration::from_secs(3600);
        changes.made(AT_ONCE, now);
        assert_eq!(changes.rest(now), None);
        changes.made(1, now);
        assert_eq!(changes.rest(now), Some(EVERY));
    }
}
