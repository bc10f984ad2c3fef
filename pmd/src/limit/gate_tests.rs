#![allow(
    clippy::cast_possible_truncation,
    reason = "numbers of a test, all of which fit"
)]

use proptest::prelude::*;

use super::*;
use crate::amount::Amount;
use crate::burst::{BURST_BYTES_MAX, BURST_MAX};
use crate::limit::options::LimitOptions;
use crate::time::SECOND;
use crate::virtio_net::Offload;

/// Queues that always have frames of one kind, each polled by a core of its own, all of one VM.
struct Flooder {
    limits: Arc<VmLimits>,
    gates: Vec<Gate>,
    burst: Box<Burst>,
    now: Nanos,
    taken: Amount,
    n_looks: u64,
}

impl Flooder {
    fn new(options: LimitOptions, n_cores: usize, len: u32, gso_size: Option<u16>) -> Self {
        let limits = Arc::new(VmLimits::new(options, LimitOptions::default()));
        let gates = (0..n_cores)
            .map(|_| Gate::new(Some(limits.clone())))
            .collect();
        let mut burst = Box::<Burst>::default();
        burst.lens = [len; BURST_MAX];
        if let Some(gso_size) = gso_size {
            burst.with_offload = u32::MAX;
            burst.offloads = [Offload {
                needs_csum: true,
                gso_type: 1,
                gso_size,
                csum_start: 34,
                csum_offset: 16,
            }; BURST_MAX];
        }
        Self {
            limits,
            gates,
            burst,
            now: 0,
            taken: Amount::default(),
            n_looks: 0,
        }
    }

    /// A turn of every core, as `poll` does it.
    fn turn(&mut self, passed: Nanos) {
        self.now += passed;
        let now = self.now;
        for gate in &mut self.gates {
            if gate.shut_until(now).is_some() {
                continue;
            }
            self.n_looks += 1;
            let allowance = match gate.allowance(now) {
                Ok(allowance) => allowance,
                Err(opens_at) => {
                    gate.shut(now, opens_at, true);
                    continue;
                }
            };
            let n = peek(&mut self.burst, allowance);
            gate.passed(now, true);
            let amount = self.burst.amount(0, n);
            self.taken.n_frames += amount.n_frames;
            self.taken.n_bytes += amount.n_bytes;
            if let Some(opens_at) = gate.charge(now, &self.burst, n) {
                gate.shut(now, opens_at, true);
            }
        }
    }

    /// What is taken in this time, in turns of `turn` each.
    fn run(&mut self, time: Nanos, turn: Nanos) -> Amount {
        let before = self.taken;
        let end = self.now + time;
        while self.now < end {
            self.turn(turn.min(end - self.now));
        }
        Amount {
            n_frames: self.taken.n_frames - before.n_frames,
            n_bytes: self.taken.n_bytes - before.n_bytes,
        }
    }
}

/// As a guest's queue does it: by what the frames are, then by what they become.
fn peek(burst: &mut Burst, allowance: Allowance) -> usize {
    let n_bytes = allowance.n_bytes.min(BURST_BYTES_MAX);
    burst.n = allowance
        .n_frames
        .min(BURST_MAX)
        .min(n_bytes.div_ceil(burst.lens[0]) as usize);
    burst.sum_bytes = burst.lens[..burst.n].iter().sum();
    burst.keep_within(allowance);
    burst.n
}

fn bits(bits_per_sec: u64) -> LimitOptions {
    LimitOptions {
        bits_per_sec: Some(bits_per_sec),
        ..LimitOptions::default()
    }
}

/// Any of 2^`from` to 2^`to`, small ones as likely as large.
fn log_uniform(from: f64, to: f64) -> impl Strategy<Value = u64> {
    (from..to).prop_map(|log2| log2.exp2() as u64)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 1 } else { 96 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// 10 kbit/s to 400 Gbit/s, 64 bytes to 64 KiB that are segmented, one to four cores.
    #[test]
    fn flooder_gets_its_rate_over_ten_milliseconds_and_over_a_second(
        rate in log_uniform(13.3, 38.54),
        len in log_uniform(6.0, 16.0),
        n_cores in 1..=4usize,
    ) {
        let len = u32::try_from(len).unwrap();
        let gso_size = (len > 1514).then_some(1448);
        let mut flooder = Flooder::new(bits(rate), n_cores, len, gso_size);
        let one = flooder.burst.amount(0, 1).n_bytes as f64;
        let per_second = rate as f64 / 8.0;
        // Fast enough to take twice as much, slow enough to be a core.
        let a_burst = (32.0 * one).min(f64::from(BURST_BYTES_MAX));
        let burst_time = n_cores as f64 * a_burst / per_second * 1e9;
        let turn = (burst_time / 2.0).clamp(10.0, 10_000.0) as Nanos;
        // As much of a second as a test has time for: where bursts come so fast, the error is no
        // larger over less.
        let n_windows = (1_000_000 / (10_000_000 / turn)).clamp(3, 100);
        flooder.run(10_000_000, turn);
        let mut sum = 0.0;
        for _ in 0..n_windows {
            let taken = flooder.run(10_000_000, turn).n_bytes as f64;
            let exact = per_second / 100.0;
            prop_assert!((taken - exact).abs() <= (exact * 0.02).max(one) + 1.0, "{taken} in 10 \
                ms, not {exact}; a frame is {one}");
            sum += taken;
        }
        let exact = per_second / 100.0 * n_windows as f64;
        prop_assert!((sum - exact).abs() <= exact * 0.005 + one + 1.0, "{sum} in all, not {exact}; \
            a frame is {one}");
    }

    #[test]
    fn flooder_gets_its_packets(
        rate in log_uniform(0.0, 24.0),
        n_cores in 1..=4usize,
        is_cut_up in any::<bool>(),
    ) {
        let options = LimitOptions { packets_per_sec: Some(rate), ..LimitOptions::default() };
        // Frames that become 45 packets each, or small ones.
        let mut flooder = match is_cut_up {
            true => Flooder::new(options, n_cores, 54 + 45 * 1448, Some(1448)),
            false => Flooder::new(options, n_cores, 64, None),
        };
        let one = flooder.burst.amount(0, 1).n_frames as f64;
        let burst_time = n_cores as f64 * 32.0 / rate as f64 * 1e9;
        let turn = (burst_time / 2.0).clamp(100.0, 10_000.0) as Nanos;
        flooder.run(10_000_000, turn);
        let mut sum = 0.0;
        for _ in 0..100 {
            let taken = flooder.run(10_000_000, turn).n_frames as f64;
            let exact = rate as f64 / 100.0;
            prop_assert!((taken - exact).abs() <= (exact * 0.02).max(one), "{taken} in 10 ms, not \
                {exact}");
            sum += taken;
        }
        prop_assert!((sum - rate as f64).abs() <= rate as f64 * 0.005 + one, "{sum} in all, not \
            {rate}");
    }
}

