use proptest::prelude::*;

use super::*;

/// The same bill in exact fractions: ticks times the rate in parts a second, so that a unit costs a
/// whole number.
struct Model {
    rate: u128,
    parts: u128,
    burst: i128,
    /// Ticks times rate, from the beginning of time, which doesn't come round.
    at: i128,
}

impl Model {
    /// A limiter of `rate` parts a second, of which a unit has `parts`, with a burst of so many
    /// ticks.
    fn new(rate: u64, parts: u64, burst_ticks: u64, now: u128) -> Self {
        let burst = signed(u128::from(burst_ticks) * u128::from(rate));
        Self {
            rate: rate.into(),
            parts: parts.into(),
            burst,
            at: signed(now * 1024 * u128::from(rate)) - burst,
        }
    }

    /// Ticks times rate that are left, after charging so many units.
    fn charge(&mut self, now: u128, units: u64) -> i128 {
        let now = signed(now * 1024 * self.rate);
        let cost = u128::from(units) * self.parts * u128::from(TICKS_PER_SEC);
        self.at = self.at.max(now - self.burst) + signed(cost);
        now - self.at
    }
}

fn signed(value: u128) -> i128 {
    i128::try_from(value).unwrap()
}

/// A moment on the cores' clock, which comes round like any `u64`.
#[expect(clippy::cast_possible_truncation, reason = "that is the point")]
fn clock(now: u128) -> Nanos {
    now as u64
}

/// A limiter as new whose clock stands at `now`.
fn fresh(limiter: Limiter, now: u128) -> Limiter {
    limiter.at.store(
        ticks(clock(now)).wrapping_sub(limiter.setting().burst),
        Ordering::Relaxed,
    );
    limiter
}

fn bits_per_sec() -> impl Strategy<Value = u64> {
    // As likely to be small as large.
    (13u32..=38, any::<u64>()).prop_map(|(log2, more)| {
        ((1u64 << log2) + more % (1 << log2)).clamp(BITS_PER_SEC_MIN, BITS_PER_SEC_MAX)
    })
}

/// What happens next: time passes, units are charged.
fn steps() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let pause = prop_oneof![0..1000u64, 0..10_000_000u64, Just(3_600 * SECOND)];
    let units = prop_oneof![Just(0), 14..1515u64, 0..400_000u64];
    prop::collection::vec((pause, units), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn bill_is_that_of_exact_fractions(
        bits in bits_per_sec(),
        burst in prop::option::of(1500..100_000_000u64),
        start in any::<u64>(),
        steps in steps(),
    ) {
        let mut now = u128::from(start);
        let limiter = fresh(Limiter::of_bits(bits, burst), now);
        let mut model = Model::new(bits, 8, limiter.setting().burst, now);
        // A unit's price is off by half of its last bit at most, a charge by a tick more.
        let mut error = 1.0;
        for (pause, units) in steps {
            now += u128::from(pause);
            let exact = model.charge(now, units);
            let Credit(credit) = limiter.charge(clock(now), units);
            error += 1.0 + units as f64 * 0.5 / f64::from(1 << PRICE_BITS);
            // Debts beyond all bounds are not what is tested here.
            prop_assume!(credit > -DEBT_MAX / 2);
            let difference = (credit as f64 - exact as f64 / bits as f64).abs();
            // As exact as a float is.
            prop_assert!(
                difference <= error + (credit as f64).abs() * 1e-12,
                "off by {difference}, {error} at most"
            );
        }
    }

    #[test]
    fn what_is_let_through_is_what_the_credit_buys(bits in bits_per_sec(), left in 1..1u64 << 40) {
        let limiter = Limiter::of_bits(bits, None);
        let exact = u128::from(left) * u128::from(bits) / (8 * u128::from(TICKS_PER_SEC));
        let units = u128::from(limiter.units(Credit(left.cast_signed())));
        prop_assert!((exact..=exact + 1).contains(&units), "{units} instead of {exact}");
    }

    #[test]
    fn packets_are_counted_as_exactly(
        packets in 1..=PACKETS_PER_SEC_MAX,
        start in any::<u64>(),
        n in 1..64u64,
    ) {
        let limiter = fresh(Limiter::of_packets(packets, None), start.into());
        let mut model = Model::new(packets, 1, limiter.setting().burst, start.into());
        for step in 0..100 {
            let now = u128::from(start) + step * 1_000_003;
            let exact = model.charge(now, n) as f64 / packets as f64;
            let Credit(credit) = limiter.charge(clock(now), n);
            let error = 2.0 + 2.0 * step as f64 + exact.abs() * 1e-9;
            prop_assert!((credit as f64 - exact).abs() <= error);
        }
    }
}

