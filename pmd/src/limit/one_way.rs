//! One direction's limit: bits, packets, or both. It may change while cores keep to it.

use std::sync::atomic::{AtomicU8, Ordering};

use super::options::{LimitOptions, LimitReport};
use super::rate::{Limiter, Setting};
use crate::amount::{Allowance, Amount};
use crate::time::Nanos;

/// One direction's limit: bits, packets, or both.
#[derive(Debug)]
#[repr(align(128))]
pub struct Limit {
    bytes: Limiter,
    packets: Limiter,
    /// Which of them are on: [`BYTES`], [`PACKETS`].
    on: AtomicU8,
}

const BYTES: u8 = 1;
const PACKETS: u8 = 2;

/// What each of the two is to keep to.
fn settings(options: &LimitOptions) -> [Setting; 2] {
    let bytes = options
        .bits_per_sec
        .map(|bits| Setting::of_bits(bits, options.burst_bytes));
    let packets = options
        .packets_per_sec
        .map(|packets| Setting::of_packets(packets, None));
    [bytes, packets].map(|setting| setting.unwrap_or(Setting::OFF))
}

/// Which of them are on then.
fn flags(settings: [Setting; 2]) -> u8 {
    let flags = settings.into_iter().zip([BYTES, PACKETS]);
    flags
        .filter(|&(setting, _)| setting != Setting::OFF)
        .fold(0, |flags, (_, flag)| flags | flag)
}

impl Limit {
    /// None where there is no rate.
    pub fn new(options: LimitOptions) -> Option<Self> {
        let limit = Self::of(&options);
        limit.is_on().then_some(limit)
    }

    /// Of no rate, it lets everything pass until it changes.
    pub(super) fn of(options: &LimitOptions) -> Self {
        let settings = settings(options);
        let [bytes, packets] = settings.map(Limiter::new);
        Self {
            bytes,
            packets,
            on: AtomicU8::new(flags(settings)),
        }
    }

    /// Keeps to other options from now on. For one control thread at a time; cores charge
    /// meanwhile.
    pub(super) fn change(&self, now: Nanos, options: &LimitOptions) {
        let settings = settings(options);
        let [bytes, packets] = settings;
        self.bytes.change(now, bytes);
        self.packets.change(now, packets);
        // Release, pairs with the Acquire in `on`: a core that sees the flag sees the rate.
        self.on.store(flags(settings), Ordering::Release);
    }

    /// Whether there is a rate to keep to.
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.on() != 0
    }

    /// Which limiters are on.
    #[inline(always)]
    fn on(&self) -> u8 {
        self.on.load(Ordering::Acquire)
    }

    /// Those that are on.
    fn limiters(&self) -> impl Iterator<Item = &Limiter> {
        [(BYTES, &self.bytes), (PACKETS, &self.packets)]
            .into_iter()
            .filter(|&(flag, _)| self.on() & flag != 0)
            .map(|(_, limiter)| limiter)
    }

    /// What may pass now.
    ///
    /// # Errors
    /// Nothing may; how long it takes until something does.
    #[inline(always)]
    pub fn allowance(&self, now: Nanos) -> Result<Allowance, Nanos> {
        let (mut allowance, on) = (Allowance::ALL, self.on());
        if on & BYTES != 0 {
            let units = self.bytes.units_left(now);
            allowance.n_bytes = u32::try_from(units).unwrap_or(u32::MAX);
        }
        // Most limits are of bytes alone.
        if on > BYTES {
            let units = self.packets.units_left(now);
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
        let on = self.on();
        let bytes = if on & BYTES != 0 {
            self.bytes.charge(now, amount.n_bytes).wait()
        } else {
            0
        };
        let packets = if on > BYTES {
            self.packets.charge(now, amount.n_frames).wait()
        } else {
            0
        };
        bytes.max(packets)
    }

    #[cold]
    fn wait(&self, now: Nanos) -> Nanos {
        let waits = self.limiters().map(|limiter| limiter.credit(now).wait());
        waits.max().unwrap_or(0)
    }

    /// How long it takes until what passes in `time` is saved up: zero, if it is. `time` is at most
    /// [`Limit::burst_time`].
    pub(crate) fn until_saved(&self, now: Nanos, time: Nanos) -> Nanos {
        let waits = self
            .limiters()
            .map(|limiter| limiter.until_saved(now, time));
        waits.max().unwrap_or(0)
    }

    /// The time in which what may pass at once is saved up.
    pub(crate) fn burst_time(&self) -> Nanos {
        let times = self.limiters().map(Limiter::burst_time);
        times.min().unwrap_or(Nanos::MAX)
    }

    /// The time in which so much may pass.
    pub(crate) fn time(&self, amount: Amount) -> Nanos {
        let on = self.on();
        let bytes = if on & BYTES != 0 {
            self.bytes.time(amount.n_bytes)
        } else {
            0
        };
        let packets = if on > BYTES {
            self.packets.time(amount.n_frames)
        } else {
            0
        };
        bytes.max(packets)
    }

    /// For control, now and then: see [`Limiter::refresh`].
    pub(super) fn refresh(&self, now: Nanos) {
        self.limiters().for_each(|limiter| limiter.refresh(now));
    }

    /// As these options made it.
    pub(super) fn report(&self, options: &LimitOptions, now: Nanos) -> LimitReport {
        let bytes = options.bits_per_sec.map(|_| &self.bytes);
        let packets = options.packets_per_sec.map(|_| &self.packets);
        LimitReport {
            bits_per_sec: options.bits_per_sec,
            packets_per_sec: options.packets_per_sec,
            burst_bytes: bytes.map(Limiter::burst),
            burst_packets: packets.map(Limiter::burst),
            left_bytes: bytes.map(|limiter| limiter.left(now)),
            left_packets: packets.map(|limiter| limiter.left(now)),
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
