//! Both halves against the kernel's half in memory.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;

const N_RX: usize = 64;
const N_TX: usize = 128;

fn queue(is_veth: bool) -> (AfXdpQueue, XskPeer) {
    queue_of(N_RX, N_TX, is_veth)
}

fn queue_of(n_rx: usize, n_tx: usize, is_veth: bool) -> (AfXdpQueue, XskPeer) {
    let options = XskOptions {
        device: "up0".into(),
        queue: 3,
        mode: XskMode::Copy,
        attach: Attach::Native,
        is_veth,
        n_rx: n_rx as u32,
        n_tx: n_tx as u32,
    };
    AfXdpQueue::in_memory(&options)
}

fn packet(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![n as u8; len];
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// One frame, sent on as often as `n` says.
fn send(tx: &mut AfXdpTx, burst: &mut Burst, frames: &mut [Vec<u8>], tag: Option<u16>) -> usize {
    burst.clear();
    burst.n = frames.len();
    for (k, frame) in frames.iter_mut().enumerate() {
        burst.data[k] = Piece::of_private(frame);
        burst.lens[k] = burst.data[k].len();
        burst.read_header(k);
    }
    let (n, _) = tx.reserve(&burst.lens[..frames.len()]);
    tx.commit(burst, ((1u64 << n) - 1) as u32, tag);
    n
}

/// Nobody else has the queue.
fn flush(tx: &mut AfXdpTx) -> Flushed {
    super::flush(|| Some(tx.look()))
}

/// Numbers from a seed.
fn dice(mut state: u64) -> impl FnMut(usize) -> usize {
    move |n| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n.max(1)
    }
}

#[test]
fn received_frames_stay_in_order_and_wait_for_consume() {
    let (mut queue, peer) = queue(false);
    assert_eq!(queue.rx.index(), 3);
    let mut burst = Box::<Burst>::default();
    assert_eq!(queue.rx.peek(&mut burst, Allowance::ALL), 0);
    for n in 0..40 {
        assert!(peer.deliver(&packet(n, 60 + n as usize)));
    }
    assert_eq!(queue.rx.peek(&mut burst, Allowance::ALL), 32);
    queue.rx.consume(20);
    assert_eq!(queue.rx.peek(&mut burst, Allowance::ALL), 20);
    assert_eq!((burst.headers[0].0[0], burst.lens[19]), (20, 99));
    let ledger = queue.rx.ledger();
    assert!(ledger.is_balanced() && ledger.n_burst == 20, "{ledger:?}");
    queue.rx.consume(20);
    assert_eq!(
        (
            queue.rx.peek(&mut burst, Allowance::ALL),
            queue.rx.has_more()
        ),
        (0, false)
    );
    assert_eq!(peer.n_fill(), N_RX, "every frame is with the kernel again");
}

#[test]
fn burst_ends_where_the_allowance_does_and_the_next_begins_there() {
    let (mut queue, peer) = queue(false);
    let mut burst = Box::<Burst>::default();
    for n in 0..40 {
        assert!(peer.deliver(&packet(n, 100)));
    }
    // The one that crosses it is taken.
    let bytes = |n_bytes| Allowance {
        n_frames: usize::MAX,
        n_bytes,
    };
    for (n_bytes, n) in [(1, 1), (100, 1), (101, 2), (300, 3)] {
        assert_eq!(
            queue.rx.peek(&mut burst, bytes(n_bytes)),
            n,
            "{n_bytes} bytes"
        );
        assert_eq!(burst.sum_bytes as usize, n * 100);
    }
    queue.rx.consume(3);
    assert!(queue.rx.has_more());
    assert_eq!(
        queue.rx.peek(
            &mut burst,
            Allowance {
                n_frames: 5,
                n_bytes: u32::MAX
            }
        ),
        5
    );
    assert_eq!(burst.headers[0].0[0], 3);
    queue.rx.consume(4);
    assert_eq!(
        (
            queue.rx.peek(&mut burst, Allowance::ALL),
            burst.headers[31].0[0]
        ),
        (32, 38)
    );
    queue.rx.consume(32);
    assert!(queue.rx.has_more());
    assert_eq!(
        (queue.rx.peek(&mut burst, bytes(1)), burst.headers[0].0[0]),
        (1, 39)
    );
    queue.rx.consume(1);
    let ledger = queue.rx.ledger();
    assert!(
        !queue.rx.has_more() && ledger.is_balanced() && ledger.n_burst == 0,
        "{ledger:?}"
    );
}

