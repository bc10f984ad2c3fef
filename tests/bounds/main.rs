//! Bounds in the topology file against those of the cores. `config` does not import `pmd`, so both
//! write them down.
#![forbid(unsafe_code)]

mod sizes;

use config::{BitsPerSec, Bytes, Limit, Micros, PacketsPerSec, Topology};
use pmd::limit::{LimitOptions, QueueOptions, VmLimits};
use pmd::rate::{BITS_PER_SEC_MAX, BITS_PER_SEC_MIN, BURST_TIME_MIN, Limiter, PACKETS_PER_SEC_MAX};

/// Bytes of a frame of the MTU that a network has unless the file says otherwise.
const FRAME: u64 = 1514;
const BURST_MAX: u64 = 1 << 30;

/// What becomes of two VMs in one network, one of which has this limit on what it gets.
fn topology(limit: &str) -> Option<Topology> {
    let nic = |name| {
        format!("nics: {{ n: {{ network: blue, vhost-user: {{ path: /run/{name}.sock }} }} }}")
    };
    let (a, b) = (nic("a"), nic("b"));
    let text = format!(
        "cores: [1]\nnetworks: {{ blue: {{}} }}\nvms:\n  a: {{ limit: {{ to-vm: {{ {limit} }} }}, \
        {a} }}\n  b: {{ {b} }}\n"
    );
    config::parse(&text, "weir.yaml").ok()
}

fn limit(limit: &str) -> Option<Limit> {
    topology(limit)?.vms[0].limit.to_vm
}

/// The least burst that a core keeps to at this rate.
fn burst_min(rate: u64) -> u64 {
    u64::try_from(u128::from(rate) * u128::from(BURST_TIME_MIN) / 8_000_000_000).unwrap()
}

#[test]
fn rates_of_the_file_are_those_that_cores_keep_to() {
    let rate = |bits: u64| {
        limit(&format!("rate: {bits}bit"))?
            .rate
            .map(BitsPerSec::value)
    };
    for bits in [BITS_PER_SEC_MIN, BITS_PER_SEC_MAX] {
        assert_eq!(rate(bits), Some(bits));
    }
    assert_eq!(
        (rate(BITS_PER_SEC_MIN - 1), rate(BITS_PER_SEC_MAX + 1)),
        (None, None)
    );

    let packets = |n: u64| {
        limit(&format!("packets: {n}pps"))?
            .packets
            .map(PacketsPerSec::value)
    };
    for n in [1, PACKETS_PER_SEC_MAX] {
        assert_eq!(packets(n), Some(n));
    }
    assert_eq!((packets(0), packets(PACKETS_PER_SEC_MAX + 1)), (None, None));
}

#[test]
fn least_burst_of_the_file_is_the_least_that_cores_keep_to() {
    for rate in [100_000_000, 1_000_000_000, 10_000_000_000, BITS_PER_SEC_MAX] {
        let least = burst_min(rate);
        let burst = |n: u64| {
            limit(&format!("rate: {rate}bit, burst: {n}B"))?
                .burst
                .map(Bytes::value)
        };
        assert!(least > FRAME, "a frame is no bound here");
        assert_eq!(
            (burst(least - 1), burst(least)),
            (None, Some(least)),
            "at {rate}"
        );
        // A core would make more of less.
        assert_eq!(
            Limiter::of_bits(rate, Some(least)).burst(),
            least,
            "at {rate}"
        );
        assert_eq!(
            Limiter::of_bits(rate, Some(least / 2)).burst(),
            least,
            "at {rate}"
        );
    }
    let burst = |n: u64| {
        limit(&format!("rate: 10kbit, burst: {n}B"))?
            .burst
            .map(Bytes::value)
    };
    assert_eq!((burst(FRAME - 1), burst(FRAME)), (None, Some(FRAME)));
}

#[test]
fn cores_keep_to_the_largest_burst_of_the_file_at_every_rate() {
    for rate in [BITS_PER_SEC_MIN, 1_000_000_000, BITS_PER_SEC_MAX] {
        let burst = |n: u64| {
            limit(&format!("rate: {rate}bit, burst: {n}B"))?
                .burst
                .map(Bytes::value)
        };
        assert_eq!(
            (burst(BURST_MAX), burst(BURST_MAX + 1)),
            (Some(BURST_MAX), None)
        );
        let kept = Limiter::of_bits(rate, Some(BURST_MAX)).burst();
        // A price is exact to 3e-8.
        assert!(kept.abs_diff(BURST_MAX) <= 64, "{kept} at {rate}");
    }
}

#[test]
fn remark_on_a_slow_ring_says_what_the_cores_report() {
    for rate in [100_000, 1_000_000, 10_000_000] {
        let topology = topology(&format!("rate: {rate}bit")).unwrap();
        let queue = topology.vms[0]
            .limit
            .to_vm
            .unwrap()
            .queue
            .map(Micros::value)
            .unwrap();
        let options = LimitOptions {
            bits_per_sec: Some(rate),
            queue: Some(QueueOptions {
                time: queue * 1000,
                bytes_max: u64::MAX >> 8,
            }),
            ..LimitOptions::default()
        };
        let limits = VmLimits::new(LimitOptions::default(), options);
        let delay = limits
            .to_report(1_000_000_000)
            .unwrap()
            .queue
            .unwrap()
            .ring_delay;
        let expected = format!(
            "256 frames of {FRAME} bytes take {} ms there",
            delay / 1_000_000
        );
        assert!(
            topology
                .remarks()
                .iter()
                .any(|remark| remark.contains(&expected)),
            "{expected}"
        );
    }
}