#[test]
fn shut_gate_is_left_alone_for_fifty_microseconds_at_least() {
    let mut flooder = Flooder::new(bits(1_000_000_000), 1, 1514, None);
    flooder.run(SECOND / 10, 100);
    // A million turns, a look each fifty microseconds.
    assert!(flooder.n_looks <= 2001, "{} looks", flooder.n_looks);
}

#[test]
fn cores_share_a_limit_evenly() {
    for n_cores in 2..=4 {
        for rate in [1_000_000, 1_000_000_000] {
            let mut flooder = Flooder::new(bits(rate), n_cores, 1514, None);
            let mut shares = vec![0; n_cores];
            for _ in 0..400_000 {
                flooder.now += 5_000;
                let now = flooder.now;
                for (gate, share) in flooder.gates.iter_mut().zip(&mut shares) {
                    match gate
                        .shut_until(now)
                        .map_or_else(|| gate.allowance(now), Err)
                    {
                        Ok(allowance) => {
                            let n = peek(&mut flooder.burst, allowance);
                            *share += n;
                            gate.passed(now, true);
                            if let Some(opens_at) = gate.charge(now, &flooder.burst, n) {
                                gate.shut(now, opens_at, true);
                            }
                        }
                        Err(opens_at) if gate.shut_until(now).is_none() => {
                            gate.shut(now, opens_at, true)
                        }
                        Err(_) => {}
                    }
                }
            }
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(
                least * 10 >= *most * 9,
                "{rate} bit/s on {n_cores} cores: {shares:?}"
            );
        }
    }
}

#[test]
fn time_behind_a_shut_gate_counts_while_frames_wait() {
    let mut flooder = Flooder::new(bits(10_000_000), 2, 1514, None);
    flooder.run(SECOND, 10_000);
    let throttled = flooder.limits.throttled_ns();
    assert!((950_000_000..=SECOND).contains(&throttled), "{throttled}");
    // Nobody waits: nothing counts.
    let mut gate = Gate::new(Some(flooder.limits.clone()));
    gate.shut(2 * SECOND, 3 * SECOND, false);
    gate.passed(3 * SECOND, false);
    assert_eq!(flooder.limits.throttled_ns(), throttled);
}

#[test]
fn hour_of_standstill_earns_one_burst() {
    let mut flooder = Flooder::new(bits(1_000_000_000), 1, 1514, None);
    flooder.run(SECOND / 10, 10_000);
    flooder.now += 3_600 * SECOND;
    let taken = flooder.run(10_000_000, 1_000).n_bytes;
    // Four milliseconds' worth saved up, ten that passed.
    assert!(
        (1_700_000..=1_750_000 + 2 * 1514).contains(&taken),
        "{taken}"
    );
}

#[test]
fn limit_ends_no_pause_that_is_longer() {
    let mut gate = Gate::default();
    gate.pause(100);
    gate.shut(0, 50, true);
    assert_eq!(
        (gate.shut_until(60), gate.shut_until(100)),
        (Some(100), None)
    );
    gate.shut(100, 200, true);
    assert_eq!(gate.shut_until(150), Some(200));
}

#[test]
fn paused_queue_is_none_that_waits_for_the_limit() {
    let flooder = Flooder::new(bits(10_000_000), 1, 1514, None);
    let limits = &flooder.limits;
    let limit = &limits.from_vm;
    let amount = Amount {
        n_frames: 1,
        n_bytes: 1514,
    };
    let mut gate = Gate::new(Some(limits.clone()));
    gate.shut(SECOND, SECOND + 1_000, true);
    assert!(limits.pace(limit, amount) > 0, "it waits");
    gate.pause(500 * SECOND);
    assert_eq!(
        (limits.pace(limit, amount), limits.throttled_ns()),
        (0, 1_000)
    );
    gate.shut(SECOND + 1_500, SECOND + 2_000, true);
    assert_eq!(
        limits.pace(limit, amount),
        0,
        "nor if the limit is reached too"
    );
    gate.passed(500 * SECOND, true);
    assert_eq!(limits.throttled_ns(), 1_000);
}
