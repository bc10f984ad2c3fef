//! Rate-limited log lines about one port, for events that a guest can cause at will: a few at once,
//! then one a second, with the number suppressed. And what lines look like.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::base::lock::lock;

/// Lines at once: as many as a normal connection needs.
const AT_ONCE: u32 = 8;
/// Then one line per this time.
const EVERY: Duration = Duration::from_secs(1);

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A time stamp, a level, a sentence.
    #[default]
    Text,
    /// A JSON object, with the port and other values in fields of their own.
    Json,
}

/// The log of one port.
#[derive(Debug)]
pub(crate) struct PortLog {
    name: String,
    allowance: Mutex<Allowance>,
}

#[derive(Debug)]
struct Allowance {
    n_left: u32,
    refilled: Instant,
    n_suppressed: u64,
}

impl PortLog {
    /// For the port of this name.
    pub(crate) fn new(name: &str) -> Self {
        let allowance = Allowance {
            n_left: AT_ONCE,
            refilled: Instant::now(),
            n_suppressed: 0,
        };
        Self {
            name: name.to_owned(),
            allowance: Mutex::new(allowance),
        }
    }

    /// For events in a port's normal life.
    pub(crate) fn info(&self, text: impl fmt::Display) {
        if let Some(suppressed) = self.admit() {
            let (port, n) = (&*self.name, suppressed.0);
            info!(port, suppressed = n, "{port}: {text}{suppressed}");
        }
    }

    /// For events that may need an operator.
    pub(crate) fn warn(&self, text: impl fmt::Display) {
        if let Some(suppressed) = self.admit() {
            let (port, n) = (&*self.name, suppressed.0);
            warn!(port, suppressed = n, "{port}: {text}{suppressed}");
        }
    }

    fn admit(&self) -> Option<Suppressed> {
        lock(&self.allowance).take(Instant::now()).map(Suppressed)
    }
}

impl Allowance {
    /// Number of lines suppressed before this one, if this one is allowed.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let n_due = now.saturating_duration_since(self.refilled).as_nanos() / EVERY.as_nanos();
        if n_due > 0 {
            self.n_left = self
                .n_left
                .saturating_add(u32::try_from(n_due).unwrap_or(AT_ONCE))
                .min(AT_ONCE);
            self.refilled = now;
        }
        if self.n_left == 0 {
            self.n_suppressed += 1;
            return None;
        }
        self.n_left -= 1;
        Some(std::mem::take(&mut self.n_suppressed))
    }
}

struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} lines about this port were suppressed)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storm_of_notes_is_one_line_a_second() {
        let begin = Instant::now();
        let mut allowance = Allowance {
            n_left: AT_ONCE,
            refilled: begin,
            n_suppressed: 0,
        };
        let said = (0..10_000)
            .filter(|_| allowance.take(begin).is_some())
            .count();
        assert_eq!(said, AT_ONCE as usize);
        assert_eq!(
            allowance.take(begin + EVERY),
            Some(10_000 - u64::from(AT_ONCE))
        );
        assert_eq!(allowance.take(begin + EVERY), None);
    }

    #[test]
    fn quiet_port_may_say_no_more_than_before() {
        let begin = Instant::now();
        let mut allowance = Allowance {
            n_left: 0,
            refilled: begin,
            n_suppressed: 0,
        };
        let later = begin + EVERY * 3600;
        assert_eq!(
            (0..100).filter(|_| allowance.take(later).is_some()).count(),
            AT_ONCE as usize
        );
    }
}