#[test]
fn price_is_right_to_a_ten_millionth_at_both_ends() {
    for bits in [
        BITS_PER_SEC_MIN,
        999_983,
        10_000_000,
        25_000_000_000,
        BITS_PER_SEC_MAX,
    ] {
        let limiter = Limiter::of_bits(bits, None);
        let exact = 8.0 * TICKS_PER_SEC as f64 / bits as f64;
        let price = limiter.setting().price as f64 / f64::from(1 << PRICE_BITS);
        assert!(
            (price / exact - 1.0).abs() < 1e-7,
            "{bits}: {price} instead of {exact}"
        );
    }
}

#[test]
fn no_more_than_a_burst_passes_however_long_nothing_did() {
    for bits in [BITS_PER_SEC_MIN, 1_000_000_000, BITS_PER_SEC_MAX] {
        // A moment, an hour's stop, and clocks far ahead, where the word has come round.
        for pause in [
            SECOND,
            3_600 * SECOND,
            1 << 52,
            1 << 53,
            u64::MAX / 2,
            u64::MAX - 1,
        ] {
            let limiter = fresh(Limiter::of_bits(bits, Some(1 << 20)), 5);
            limiter.charge(5, 1 << 20);
            let now = 5u64.wrapping_add(pause);
            let left = limiter.units(limiter.credit(now));
            assert!(left <= limiter.burst() + 1, "{bits}, {pause}: {left}");
            // And what it gives is taken once.
            limiter.charge(now, left);
            assert!(limiter.units(limiter.credit(now)) <= 1);
        }
    }
}

#[test]
fn refreshed_word_never_seems_to_be_of_the_future() {
    let limiter = Limiter::of_bits(1_000_000, None);
    // Two years, a look a day.
    let day = 86_400 * SECOND;
    for n in 0..730 {
        limiter.refresh(n * day);
        assert_eq!(
            limiter.left((n + 1) * day),
            limiter.burst().cast_signed(),
            "on day {n}"
        );
    }
}

#[test]
fn clock_that_was_ahead_and_is_back_grants_no_more_than_another_burst() {
    let limiter = fresh(Limiter::of_bits(1_000_000_000, None), 0);
    limiter.charge(1 << 53, 1500);
    let mut granted = 0;
    for now in 1000..2000 {
        while limiter.credit(now).is_some() {
            limiter.charge(now, 1500);
            granted += 1500;
        }
    }
    assert!(granted <= limiter.burst() + 1500 + 2000);
}

#[test]
fn debt_is_paid_before_anything_passes() {
    let limiter = fresh(Limiter::of_bits(8_000_000, Some(1500)), 0);
    // A byte a microsecond.
    let credit = limiter.charge(0, 3000);
    assert_eq!((credit.is_some(), credit.wait()), (false, 1_500_001));
    assert!(!limiter.credit(1_500_000).is_some());
    assert!(limiter.credit(1_500_001).is_some());
    assert_eq!(limiter.left(0), -1500);
}

#[test]
fn burst_is_sixty_four_kibibytes_or_four_milliseconds() {
    let near = |a: u64, b: u64| a.abs_diff(b) <= 1;
    assert!(near(Limiter::of_bits(1_000_000, None).burst(), 65_536));
    assert!(near(Limiter::of_bits(1_000_000_000, None).burst(), 500_000));
    assert!(near(
        Limiter::of_bits(1_000_000_000, Some(40_000)).burst(),
        40_000
    ));
    assert!(
        near(Limiter::of_bits(1_000_000_000, Some(1)).burst(), 31_250),
        "less could never be used up in time"
    );
    assert!(near(Limiter::of_packets(100, None).burst(), 64));
    assert!(near(Limiter::of_packets(1_000_000, None).burst(), 4000));
}

#[test]
fn several_threads_share_one_bill() {
    const N: u64 = if cfg!(miri) { 100 } else { 200_000 };
    let limiter = fresh(Limiter::of_bits(BITS_PER_SEC_MAX, Some(1 << 30)), 1000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..N {
                    limiter.charge(1000, 100);
                }
            });
        }
    });
    // 100 bytes are 2048 ticks.
    assert_eq!(
        limiter.credit(1000),
        Credit((limiter.setting().burst - 4 * N * 2048).cast_signed())
    );
}

