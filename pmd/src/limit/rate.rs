//! Limiters: how much may pass in a time, kept in one word that all cores share.
//!
//! The word of a [`Limiter`] is the generic cell rate algorithm's *theoretical arrival time* (ITU-T
//! I.371, annex A): the moment at which all that has passed is paid for. Before a burst one load of
//! it says what may pass, after the burst one compare-and-swap puts what did pass on the bill:
//! `at = max(at, now - burst) + cost`. Nothing is refilled, so nothing has to run while nothing is
//! sent. What passes although there was less left than it costs (the frame that crosses the
//! allowance, bursts of several cores that looked at the same time) is a debt that is paid before
//! anything else passes.
//!
//! **Units.** Time is in ticks of 1/1024 ns, counted in a wrapping `u64` that comes round in 208
//! days, and compared by its signed difference. A byte costs 20.48 ticks at 400 Gbit/s, so a whole
//! number of ticks would be wrong by 2.3 %: the price of one unit has [`PRICE_BITS`] more bits of
//! fraction. At 400 Gbit/s it is then exact to 3e-8, a crystal to 1e-5; at the other end a packet a
//! second costs 2^60, which still fits. The cost of a charge is rounded to the nearest even number
//! of ticks: at most 0.08 % of a frame of 64 bytes at 400 Gbit/s charged alone, 32 times less in a
//! full burst, and nothing at ordinary rates.
//!
//! **Changes.** A rate may change while cores charge. There is room for two [`Setting`]s, and the
//! lowest bit of the word, which no time needs, says which of them holds: so the word and what its
//! time is worth change in one step, and a charge at the old price that comes too late fails, and
//! is made at the new one. What is saved up, or owed, is that many *units* before and after:
//! whoever changes a rate again and again gives nothing away.
//!
//! Used from polling cores; control makes limiters, reads, refreshes and changes them.

use super::atomics::{AtomicU64, Ordering};
use crate::time::{Nanos, SECOND};

/// The least and the most that a limiter of bits can mean.
pub const BITS_PER_SEC_MIN: u64 = 10_000;
/// See [`BITS_PER_SEC_MIN`].
pub const BITS_PER_SEC_MAX: u64 = 400_000_000_000;
/// The most packets a second that a limiter can mean; the least is one.
pub const PACKETS_PER_SEC_MAX: u64 = 1_000_000_000;

/// Bytes that may pass at once where nothing else was said: 64 KiB, or what the rate makes of
/// [`BURST_TIME`].
const BURST_BYTES: u64 = 64 << 10;
/// Packets that may pass at once, likewise.
const BURST_PACKETS: u64 = 64;
/// The least time's worth that a burst is by default.
const BURST_TIME: Nanos = 4_000_000;
/// A burst of less than this time's worth is made to be it: a core may look at a queue not much
/// more often, and what was not sent by then must be left to be sent then.
pub const BURST_TIME_MIN: Nanos = 250_000;

/// Ticks of a nanosecond, as a power of two.
const TICK_BITS: u32 = 10;
const TICKS_PER_SEC: u64 = SECOND << TICK_BITS;
/// Bits of fraction in a price.
const PRICE_BITS: u32 = 20;
/// No debt is as large (19 hours): what seems to be is a word from before the counter came round,
/// or a clock that was set back.
const DEBT_MAX: i64 = 1 << 56;
/// Nor is any burst (26 days).
const BURST_MAX: u64 = 1 << 61;

/// A rate that is kept to, in units (bytes or packets) a second.
///
/// Shared by all cores; every method is wait-free but [`Limiter::charge`], which tries again only
/// when another core's charge came between. No memory is published by the word, so all orders are
/// relaxed.
#[derive(Debug)]
pub struct Limiter {
    /// When all that has passed is paid for, in ticks, of which there is an even number; the lowest
    /// bit is the number of the setting that holds.
    at: AtomicU64,
    settings: Settings,
}

/// What a limiter is to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Ticks a unit, as a fraction of 2^[`PRICE_BITS`]; zero: anything may pass.
    price: u64,
    /// Units a tick, as a fraction of 2^64: the price's reciprocal, so that no core divides.
    worth: u64,
    /// What may pass at once, in ticks, of which there is an even number.
    burst: u64,
}

/// Two of them, of which control writes the one that does not hold. A core that reads it meanwhile,
/// since it held a moment ago, gets a mixture: what it looks up by that is wrong once, and what it
/// charges is charged again.
#[derive(Debug, Default)]
struct Settings {
    prices: [AtomicU64; 2],
    worths: [AtomicU64; 2],
    bursts: [AtomicU64; 2],
}

/// The number of the setting that holds by this word.
#[inline(always)]
fn holds(at: u64) -> usize {
    usize::from(at & 1 != 0)
}

impl Settings {
    fn set(&self, n: usize, setting: Setting) {
        self.prices[n].store(setting.price, Ordering::Relaxed);
        self.worths[n].store(setting.worth, Ordering::Relaxed);
        self.bursts[n].store(setting.burst, Ordering::Relaxed);
    }

