//! Frames and bits a second of every port: sampled by the supervisor, read for operators.

use std::sync::Mutex;
use std::time::Instant;

use flowtable::PortId;
use pmd::Cores;
use pmd::stats::Counters;

use crate::api::counters::RateReport;
use crate::base::lock::lock;

/// Frames and bits a second of every port, as of the last sample.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<Vec<Sample>>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    counters: Counters,
    rates: RateReport,
}

impl Rates {
    /// Samples all counters.
    pub(crate) fn sample(&self, cores: &Cores, n_ports: usize) {
        let at = Instant::now();
        let mut samples = lock(&self.0);
        for (idx, port) in (0..n_ports).zip(0..) {
            let counters = cores.counters(port);
            match samples.get_mut(idx) {
                Some(last) => {
                    *last = Sample {
                        at,
                        counters,
                        rates: rates_between(last, at, &counters),
                    }
                }
                None => samples.push(Sample {
                    at,
                    counters,
                    rates: RateReport::default(),
                }),
            }
        }
    }

    /// As of the last sample.
    pub(crate) fn of(&self, port: PortId) -> RateReport {
        lock(&self.0)
            .get(usize::from(port))
            .map_or_else(RateReport::default, |sample| sample.rates)
    }
}

fn rates_between(last: &Sample, at: Instant, now: &Counters) -> RateReport {
    let seconds = at.saturating_duration_since(last.at).as_secs_f64();
    // Exact up to 2^53 frames.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |now: u64, then: u64| {
        if seconds > 0.0 {
            now.saturating_sub(then) as f64 / seconds
        } else {
            0.0
        }
    };
    RateReport {
        rx_frames_per_second: rate(now.rx_frames, last.counters.rx_frames),
        rx_bits_per_second: rate(now.rx_bytes, last.counters.rx_bytes) * 8.0,
        tx_frames_per_second: rate(now.tx_frames, last.counters.tx_frames),
        tx_bits_per_second: rate(now.tx_bytes, last.counters.tx_bytes) * 8.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_are_differences_over_time() {
        let at = Instant::now();
        let last = Sample {
            at,
            counters: Counters::default(),
            rates: RateReport::default(),
        };
        let now = Counters {
            rx_frames: 500,
            rx_bytes: 32_000,
            ..Counters::default()
        };
        let rates = rates_between(&last, at + Duration::from_millis(500), &now);
        assert_eq!(
            rates,
            RateReport {
                rx_frames_per_second: 1000.0,
                rx_bits_per_second: 512_000.0,
                tx_frames_per_second: 0.0,
                tx_bits_per_second: 0.0
            }
        );
        assert_eq!(
            rates_between(&last, at, &now),
            RateReport::default(),
            "no time has passed"
        );
    }
}
