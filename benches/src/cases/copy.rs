//! `copy/*`: the one copy, from one guest's memory into another's, with the look-up of both places.
#![allow(missing_docs)]

use benches::cycles::Cycles;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use guest::GuestDriver;
use std::hint::black_box;
use tests::{memory_of, options};

/// Places that are copied from and to in turn: more than a core keeps at hand.
const PLACES: u64 = 128;
const PLACE_BYTES: u64 = 2048;

fn copy(c: &mut Criterion<Cycles>) {
    let guest = || GuestDriver::new(options()).expect("memory");
    let guests = [guest(), guest()];
    let [a, b] = guests.each_ref().map(memory_of);
    // Behind the rings, where buffers lie.
    let base = |guest: &GuestDriver| guest.memory().regions()[0].spec().gpa + (64 << 10);
    let (from, to) = (base(&guests[0]), base(&guests[1]));
    let mut group = c.benchmark_group("copy");
    for len in [64u32, 128, 512, 1500, 9000] {
        let step = u64::from(len).next_multiple_of(PLACE_BYTES);
        let pattern: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
        guests[0].memory().write(from, &pattern);
        assert!(a.copy_to(from, &b, to, len));
        let mut copied = vec![0; len as usize];
        guests[1].memory().read(to, &mut copied);
        assert_eq!(copied, pattern);
        group.throughput(Throughput::Elements(1));
        let mut place = 0;
        group.bench_function(format!("{len}B"), |bench| {
            bench.iter(|| {
                place = (place + step) % (PLACES * PLACE_BYTES);
                assert!(a.copy_to(black_box(from + place), &b, to + place, len));
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = Criterion::default().with_measurement(Cycles); targets = copy }
criterion_main!(benches);