    #[inline(always)]
    fn price(&self, at: u64) -> u64 {
        self.prices[holds(at)].load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn worth(&self, at: u64) -> u64 {
        self.worths[holds(at)].load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn burst(&self, at: u64) -> u64 {
        self.bursts[holds(at)].load(Ordering::Relaxed)
    }

    fn get(&self, at: u64) -> Setting {
        Setting {
            price: self.price(at),
            worth: self.worth(at),
            burst: self.burst(at),
        }
    }
}

impl Setting {
    /// Anything may pass.
    pub const OFF: Self = Self {
        price: 0,
        worth: u64::MAX,
        burst: BURST_MAX,
    };

    /// As [`Limiter::of_bits`].
    pub fn of_bits(bits_per_sec: u64, burst: Option<u64>) -> Self {
        let bits = bits_per_sec.clamp(BITS_PER_SEC_MIN, BITS_PER_SEC_MAX);
        Self::new(bits, 8, burst, BURST_BYTES)
    }

    /// As [`Limiter::of_packets`].
    pub fn of_packets(packets_per_sec: u64, burst: Option<u64>) -> Self {
        let packets = packets_per_sec.clamp(1, PACKETS_PER_SEC_MAX);
        Self::new(packets, 1, burst, BURST_PACKETS)
    }

    /// `rate` parts a second, of which a unit has `parts`.
    fn new(rate: u64, parts: u64, burst: Option<u64>, burst_default: u64) -> Self {
        let per_second = u128::from(TICKS_PER_SEC) * u128::from(parts);
        let price = narrow(((per_second << PRICE_BITS) + u128::from(rate / 2)) / u128::from(rate));
        let worth = narrow((u128::from(rate) << 64) / per_second);
        let least = BURST_TIME_MIN << TICK_BITS;
        let burst = match burst {
            Some(units) => scale(units, price).max(least),
            None => scale(burst_default, price).max(BURST_TIME << TICK_BITS),
        };
        Self {
            price,
            worth,
            burst: burst.min(BURST_MAX),
        }
    }

    /// What so many ticks' worth before is worth in ticks now. What was not counted before is
    /// nothing, of what is not counted now there is as much as can be.
    fn converted(self, credit: i64, before: Setting) -> i64 {
        let burst = self.burst.cast_signed();
        if self.price == 0 || before.price == 0 {
            return if self.price == 0 { burst } else { 0 };
        }
        let exact = i128::from(credit) * i128::from(self.price) / i128::from(before.price);
        let most = exact.clamp(i128::from(-DEBT_MAX), i128::from(burst));
        i64::try_from(most).unwrap_or(burst) & !1
    }
}

impl Limiter {
    /// Bytes at `bits_per_sec`, from [`BITS_PER_SEC_MIN`] to [`BITS_PER_SEC_MAX`]; a value outside
    /// is taken for the nearer end. `burst`: bytes that may pass at once; none: 64 KiB, or four
    /// milliseconds' worth if that is more.
    pub fn of_bits(bits_per_sec: u64, burst: Option<u64>) -> Self {
        Self::new(Setting::of_bits(bits_per_sec, burst))
    }

    /// Packets, from one a second to [`PACKETS_PER_SEC_MAX`]; a value outside is taken for the
    /// nearer end. `burst` as for bits: none: 64 packets, or four milliseconds' worth.
    pub fn of_packets(packets_per_sec: u64, burst: Option<u64>) -> Self {
        Self::new(Setting::of_packets(packets_per_sec, burst))
    }

    /// That keeps to this.
    pub fn new(setting: Setting) -> Self {
        let settings = Settings::default();
        settings.set(0, setting);
        Self {
            at: AtomicU64::new(0),
            settings,
        }
    }

    /// With all saved up that may be, at `now`.
    #[must_use]
    pub fn saved_up(self, now: Nanos) -> Self {
        let (at, setting) = self.read();
        let full = ticks(now).wrapping_sub(setting.burst) | at & 1;
        self.at.store(full, Ordering::Relaxed);
        self
    }

    /// Keeps to another setting from now on, for all cores at once. For one control thread at a
    /// time; cores charge meanwhile.
    pub fn change(&self, now: Nanos, setting: Setting) {
        loop {
            let (at, before) = self.read();
            if before == setting {
                return;
            }
            self.settings.set(1 - holds(at), setting);
            let credit = setting.converted(credit_at(at, ticks(now), before.burst), before);
            let then = ticks(now).wrapping_sub(credit.cast_unsigned()) & !1 | (at & 1 ^ 1);
            // Release, pairs with the Acquire of whoever loads the word: the setting is there.
            if self
                .at
                .compare_exchange(at, then, Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                return;
            }
        }
    }

    /// The word, and the setting that holds.
    fn read(&self) -> (u64, Setting) {
        let at = self.at.load(Ordering::Acquire);
        (at, self.settings.get(at))
    }

    fn setting(&self) -> Setting {
        self.read().1
    }

    /// What may pass at once, in units.
    pub fn burst(&self) -> u64 {
        let setting = self.setting();
        setting.nearest(setting.burst)
    }

    /// How long it takes until what passes in `time` is saved up: zero, if it is.
    pub fn until_saved(&self, now: Nanos, time: Nanos) -> Nanos {
        let missing = ticks(time).cast_signed().saturating_sub(self.credit(now).0);
        if missing > 0 {
            (missing.unsigned_abs() >> TICK_BITS) + 1
        } else {
            0
        }
    }

    /// The time in which [`Limiter::burst`] units pass.
    pub fn burst_time(&self) -> Nanos {
        self.setting().burst >> TICK_BITS
    }

    /// The time in which so many units may pass.
    pub fn time(&self, units: u64) -> Nanos {
        scale(units, self.setting().price) >> TICK_BITS
    }

    /// Ticks that are left to be spent, [`Limiter::burst`]'s worth at most; zero or less: nothing
    /// may pass.
    #[inline(always)]
    pub fn credit(&self, now: Nanos) -> Credit {
        let at = self.at.load(Ordering::Acquire);
        Credit(credit_at(at, ticks(now), self.settings.burst(at)))
    }

    /// The same in units, below zero for a debt.
    #[expect(
        clippy::cast_possible_wrap,
        reason = "2^61 ticks are fewer units than that"
    )]
    pub fn left(&self, now: Nanos) -> i64 {
        let Credit(credit) = self.credit(now);
        let units = self.setting().nearest(credit.unsigned_abs()) as i64;
        if credit < 0 { -units } else { units }
    }

