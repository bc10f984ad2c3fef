//! How long the next front-end of a port waits after others that left early.
//!
//! QEMU that asks for more queues than its port has gives up and connects again at once, thousands
//! of times a second. So after a handshake without a result the next front-end waits, from 10 ms up
//! to a second. A handshake that completes, or a front-end that stays, ends the pauses.

use std::time::{Duration, Instant};

/// First and longest pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// A front-end that stayed this long did not leave early.
const STAYED: Duration = Duration::from_secs(1);
/// Least time between equal log lines.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// A connection of one front-end, once it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Its duration.
    pub(crate) time: Duration,
    /// Whether a queue ran.
    pub(crate) is_complete: bool,
}

impl Session {
    /// Whether it ended early, without a result.
    pub(crate) fn is_early(&self) -> bool {
        !self.is_complete && self.time < STAYED
    }
}

/// The pauses of one port.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pause: Duration,
    /// The last line logged about one that left early, when, and how many were the same since.
    logged: Option<(String, Instant, u64)>,
}

impl Backoff {
    /// A front-end is gone: how long the next has to wait.
    pub(crate) fn next(&mut self, session: &Session) -> Duration {
        if session.is_early() {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        } else {
            *self = Self::default();
        }
        self.pause
    }

    /// Whether the last one left early.
    pub(crate) fn is_pausing(&self) -> bool {
        !self.pause.is_zero()
    }

    /// The log line about a front-end that left early; none: the same was logged just before.
    pub(crate) fn line(&mut self, left: &str, now: Instant) -> Option<String> {
        let more = match &mut self.logged {
            Some((text, at, n))
                if text == left && now.saturating_duration_since(*at) < LOG_AGAIN =>
            {
                *n += 1;
                return None;
            }
            Some((text, _, n)) if text == left && *n > 0 => {
                format!(" ({n} more times since that was last logged)")
            }
            _ => String::new(),
        };
        self.logged = Some((left.to_owned(), now, 0));
        Some(format!("{left}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Session = Session {
        time: Duration::from_millis(1),
        is_complete: false,
    };

    #[test]
    fn pauses_grow_to_a_second_and_no_further() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.next(&EARLY).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
    }

    #[test]
    fn handshake_that_completes_and_front_end_that_stays_end_the_pauses() {
        let mut backoff = Backoff::default();
        for good in [
            Session {
                is_complete: true,
                ..EARLY
            },
            Session {
                time: STAYED,
                ..EARLY
            },
        ] {
            (0..5).for_each(|_| assert!(!backoff.next(&EARLY).is_zero()));
            assert!(backoff.is_pausing());
            assert_eq!(backoff.next(&good), Duration::ZERO);
            assert_eq!(backoff.next(&EARLY), PAUSE.0);
        }
    }

    #[test]
    fn the_same_is_said_once_a_minute_with_its_number() {
        let (mut backoff, begin) = (Backoff::default(), Instant::now());
        assert_eq!(backoff.line("left", begin).as_deref(), Some("left"));
        for second in 1..60 {
            assert_eq!(
                backoff.line("left", begin + Duration::from_secs(second)),
                None
            );
        }
        let said = backoff.line("left", begin + LOG_AGAIN).unwrap();
        assert_eq!(said, "left (59 more times since that was last logged)");
        assert_eq!(
            backoff.line("left otherwise", begin + LOG_AGAIN).as_deref(),
            Some("left otherwise")
        );
    }
}
