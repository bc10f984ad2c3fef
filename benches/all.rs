//! Every case, one after another, by criterion: cycles of a frame, and the frames and bytes a
//! second that this makes. For two cases beside each other `compare` is the better one: these
//! machines change their pace every few seconds.
#![allow(missing_docs)]

use std::time::Duration;

use benches::cases::{self, Case};
use benches::cycles::Cycles;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn all(c: &mut Criterion<Cycles>) {
    for case in cases::all() {
        measure(c, &case);
    }
}

fn measure(c: &mut Criterion<Cycles>, case: &Case) {
    let (room, name) = case.name.split_once('/').expect("a name is room/case");
    let mut group = c.benchmark_group(room);
    group.throughput(match case.frame_bytes {
        Some(bytes) => Throughput::ElementsAndBytes { elements: 1, bytes },
        None => Throughput::Elements(1),
    });
    // Set up if it is wanted, once for all its samples.
    let mut run = None;
    group.bench_function(name, |bencher| {
        let run = run.get_or_insert_with(|| case.make());
        // Whole bursts are measured; a part of one takes its part of their time.
        bencher.iter_custom(|n_frames| run(n_frames).per_frame() * n_frames as f64);
    });
}

/// A second for each, all in all.
fn config() -> Criterion<Cycles> {
    Criterion::default()
        .with_measurement(Cycles)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(20)
        .nresamples(5_000)
}

criterion_group! { name = benches; config = config(); targets = all }
criterion_main!(benches);