    /// Units that a credit lets pass, rounded up: what crosses it still passes. Zero where there is
    /// none.
    pub fn units(&self, credit: Credit) -> u64 {
        credit.units(self.setting().worth)
    }

    /// Units that may pass now, rounded up; [`Limiter::units`] of [`Limiter::credit`].
    #[inline(always)]
    pub fn units_left(&self, now: Nanos) -> u64 {
        let at = self.at.load(Ordering::Acquire);
        let credit = credit_at(at, ticks(now), self.settings.burst(at));
        Credit(credit).units(self.settings.worth(at))
    }

    /// Puts `units` on the bill. Gives what is left then.
    #[inline(always)]
    pub fn charge(&self, now: Nanos, units: u64) -> Credit {
        let now = ticks(now);
        let mut at = self.at.load(Ordering::Acquire);
        loop {
            let cost = scale(units, self.settings.price(at));
            let credit = credit_at(at, now, self.settings.burst(at));
            let then = now.wrapping_sub(credit.cast_unsigned()).wrapping_add(cost) | at & 1;
            // Relaxed: whoever loads what is stored here sees the setting that it was loaded with.
            match self
                .at
                .compare_exchange_weak(at, then, Ordering::Relaxed, Ordering::Acquire)
            {
                Ok(_) => return Credit(credit.wrapping_sub_unsigned(cost)),
                Err(seen) => at = seen,
            }
        }
    }

    /// Sees to it that a word that isn't used doesn't grow so old that it seems to be of the
    /// future. For control, at least once a month.
    pub fn refresh(&self, now: Nanos) {
        self.charge(now, 0);
    }
}

impl Setting {
    /// Units of so many ticks, to the nearest, for people.
    fn nearest(self, ticks: u64) -> u64 {
        narrow((u128::from(ticks) * u128::from(self.worth) + (1 << 63)) >> 64)
    }
}

/// What is left at `now` of what `at` says, a burst's worth at most. The word's lowest bit is a
/// tick too many at most.
#[inline(always)]
fn credit_at(at: u64, now: u64, burst: u64) -> i64 {
    let credit = now.wrapping_sub(at).cast_signed();
    let burst = burst.cast_signed();
    if credit > burst || credit < -DEBT_MAX {
        burst
    } else {
        credit
    }
}

/// What a limiter has left, as of one look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credit(i64);

impl Credit {
    /// Whether anything may pass.
    #[inline(always)]
    pub fn is_some(self) -> bool {
        self.0 > 0
    }

    /// Units that it lets pass, rounded up, each tick being worth so much.
    #[inline(always)]
    fn units(self, worth: u64) -> u64 {
        if self.0 <= 0 {
            0
        } else {
            narrow((u128::from(self.0.unsigned_abs()) * u128::from(worth)) >> 64) + 1
        }
    }

    /// How long it takes until something may pass: not at all, or at least a nanosecond.
    #[inline(always)]
    pub fn wait(self) -> Nanos {
        if self.0 > 0 {
            0
        } else {
            (self.0.unsigned_abs() >> TICK_BITS) + 1
        }
    }
}

#[inline(always)]
fn ticks(now: Nanos) -> u64 {
    now.wrapping_shl(TICK_BITS)
}

/// The cost of `units`, to the nearest even number of ticks.
#[inline(always)]
fn scale(units: u64, price: u64) -> u64 {
    narrow((u128::from(units) * u128::from(price) + (1 << PRICE_BITS)) >> PRICE_BITS) & !1
}

/// What is known to fit, but for values that nobody can mean.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "checked by the callers' ranges, see each"
)]
fn narrow(wide: u128) -> u64 {
    debug_assert!(wide >> 64 == 0, "{wide} is beyond 64 bits");
    wide as u64
}

#[cfg(all(test, not(loom)))]
#[path = "rate_tests.rs"]
mod tests;
