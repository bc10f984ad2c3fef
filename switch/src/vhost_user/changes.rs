//! Limits how often a port's front-end may have its queues taken off the cores.
//!
//! Each time, every core does some work for all queues of the port, and the kernel may interrupt
//! all cores when memory is unmapped. So there is an allowance, which outlives connections: once it
//! is used up, the port's thread pauses before the next message.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::base::lock::lock;

/// Changes at once. A guest with 16 queue pairs makes fewer than 200 when it starts, and its
/// firmware before it as many.
const AT_ONCE: u64 = 512;
/// Then one change per this time.
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
    /// Records `n` changes.
    pub(crate) fn made(&self, n: u64, now: Instant) {
        let mut paid_until = lock(&self.0);
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        *paid_until = (*paid_until).max(now) + EVERY * n;
    }

    /// How long the port has to pause now; none: not at all.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        let most = EVERY * u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
        let ahead = lock(&self.0).saturating_duration_since(now);
        ahead.checked_sub(most).filter(|pause| !pause.is_zero())
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
            now += changes.pause(now).unwrap_or_default();
        }
        assert!((AT_ONCE + 999..=AT_ONCE + 1001).contains(&n), "{n}");
        // Having rested, it starts anew, with no more than before.
        now += Duration::from_secs(3600);
        changes.made(AT_ONCE, now);
        assert_eq!(changes.pause(now), None);
        changes.made(1, now);
        assert_eq!(changes.pause(now), Some(EVERY));
    }
}
