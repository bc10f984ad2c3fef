//! One direction's limit: bits, packets, or both.

use super::options::{LimitOptions, LimitReport};
use super::rate::{Credit, Limiter};
use crate::amount::{Allowance, Amount};
use crate::time::Nanos;

/// One direction's limit: bits, packets, or both.
#[derive(Debug)]
#[repr(align(128))]
pub struct Limit {
    pub(super) bytes: Option<Limiter>,
    pub(super) packets: Option<Limiter>,
    options: LimitOptions,
}

impl Limit {
    /// None where there is no rate.
    pub fn new(options: LimitOptions) -> Option<Self> {
        let bytes = options
            .bits_per_sec
            .map(|bits| Limiter::of_bits(bits, options.burst_bytes));
        let packets = options
            .packets_per_sec
            .map(|packets| Limiter::of_packets(packets, None));
        (bytes.is_some() || packets.is_some()).then_some(Self {
            bytes,
            packets,
            options,
        })
    }

    /// What may pass now.
    ///
    /// # Errors
    /// Nothing may; how long it takes until something does.
    #[inline(always)]
    pub fn allowance(&self, now: Nanos) -> Result<Allowance, Nanos> {
        let mut allowance = Allowance::ALL;
        if let Some(limiter) = &self.bytes {
            let units = limiter.units(limiter.credit(now));
            allowance.n_bytes = u32::try_from(units).unwrap_or(u32::MAX);
        }
        if let Some(limiter) = &self.packets {
            let units = limiter.units(limiter.credit(now));
            allowance.n_frames = usize::try_from(units).unwrap_or(usize::MAX);
        }
        if allowance.n_bytes == 0 || allowance.n_frames == 0 {
            Err(self.wait(now))
        } else {
            Ok(allowance)
        }
    }

    /// Charges what has passed. Gives how long it takes until more may: zero, if it may now.
    #[inline(always)]
    pub fn charge(&self, now: Nanos, amount: Amount) -> Nanos {
        let bytes = self
            .bytes
            .as_ref()
            .map_or(0, |limiter| limiter.charge(now, amount.n_bytes).wait());
        let packets = self
            .packets
            .as_ref()
            .map_or(0, |limiter| limiter.charge(now, amount.n_frames).wait());
        bytes.max(packets)
    }

    #[cold]
    fn wait(&self, now: Nanos) -> Nanos {
        let wait = |limiter: &Option<Limiter>| {
            limiter
                .as_ref()
                .map(|limiter| limiter.credit(now))
                .map_or(0, Credit::wait)
        };
        wait(&self.bytes).max(wait(&self.packets))
    }

    /// How long it takes until what passes in `time` is saved up: zero, if it is. `time` is at most
    /// [`Limit::burst_time`].
    pub(crate) fn until_saved(&self, now: Nanos, time: Nanos) -> Nanos {
        let wait = |limiter: &Option<Limiter>| {
            limiter
                .as_ref()
                .map_or(0, |limiter| limiter.until_saved(now, time))
        };
        wait(&self.bytes).max(wait(&self.packets))
    }

    /// The time in which what may pass at once is saved up.
    pub(crate) fn burst_time(&self) -> Nanos {
        let time =
            |limiter: &Option<Limiter>| limiter.as_ref().map_or(Nanos::MAX, Limiter::burst_time);
        time(&self.bytes).min(time(&self.packets))
    }

    /// The time in which so much may pass.
    pub(crate) fn time(&self, amount: Amount) -> Nanos {
        let bytes = self
            .bytes
            .as_ref()
            .map_or(0, |limiter| limiter.time(amount.n_bytes));
        let packets = self
            .packets
            .as_ref()
            .map_or(0, |limiter| limiter.time(amount.n_frames));
        bytes.max(packets)
    }

    pub(super) fn report(&self, now: Nanos) -> LimitReport {
        LimitReport {
            bits_per_sec: self.options.bits_per_sec,
            packets_per_sec: self.options.packets_per_sec,
            burst_bytes: self.bytes.as_ref().map(Limiter::burst),
            burst_packets: self.packets.as_ref().map(Limiter::burst),
            left_bytes: self.bytes.as_ref().map(|limiter| limiter.left(now)),
            left_packets: self.packets.as_ref().map(|limiter| limiter.left(now)),
            queue: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: LimitOptions = LimitOptions {
        bits_per_sec: None,
        packets_per_sec: None,
        burst_bytes: None,
        queue: None,
    };

    #[test]
    fn limit_of_nothing_is_none() {
        assert!(Limit::new(NONE).is_none());
        assert!(
            Limit::new(LimitOptions {
                burst_bytes: Some(5),
                ..NONE
            })
            .is_none()
        );
    }

    #[test]
    fn tighter_of_bits_and_packets_binds() {
        let options = LimitOptions {
            bits_per_sec: Some(8_000_000),
            packets_per_sec: Some(1000),
            ..NONE
        };
        let limit = Limit::new(options).unwrap();
        // Everything saved up: 64 packets, and 64 KiB.
        let start = 1_000_000_000;
        let allowance = limit.allowance(start).unwrap();
        assert!(
            (65_536..65_540).contains(&allowance.n_bytes) && (64..66).contains(&allowance.n_frames),
            "{allowance:?}"
        );
        // Small frames: packets are spent first.
        let wait = limit.charge(
            start,
            Amount {
                n_frames: 65,
                n_bytes: 65 * 60,
            },
        );
        assert!((1_000_000..1_000_100).contains(&wait), "{wait}");
        assert_eq!(limit.allowance(start), Err(wait));
        assert!(limit.allowance(start + wait).is_ok());
        // Large ones: bytes.
        let wait = limit.charge(
            start + 100 * wait,
            Amount {
                n_frames: 60,
                n_bytes: 90_000,
            },
        );
        assert!((20_000_000..30_000_000).contains(&wait), "{wait}");
    }
}
