//! `rate/*`: what limits cost by themselves, in cycles a packet: one look before a burst, one charge after it.
#![allow(missing_docs)]

use benches::cycles::Cycles;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pmd::limits::{Amount, Limit, LimitOptions};
use std::hint::black_box;

const BITS: LimitOptions =
    LimitOptions { bits_per_sec: Some(400_000_000_000), packets_per_sec: None, burst_bytes: None, queue: None };
const BOTH: LimitOptions = LimitOptions { packets_per_sec: Some(1_000_000_000), ..BITS };

fn rate(c: &mut Criterion<Cycles>) {
    let mut group = c.benchmark_group("rate");
    for (name, options) in [("bits", BITS), ("bits-and-packets", BOTH)] {
        for n in [1, 32] {
            let limit = Limit::new(options).expect("a limit");
            // Time enough for each to pass.
            let (mut now, amount) = (1_000_000, Amount { n_frames: n, n_bytes: 64 * n });
            group.throughput(Throughput::Elements(n));
            group.bench_function(format!("{name}-burst-of-{n}"), |b| {
                b.iter(|| {
                    now += 100;
                    let allowance = limit.allowance(black_box(now)).expect("it is ample");
                    assert!(allowance.n_bytes > 0);
                    assert_eq!(limit.charge(now, black_box(amount)), 0);
                });
            });
        }
    }
    let spent = Limit::new(LimitOptions { bits_per_sec: Some(10_000), ..LimitOptions::default() }).expect("a limit");
    spent.charge(0, Amount { n_frames: 1, n_bytes: 1 << 20 });
    group.throughput(Throughput::Elements(1));
    group.bench_function("used-up", |b| b.iter(|| assert!(spent.allowance(black_box(1000)).is_err())));
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().with_measurement(Cycles); targets = rate }
criterion_main!(benches);
