//! One report for all who ask within a short time, so that pages cost no more the more are open.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::base::lock::lock;

/// How long a report is given out. What it says of rates is sampled once a second.
pub(super) const AGE_MAX: Duration = Duration::from_millis(500);

/// The last report, and when it was made.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Option<(Instant, Bytes)>>);

impl Shared {
    /// A report that is not older than [`AGE_MAX`]: the last, or what `make` makes.
    pub(super) fn at(&self, now: Instant, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let mut last = lock(&self.0);
        match &*last {
            Some((made, report)) if now.saturating_duration_since(*made) <= AGE_MAX => {
                report.clone()
            }
            _ => {
                let report = Bytes::from(make());
                *last = Some((now, report.clone()));
                report
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_made_twice_a_second_however_often_it_is_asked_for() {
        let (shared, begin, mut n_made) = (Shared::default(), Instant::now(), 0);
        for ms in 0..10_000 {
            let now = begin + Duration::from_millis(ms);
            shared.at(now, || {
                n_made += 1;
                Vec::new()
            });
        }
        assert_eq!(n_made, 20);
    }

    #[test]
    fn report_is_at_most_half_a_second_old() {
        let (shared, begin) = (Shared::default(), Instant::now());
        shared.at(begin, || b"old".to_vec());
        assert_eq!(shared.at(begin + AGE_MAX, || b"new".to_vec()), "old");
        let later = begin + AGE_MAX + Duration::from_millis(1);
        assert_eq!(shared.at(later, || b"new".to_vec()), "new");
    }
}
