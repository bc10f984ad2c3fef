//! `limiter/*`: what limits cost by themselves: one look before a burst, one charge after it.

use std::hint::black_box;

use pmd::limit::{Amount, Limit, LimitOptions};

use super::{Case, Run};
use crate::timed;

const BITS: LimitOptions = LimitOptions {
    bits_per_sec: Some(400_000_000_000),
    packets_per_sec: None,
    burst_bytes: None,
    queue: None,
};
const BOTH: LimitOptions = LimitOptions {
    packets_per_sec: Some(1_000_000_000),
    ..BITS
};

pub(super) fn cases() -> Vec<Case> {
    let case = |(name, options, n)| {
        Case::new(format!("limiter/{name}-burst-of-{n}"), move || {
            charged(options, n)
        })
    };
    let bursts = [
        ("bits", BITS, 1),
        ("bits", BITS, 32),
        ("bits-and-packets", BOTH, 1),
        ("bits-and-packets", BOTH, 32),
    ];
    bursts
        .into_iter()
        .map(case)
        .chain([Case::new("limiter/used-up", used_up)])
        .collect()
}

/// Bursts of `n` frames.
fn charged(options: LimitOptions, n: u64) -> Run {
    let limit = Limit::new(options).expect("a limit");
    let (mut now, amount) = (
        1_000_000,
        Amount {
            n_frames: n,
            n_bytes: 64 * n,
        },
    );
    Box::new(move |n_frames| {
        let n_bursts = n_frames.div_ceil(n);
        timed(n_bursts * n, || {
            for _ in 0..n_bursts {
                // Time enough for each to pass.
                now += 100;
                let allowance = limit.allowance(black_box(now)).expect("it is ample");
                assert!(allowance.n_bytes > 0);
                assert_eq!(limit.charge(now, black_box(amount)), 0);
            }
        })
    })
}

/// Looks at a limit that lets nothing pass.
fn used_up() -> Run {
    let spent = Limit::new(LimitOptions {
        bits_per_sec: Some(10_000),
        ..LimitOptions::default()
    })
    .expect("a limit");
    spent.charge(
        0,
        Amount {
            n_frames: 1,
            n_bytes: 1 << 20,
        },
    );
    Box::new(move |n_looks| {
        timed(n_looks, || {
            (0..n_looks).for_each(|_| assert!(spent.allowance(black_box(1000)).is_err()))
        })
    })
}