#[test]
fn wire_that_is_faster_than_the_core_loses_at_the_kernel_and_recovers() {
    for (n_rx, n_tx) in [(N_RX, N_TX), (N_TX, N_RX)] {
        let (mut queue, peer) = queue_of(n_rx, n_tx, false);
        let n_taken = (0..200).filter(|&n| peer.deliver(&packet(n, 60))).count();
        assert_eq!(
            (n_taken as u64, peer.n_lost()),
            (n_rx as u64, 200 - n_rx as u64)
        );
        let mut burst = Box::<Burst>::default();
        let mut n_got = 0;
        while queue.rx.peek(&mut burst, Allowance::ALL) > 0 {
            n_got += burst.n;
            queue.rx.consume(burst.n);
        }
        assert_eq!(n_got, n_rx);
        assert!(peer.deliver(&packet(1, 60)) && queue.rx.has_more());
        assert!(queue.rx.ledger().is_balanced());
    }
}

#[test]
fn runts_are_refused_and_partial_checksums_noted_on_a_veth_alone() {
    // UDP over IPv4, whose checksum is the pseudo-header's sum alone.
    let mut bytes = vec![
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0,
    ];
    bytes.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 10]);
    let sum: u16 = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 10;
    bytes.extend(sum.to_be_bytes());
    bytes.extend([7, 7]);
    for is_veth in [false, true] {
        let (mut queue, peer) = queue(is_veth);
        peer.deliver(&[1; 13]);
        peer.deliver(&bytes);
        let mut burst = Box::<Burst>::default();
        assert_eq!(queue.rx.peek(&mut burst, Allowance::ALL), 2);
        assert_eq!(
            (burst.lens[0], burst.actions[0]),
            (0, flowtable::Action::Drop(DropReason::Runt))
        );
        assert_eq!(burst.with_offload, if is_veth { 2 } else { 0 });
    }
}

#[test]
fn one_wake_up_sends_what_several_bursts_of_a_turn_put_there() {
    let (mut queue, peer) = queue(false);
    let mut burst = Box::<Burst>::default();
    for n in 0..3 {
        assert_eq!(
            send(
                &mut queue.tx,
                &mut burst,
                &mut [packet(2 * n, 60), packet(2 * n + 1, 1514)],
                None
            ),
            2
        );
        assert_eq!(queue.tx.wants_flush(), n == 0, "it is said once");
    }
    assert_eq!(peer.n_wakes(), 0);
    assert_eq!(flush(&mut queue.tx), Flushed::All);
    assert_eq!(peer.n_wakes(), 1);
    let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    assert_eq!(
        sent,
        [0, 1, 2, 3, 4, 5].map(|n| packet(n, if n % 2 == 0 { 60 } else { 1514 }))
    );
    assert_eq!(flush(&mut queue.tx), Flushed::All);
    assert_eq!(peer.n_wakes(), 1, "nothing was there to wake for");
}

#[test]
fn tag_is_pushed_behind_the_addresses_of_frames_of_any_length() {
    let (mut queue, peer) = queue(false);
    let mut burst = Box::<Burst>::default();
    for len in [
        14, 18, 60, 123, 124, 125, 127, 128, 129, 131, 132, 133, 1514, 3836,
    ] {
        let frame: Vec<u8> = (0..len).map(|at| at as u8 ^ (at / 256) as u8).collect();
        assert_eq!(
            send(&mut queue.tx, &mut burst, &mut [frame.clone()], Some(4094)),
            1
        );
        flush(&mut queue.tx);
        let tagged = [&frame[..12], &[0x81, 0, 0x0f, 0xfe], &frame[12..]].concat();
        assert_eq!(peer.receive().unwrap(), tagged, "{len} bytes");
    }
    assert_eq!(queue.tx.reserve(&[60, 3837, 60]), (1, Room::TooBig));
}

#[test]
fn stalled_peer_fills_the_ring_and_nothing_is_lost() {
    for (n_rx, n_tx) in [(N_RX, N_TX), (N_TX, N_RX)] {
        let (mut queue, peer) = queue_of(n_rx, n_tx, false);
        let mut burst = Box::<Burst>::default();
        peer.stall(true);
        let mut n = 0;
        while send(&mut queue.tx, &mut burst, &mut [packet(n, 60)], None) == 1 {
            n += 1;
            assert_eq!(flush(&mut queue.tx), Flushed::Unsent);
        }
        assert_eq!(n as usize, n_tx);
        assert_eq!(queue.tx.reserve(&[60]), (0, Room::Full));
        assert!(!queue.tx.has_room());
        let ledger = queue.tx.ledger();
        assert!(
            ledger.is_balanced() && ledger.n_kernel == n_tx,
            "{ledger:?}"
        );
        peer.stall(false);
        // As many wake-ups as there are 32, which is what one takes; in one flush.
        let before = peer.n_wakes();
        assert_eq!(flush(&mut queue.tx), Flushed::All);
        assert_eq!(peer.n_wakes() - before, n_tx as u64 / 32);
        assert_eq!(queue.tx.ledger().n_free, n_tx);
        assert!((0..n).all(|n| peer.receive() == Some(packet(n, 60))) && peer.receive().is_none());
    }
}

