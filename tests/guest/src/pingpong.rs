//! Latency: one frame there and back, again and again, by lean rings, and how long that took.

use crate::flows::Flows;
use crate::frontend::FrontendError;
use crate::guest::Guest;
use crate::lean::{LeanRx, LeanTx, rx_len};
use crate::sys::{self, cycles, cycles_per_second};

/// A port that sends and receives one frame at a time, on the first queue pair.
#[derive(Debug)]
pub struct PingPort {
    guest: Guest,
    tx: LeanTx,
    rx: LeanRx,
}

impl PingPort {
    /// Takes the rings of a guest that hasn't started, and starts it. Every frame is the first of
    /// `flows`.
    ///
    /// # Errors
    /// If the back-end refuses the rings.
    pub fn new(mut guest: Guest, flows: Flows) -> Result<Self, FrontendError> {
        let options = guest.driver.options().clone();
        let (rx, tx) = (guest.driver.take_over(0), guest.driver.take_over(1));
        let len = rx_len(&rx, &options.rx_shape);
        let rx = LeanRx::new(rx, len, false, true);
        let tx = LeanTx::new(tx, options.header_bytes(), flows);
        guest.start()?;
        Ok(Self { guest, tx, rx })
    }

    /// Sends one frame.
    pub fn send(&mut self) {
        self.tx.poll();
        if self.tx.room() > 0 {
            self.tx.offer(1);
        }
        if self.tx.kick_due() {
            self.guest.session().kick(1);
        }
    }

    /// Takes what came; how many frames.
    pub fn recv(&mut self) -> u16 {
        let n = self.rx.poll();
        if n > 0 {
            self.rx.offer(n);
            if self.rx.kick_due() {
                self.guest.session().kick(0);
            }
        }
        n
    }

    /// Waits for a frame until `deadline` (cycles). False if none came.
    pub fn recv_by(&mut self, deadline: u64) -> bool {
        while self.recv() == 0 {
            if cycles() > deadline || sys::stopped() {
                return false;
            }
            std::hint::spin_loop();
        }
        true
    }
}

/// One round: there, and back by whatever `back` does at the other end (nothing, when somebody else
/// reflects). The time it took in nanoseconds; None if a frame is lost for a tenth of a second.
pub fn round(here: &mut PingPort, back: impl FnOnce(u64) -> bool) -> Option<u64> {
    let start = cycles();
    let deadline = start + cycles_per_second() / 10;
    here.send();
    let came = back(deadline) && here.recv_by(deadline);
    came.then(|| nanos(cycles() - start))
}

fn nanos(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000_000 / u128::from(cycles_per_second()))
        .unwrap_or(u64::MAX)
}

/// A histogram of nanoseconds: 64 steps to each power of two, so within 1.6 %.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    n: u64,
    least: u64,
    most: u64,
}

const STEPS: u64 = 64;
const BUCKETS: usize = 64 * 64;

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            n: 0,
            least: u64::MAX,
            most: 0,
        }
    }
}

impl Histogram {
    /// Adds one.
    pub fn add(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.n += 1;
        (self.least, self.most) = (self.least.min(ns), self.most.max(ns));
    }

    /// How many were added.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The least.
    pub fn min(&self) -> u64 {
        if self.n == 0 { 0 } else { self.least }
    }

    /// The most.
    pub fn max(&self) -> u64 {
        self.most
    }

    /// What `per_mille` of them don't exceed.
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let rank = (self.n * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (i, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && count > 0 {
                return lower_bound(i as u64).clamp(self.least, self.most);
            }
        }
        self.most
    }
}

fn bucket(ns: u64) -> usize {
    let index = if ns < STEPS {
        ns
    } else {
        let shift = u64::from(ns.ilog2()) - 6;
        (shift + 1) * STEPS + ((ns >> shift) - STEPS)
    };
    usize::try_from(index).expect("below 64 * 64")
}

fn lower_bound(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    (STEPS + bucket % STEPS) << (bucket / STEPS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore)]
    fn quantiles_are_within_a_step() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|ns| histogram.add(ns));
        for (per_mille, want) in [(1, 100), (500, 50_000), (990, 99_000), (1000, 100_000)] {
            let got = histogram.quantile(per_mille);
            assert!(
                got <= want && got * 65 >= want * 64,
                "{per_mille}: {got} for {want}"
            );
        }
        assert_eq!(
            (histogram.min(), histogram.max(), histogram.n()),
            (1, 100_000, 100_000)
        );
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn buckets_ascend_without_gaps() {
        for ns in (0..10_000).chain([u64::MAX / 2, u64::MAX - 1, u64::MAX]) {
            assert!(lower_bound(bucket(ns) as u64) <= ns);
            assert!(bucket(ns.saturating_add(1)) - bucket(ns) <= 1);
        }
        assert_eq!(Histogram::default().quantile(500), 0);
    }
}
