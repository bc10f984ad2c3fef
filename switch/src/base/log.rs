//! Log lines about something that a guest can cause as often as it likes: a few at once, then one a
//! second, and how many were kept back.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::base::lock::lock;

/// Lines that may follow each other at once: as many as an orderly connection needs.
const AT_ONCE: u32 = 8;
/// After those, one each.
const EVERY: Duration = Duration::from_secs(1);

/// The lines of one port.
#[derive(Debug)]
pub(crate) struct Notes {
    name: String,
    allowance: Mutex<Allowance>,
}

#[derive(Debug)]
struct Allowance {
    n_left: u32,
    refilled: Instant,
    n_kept_back: u64,
}

impl Notes {
    /// About the port of this name.
    pub(crate) fn new(name: &str) -> Self {
        let allowance = Allowance {
            n_left: AT_ONCE,
            refilled: Instant::now(),
            n_kept_back: 0,
        };
        Self {
            name: name.to_owned(),
            allowance: Mutex::new(allowance),
        }
    }

    /// Something that belongs to a port's life.
    pub(crate) fn info(&self, text: impl fmt::Display) {
        if let Some(kept_back) = self.may_speak() {
            info!("{}: {text}{kept_back}", self.name);
        }
    }

    /// Something that an operator may have to look after.
    pub(crate) fn warn(&self, text: impl fmt::Display) {
        if let Some(kept_back) = self.may_speak() {
            warn!("{}: {text}{kept_back}", self.name);
        }
    }

    fn may_speak(&self) -> Option<KeptBack> {
        lock(&self.allowance).take(Instant::now()).map(KeptBack)
    }
}

impl Allowance {
    /// Lines kept back before this one, if this one may be said.
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
            self.n_kept_back += 1;
            return None;
        }
        self.n_left -= 1;
        Some(std::mem::take(&mut self.n_kept_back))
    }
}

struct KeptBack(u64);

impl fmt::Display for KeptBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} lines about this port were kept back)"),
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
            n_kept_back: 0,
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
            n_kept_back: 0,
        };
        let later = begin + EVERY * 3600;
        assert_eq!(
            (0..100).filter(|_| allowance.take(later).is_some()).count(),
            AT_ONCE as usize
        );
    }
}