/// A setting of bits, or of packets where units are few.
fn setting() -> impl Strategy<Value = Setting> {
    let burst = || prop::option::of(15_000..10_000_000u64);
    prop_oneof![
        (bits_per_sec(), burst()).prop_map(|(bits, burst)| Setting::of_bits(bits, burst)),
        (1000..100_000_000u64, burst())
            .prop_map(|(packets, burst)| Setting::of_packets(packets, burst)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What is saved up or owed is counted in units, whatever they cost before and after.
    #[test]
    fn units_are_what_they_were_when_the_rate_changes(
        first in setting(),
        start in any::<u64>(),
        steps in prop::collection::vec((0..5_000_000u64, 0..20_000u64, setting()), 1..100),
    ) {
        let mut now = u128::from(start);
        let limiter = fresh(Limiter::new(first), now);
        let one = f64::from(1 << PRICE_BITS);
        let in_units = |ticks: f64, of: Setting| ticks * one / of.price as f64;
        let mut left = in_units(first.burst as f64, first);
        let mut holds = first;
        for (pause, units, next) in steps {
            now += u128::from(pause);
            let burst = in_units(holds.burst as f64, holds);
            left = (left + in_units((pause << TICK_BITS) as f64, holds)).min(burst) - units as f64;
            limiter.charge(clock(now), units);
            limiter.change(clock(now), next);
            left = left.min(in_units(next.burst as f64, next));
            let before = std::mem::replace(&mut holds, next);
            let Credit(credit) = limiter.credit(clock(now));
            prop_assume!(credit > -DEBT_MAX / 2);
            let seen = in_units(credit as f64, next);
            // Each step is off by some ticks of the one setting and of the other.
            let error = 4.0 * (in_units(1.0, next) + in_units(1.0, before)) + 2.0;
            let error = error + left.abs() * 1e-6;
            prop_assert!((seen - left).abs() <= error, "{seen} of {left}");
            left = seen;
        }
    }
}

/// Whoever changes a rate as often as it can gives nothing away: not while a debt is being paid,
/// nor what was saved up.
#[test]
fn change_and_change_back_leaves_what_there_was() {
    let (slow, fast) = (
        Setting::of_bits(1_000_000, Some(100_000)),
        Setting::of_bits(1_000_000_000, Some(100_000)),
    );
    for spent in [0, 30_000, 100_000, 170_000] {
        let limiter = fresh(Limiter::new(slow), SECOND.into());
        limiter.charge(SECOND, spent);
        let left = limiter.left(SECOND);
        for n in 0..1000 {
            limiter.change(SECOND, if n % 2 == 0 { fast } else { slow });
            assert!(
                limiter.left(SECOND).abs_diff(left) <= 1,
                "{spent}, change {n}"
            );
        }
        // And off and on again, which begins with nothing.
        limiter.change(SECOND, Setting::OFF);
        assert!(limiter.credit(SECOND).is_some() && limiter.units_left(SECOND) > 1 << 40);
        limiter.charge(SECOND, 1 << 30);
        assert!(limiter.units_left(SECOND) > 1 << 40);
        limiter.change(SECOND, slow);
        assert_eq!(limiter.left(SECOND), 0);
    }
}

/// Cores charge while control changes the rate ten thousand times: every unit is charged once.
#[test]
fn several_threads_charge_while_the_rate_changes() {
    const N: u64 = if cfg!(miri) { 50 } else { 100_000 };
    let settings =
        [10_000_000, 1_000_000_000, 80_000_000].map(|bits| Setting::of_bits(bits, Some(1 << 30)));
    let limiter = fresh(Limiter::new(settings[0]), 1000);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let n_changes = std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut n = 0;
            while !is_over.load(Ordering::Relaxed) {
                n += 1;
                limiter.change(1000, settings[n % 3]);
            }
            n
        });
        let threads =
            [(); 3].map(|()| scope.spawn(|| (0..N).for_each(|_| _ = limiter.charge(1000, 100))));
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        is_over.store(true, Ordering::Relaxed);
        changes.join().unwrap()
    });
    let left = limiter.left(1000);
    let exact = (1i64 << 30) - 3 * 100 * i64::try_from(N).unwrap();
    // A change is off by two ticks, of which a byte has eight at least.
    let error = u64::try_from(n_changes / 4 + 100).unwrap();
    assert!(
        left.abs_diff(exact) <= error,
        "{left} and {exact}, {n_changes} changes"
    );
}