#[test]
fn completions_in_any_order_bring_every_frame_back_exactly_once() {
    for (n_rx, n_tx) in [(N_RX, N_TX), (N_TX, N_RX)] {
        let (mut queue, peer) = queue_of(n_rx, n_tx, false);
        let mut burst = Box::<Burst>::default();
        let mut dice = dice(7);
        peer.hold_completions();
        let (mut n_sent, mut n_seen) = (0, 0);
        let n_turns = if cfg!(miri) { 30 } else { 2000 };
        for _ in 0..n_turns {
            let mut frames: Vec<_> = (0..1 + dice(32) as u32)
                .map(|n| packet(n_sent + n, 60 + dice(1400)))
                .collect();
            n_sent += send(&mut queue.tx, &mut burst, &mut frames, None) as u32;
            peer.stall(dice(4) == 0);
            flush(&mut queue.tx);
            peer.complete(dice(40), &mut dice);
            while let Some(packet) = peer.receive() {
                assert_eq!(u32::from_le_bytes(packet[..4].try_into().unwrap()), n_seen);
                n_seen += 1;
            }
            assert!(queue.tx.ledger().is_balanced(), "{:?}", queue.tx.ledger());
        }
        assert!(n_sent > n_turns, "{n_sent}");
        peer.stall(false);
        flush(&mut queue.tx);
        peer.complete(usize::MAX, |n| n - 1);
        // Also when nothing is sent, completions are taken.
        assert_eq!(flush(&mut queue.tx), Flushed::All);
        assert_eq!(queue.tx.ledger().n_free, n_tx);
    }
}

#[test]
fn frame_that_the_kernel_did_not_have_gets_no_second_owner() {
    let (mut queue, peer) = queue(false);
    let mut burst = Box::<Burst>::default();
    send(&mut queue.tx, &mut burst, &mut [packet(1, 60)], None);
    for stray in [0, N_RX as u32 + 5, u32::MAX] {
        peer.complete_stray(stray);
    }
    flush(&mut queue.tx);
    let ledger = queue.tx.ledger();
    assert_eq!((ledger.n_free, ledger.n_strays), (N_TX, 3));
    assert!(!ledger.is_balanced(), "and it shows");
}

#[test]
fn socket_that_is_closed_has_no_statistics() {
    let (queue, _peer) = queue(false);
    let watch = queue.watch();
    drop(queue);
    assert_eq!(
        watch.statistics().unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    assert!(watch.is_zero_copy().is_err());
}

#[test]
fn queue_that_another_core_has_is_flushed_another_time() {
    let (mut queue, peer) = queue(false);
    let mut burst = Box::<Burst>::default();
    send(&mut queue.tx, &mut burst, &mut [packet(1, 60)], None);
    assert!(queue.tx.wants_flush());
    assert_eq!(super::flush(|| None), Flushed::Unsent);
    let mut n_looks = 0;
    // Another core takes it between the wake-up and the look behind it.
    let look = || {
        n_looks += 1;
        (n_looks == 1).then(|| queue.tx.look())
    };
    assert_eq!(super::flush(look), Flushed::Unsent);
    assert_eq!(peer.n_wakes(), 1);
    assert!(!queue.tx.wants_flush(), "who knew of it still does");
    assert_eq!(flush(&mut queue.tx), Flushed::All);
}

/// What moving frames from UMEM to UMEM without a copy would save: nothing but this, for the
/// kernel's own work and the rings' stay.
#[test]
#[ignore = "a measurement: cargo test -p pmd --lib -- --ignored --nocapture"]
fn copy_from_umem_to_umem() {
    let (mut from, wire) = queue(false);
    let (mut to, peer) = queue(false);
    let mut burst = Box::<Burst>::default();
    for len in [60, 1514] {
        let mut runs: Vec<f64> = (0..2000)
            .map(|n| {
                assert!((0..32).all(|k| wire.deliver(&packet(n + k, len))));
                assert_eq!(from.rx.peek(&mut burst, Allowance::ALL), 32);
                let frames: ArrayVec<_, BURST_MAX> =
                    (0..32).filter_map(|_| to.tx.ring.frame()).collect();
                let begin = crate::sys::cycles();
                for (k, frame) in frames.iter().enumerate() {
                    burst.write_frame(k, to.tx.ring.piece(frame), None);
                }
                let n_cycles = crate::sys::cycles() - begin;
                to.tx.ring.put(
                    frames
                        .into_iter()
                        .map(|frame| (frame, len as u32))
                        .collect(),
                );
                flush(&mut to.tx);
                while peer.receive().is_some() {}
                from.rx.consume(32);
                n_cycles as f64 / 32.0
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        let at = |part: usize| runs[(runs.len() - 1) * part / 10];
        println!(
            "{len} bytes: {:.0} {:.0} {:.0} cycles a frame (min, median, 9 in 10)",
            at(0),
            at(5),
            at(9)
        );
    }
}
