//! The queue beside a `VecDeque`, over chunks that are never lost.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::VecDeque;

use super::*;

/// A burst of these frames, which the caller keeps.
fn burst_of(frames: &mut [Vec<u8>], with_offload: u32) -> Box<Burst> {
    let mut burst = Box::<Burst>::default();
    for (k, frame) in frames.iter_mut().enumerate() {
        burst.n = k + 1;
        burst.data[k] = Piece::of_private(frame);
        burst.add_len(k, frame.len() as u32);
        burst.read_header(k);
        burst.offloads[k] = offload(k as u16);
    }
    burst.with_offload = with_offload;
    burst
}

fn offload(n: u16) -> Offload {
    Offload {
        needs_csum: true,
        gso_type: 0,
        gso_size: n,
        csum_start: 34 + n,
        csum_offset: 16,
    }
}

/// Frame `k` of a burst, as it would be written to where it goes.
fn bytes_of(burst: &Burst, k: usize) -> Vec<u8> {
    let mut bytes = vec![0; burst.lens[k] as usize];
    burst.write_frame(k, Piece::of_private(&mut bytes), None);
    bytes
}

fn n_taken(chunks: &Chunks) -> usize {
    40 - chunks.n_free()
}

#[test]
fn frames_come_out_as_they_went_in_and_no_chunk_is_lost() {
    for seed in 0..if cfg!(miri) { 2 } else { 40u64 } {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |n: u64| {
            dice ^= dice >> 12;
            dice ^= dice << 25;
            dice ^= dice >> 27;
            (dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
        };
        let chunks = Chunks::new(40, 40);
        let (mut fifo, mut model) = (
            Fifo::new(seed % 2 == 0),
            VecDeque::<(Vec<u8>, Nanos, Option<Offload>)>::new(),
        );
        let mut out = Box::<Burst>::default();
        for now in 0..if cfg!(miri) { 30 } else { 400 } {
            let lens = [14, 31, 60, 64, 127, 128, 129, 1514, 2016, 2048, 4000, 9014];
            let mut frames: Vec<Vec<u8>> = (0..1 + below(8))
                .map(|n| {
                    (0..lens[below(12) as usize])
                        .map(|at| (at * 7 + n * 31 + now) as u8)
                        .collect()
                })
                .collect();
            let burst = burst_of(&mut frames, below(256) as u32);
            for k in 0..burst.n {
                let n_before = n_taken(&chunks);
                if fifo.push(&chunks, &burst, k, now) {
                    let offload = (burst.with_offload >> k & 1 != 0).then_some(burst.offloads[k]);
                    model.push_back((bytes_of(&burst, k), now, offload));
                } else {
                    assert_eq!(
                        n_taken(&chunks),
                        n_before,
                        "nothing is taken for one that finds no room"
                    );
                    assert!(
                        n_before > 30,
                        "{n_before} chunks are taken, and a frame found no room"
                    );
                }
            }
            assert_eq!(fifo.since(&chunks), model.front().map(|frame| frame.1));
            let allowance = Allowance {
                n_frames: 1 + below(20) as usize,
                n_bytes: 1 + below(30_000) as u32,
            };
            fifo.peek(&chunks, &mut out, allowance);
            let mut n_bytes = 0;
            for (k, (bytes, _, offload)) in model.iter().enumerate().take(out.n) {
                assert!(n_bytes < allowance.n_bytes && k < allowance.n_frames);
                assert_eq!(&bytes_of(&out, k), bytes, "seed {seed}");
                assert_eq!(
                    (out.with_offload >> k & 1 != 0).then_some(out.offloads[k]),
                    *offload
                );
                n_bytes += out.lens[k];
            }
            assert!(
                out.n == model.len().min(BURST_MAX)
                    || out.n == allowance.n_frames
                    || n_bytes >= allowance.n_bytes
            );
            let n = below(out.n as u64 + 1) as usize;
            let popped: usize = model.drain(..n).map(|frame| frame.0.len()).sum();
            assert_eq!(
                fifo.pop(&chunks, n),
                Taken {
                    n_frames: n,
                    n_bytes: popped as u64
                }
            );
            let left: usize = model.iter().map(|frame| frame.0.len()).sum();
            assert_eq!((fifo.n_frames, fifo.n_bytes), (model.len(), left as u64));
            assert_eq!(fifo.n_chunks as usize, n_taken(&chunks));
            // What it is charged says what it takes up, but for the ends of its first and its last
            // chunk.
            let most = fifo.n_charged() * ROOM / CHARGED + 2;
            assert!(
                fifo.n_chunks as u64 <= most.div_ceil(CHUNK_BYTES as u64) + 1,
                "{fifo:?}"
            );
            assert_eq!(model.is_empty(), n_taken(&chunks) == 0);
        }
        if seed % 3 == 0 {
            fifo.clear(&chunks);
        } else {
            fifo.pop(&chunks, model.len());
        }
        assert_eq!((fifo.n_frames(), n_taken(&chunks)), (0, 0));
    }
}

#[test]
fn short_frames_share_chunks() {
    let chunks = Chunks::new(40, 2);
    let mut fifo = Fifo::new(true);
    let mut frames = vec![vec![7; 64]];
    let burst = burst_of(&mut frames, 0);
    let n = (0..)
        .take_while(|_| fifo.push(&chunks, &burst, 0, 0))
        .count();
    assert_eq!(n, 2 * CHUNK_BYTES / (64 + RECORD_BYTES));
    fifo.pop(&chunks, n);
    assert_eq!(n_taken(&chunks), 0);
}
