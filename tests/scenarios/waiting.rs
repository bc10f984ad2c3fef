//! Whatever lies in front, a frame to a willing receiver goes out in time; and what only waits for
//! a slow one is not lost.

mod broken_buffers;
mod many_senders;

use flowtable::DropReason;
use guest::Options;
use guest::ring::{Desc, NEXT, WRITE};
use pmd::port::mem::MemPort;
use pmd::time::Nanos;
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks, options};

/// Within this a frame to a willing receiver has to be out.
const IN_TIME: Nanos = 10_000_000;
/// Whom the others send to in vain.
const B: u16 = 1;
const C: u16 = 2;

/// Guests that know each other, all with transmit rings of this length; that of `B` to receive from
/// is as small as can be.
fn rig(n_ports: u16, tx_ring: u16) -> Rig {
    let members: Vec<u16> = (0..n_ports).collect();
    let mut rig = Rig::new(1, members.len(), networks(&[&members]));
    for &port in &members {
        let rx_ring = if port == B { 8 } else { 256 };
        rig.plug(
            0,
            ANY,
            Options {
                rx_ring,
                tx_ring,
                ..options()
            },
        );
    }
    rig.introduce(0..rig.guests.len() as u16);
    rig
}

/// Fills what is free of port 0's ring with frames to `B`, then one to `C`. Gives how long that
/// takes to arrive.
fn time_behind_a_full_ring(rig: &mut Rig, id: u64) -> Nanos {
    rig.guests[0].reclaim_tx(0);
    let ring = usize::from(rig.guests[0].options().tx_ring);
    for _ in 0..ring - 1 {
        assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), 0, 60)));
    }
    assert!(rig.guests[0].send(0, &frame(mac(C), mac(0), id, 60)));
    let begin = rig.now;
    loop {
        rig.step();
        if let [got] = &rig.receive_all(C)[..] {
            assert_eq!(id_of(got), id);
            return rig.now - begin;
        }
        assert!(rig.now - begin < 1_000_000_000, "in vain");
    }
}

#[test]
fn frame_behind_a_ring_full_of_others_to_a_suspended_guest_goes_out_in_time() {
    for tx_ring in [64, 256, 1024] {
        let mut rig = rig(3, tx_ring);
        // Long enough to have earned all that can be held.
        rig.now += 1_000_000_000;
        let mut times: Vec<_> = (0..100)
            .map(|id| time_behind_a_full_ring(&mut rig, id))
            .collect();
        times.sort_unstable();
        println!(
            "a ring of {tx_ring}: 99 of 100 within {} us, all within {} us",
            times[98] / 1000,
            times[99] / 1000
        );
        assert!(times[99] < IN_TIME, "{times:?}");
        assert!(rig.drops(0, DropReason::ReceiverFull) > 0);
        rig.settle();
        rig.assert_balanced();
    }
}

#[test]
fn sender_with_nothing_but_frames_to_a_slow_receiver_loses_none() {
    for tx_ring in [256, 1024] {
        let mut rig = rig(3, tx_ring);
        let (mut id, mut next) = (0, 0);
        for step in 0..300_000u64 {
            while rig.guests[0].send(0, &frame(mac(B), mac(0), id, 60)) {
                id += 1;
            }
            rig.step();
            // Three in a millisecond; and a pause of nine tenths of a second.
            if step % 33 == 0 && !(100_000..190_000).contains(&step) {
                if let Some(got) = rig.guests[1].recv(0) {
                    assert_eq!(id_of(&got), next, "one was lost");
                    next += 1;
                }
                rig.guests[1].post_rx(0);
            }
            rig.guests[0].reclaim_tx(0);
        }
        assert!(next > 5_000, "{next} got through");
        assert_eq!(rig.counters(0).n_dropped(), 0);
        rig.assert_balanced();
    }
}

#[test]
fn receiver_that_takes_nothing_for_a_second_is_stalled_until_it_takes_a_frame() {
    let mut rig = rig(3, 256);
    while rig.guests[0].send(0, &frame(mac(B), mac(0), 1, 60)) {}
    let begin = rig.now;
    while rig.drops(0, DropReason::ReceiverStalled) == 0 {
        rig.step();
        assert!(rig.now - begin < 1_100_000_000);
    }
    assert!(
        rig.now - begin > 990_000_000,
        "after {} us",
        (rig.now - begin) / 1000
    );
    rig.settle();
    assert_eq!(rig.counters(0).n_dropped(), 256 - 8);
    assert_eq!(
        rig.counters(0).n_dropped(),
        rig.drops(0, DropReason::ReceiverStalled),
        "by that name alone"
    );
    // However seldom one comes, it is not waited for again.
    rig.now += 5_000_000_000;
    rig.guests[0].reclaim_tx(0);
    rig.guests[0].send(0, &frame(mac(B), mac(0), 2, 60));
    rig.step();
    assert_eq!(rig.counters(0).n_dropped(), 256 - 7);
    // It resumes, and is as good as any.
    assert_eq!(rig.receive_all(B).len(), 8);
    (0..20).for_each(|id| assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), id, 60))));
    let mut next = 0;
    for _ in 0..50_000 {
        rig.step();
        for got in rig.receive_all(B) {
            assert_eq!(id_of(&got), next);
            next += 1;
        }
    }
    assert_eq!((next, rig.counters(0).n_dropped()), (20, 256 - 7));
    rig.assert_balanced();
}

#[test]
fn receiver_whose_port_is_down_is_waited_for_while_it_is_changed_and_then_gone_not_stalled() {
    let mut rig = rig(3, 256);
    (0..256).for_each(|id| assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), id, 60))));
    (0..1000).for_each(|_| _ = rig.step());
    rig.down(B);
    let begin = rig.now;
    while rig.step() == 0 {
        assert!(rig.now - begin < 20_000_000);
    }
    assert!(rig.now - begin > 9_000_000);
    rig.settle();
    assert_eq!(rig.drops(0, DropReason::PortDown), 256 - 8);
    rig.assert_balanced();
}

#[test]
fn frame_behind_others_to_an_uplink_that_sends_nothing_goes_out_in_time() {
    let mut rig = rig(3, 1024);
    // A device whose transmit ring has eight places, and whose kernel never takes anything.
    rig.down(B);
    let peer = rig.plug_device(B, Some(0), false, [8, 8]);
    peer.deliver(&frame(ALL, mac(B), 0, 60));
    rig.settle();
    rig.drain(0..3);
    peer.stall(true);
    for id in 0..20 {
        assert!(time_behind_a_full_ring(&mut rig, id) < IN_TIME);
    }
    let lost = rig.counters(0).n_dropped();
    assert!(lost > 10_000 && rig.drops(0, DropReason::UplinkFull) == lost);
    // With nothing else behind they wait a second, then the uplink counts as stalled.
    rig.guests[0].reclaim_tx(0);
    while rig.guests[0].send(0, &frame(mac(B), mac(0), 1, 60)) {}
    let begin = rig.now;
    while rig.step() == 0 {
        assert!(rig.now - begin < 1_100_000_000);
    }
    rig.settle();
    assert_eq!(
        rig.counters(0).n_dropped(),
        rig.drops(0, DropReason::UplinkFull)
    );
    rig.assert_counted();
}

#[test]
fn flood_that_stands_behind_blocked_frames_goes_out_in_time() {
    let mut rig = rig(3, 256);
    (0..255).for_each(|_| assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), 0, 60))));
    assert!(rig.guests[0].send(0, &frame(ALL, mac(0), 7, 60)));
    let begin = rig.now;
    while rig.receive_all(C).is_empty() {
        rig.step();
        assert!(rig.now - begin < IN_TIME);
    }
}

#[test]
fn chains_of_several_parts_are_looked_at_ahead_as_others_are() {
    let mut rig = rig(3, 256);
    let (b, c) = (frame(mac(B), mac(0), 0, 60), frame(mac(C), mac(0), 7, 60));
    let header = vec![0; rig.guests[0].options().header_bytes()];
    let whole = |frame: &[u8]| [&header[..], frame].concat();
    let mut n = 0;
    while n < 80 {
        let bytes = whole(&b);
        assert!(rig.guests[0].send_chain(0, &[&bytes[..5], &bytes[5..20], &bytes[20..]]));
        n += 1;
    }
    let bytes = whole(&c);
    assert!(rig.guests[0].send_chain(0, &[&bytes[..12], &bytes[12..14], &bytes[14..]]));
    let begin = rig.now;
    while rig.receive_all(C).is_empty() {
        rig.step();
        assert!(rig.now - begin < IN_TIME);
    }
}

#[test]
fn frame_that_will_be_dropped_anyway_ends_no_wait_however_far_behind() {
    let mut rig = rig(3, 256);
    for id in 0..256 {
        let dst = if id >= 200 {
            [1, 0x80, 0xc2, 0, 0, 14]
        } else {
            mac(B)
        };
        assert!(rig.guests[0].send(0, &frame(dst, mac(0), id, 60)));
    }
    (0..20_000).for_each(|_| _ = rig.step());
    assert_eq!(rig.counters(0).n_dropped(), 0);
}

#[test]
fn core_does_not_sleep_before_it_has_looked_at_all_that_waits() {
    let mut rig = rig(3, 1024);
    rig.now += 1_000_000_000;
    (0..1024).for_each(|_| assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), 0, 60))));
    let scanned = |rig: &Rig| rig.cores.core_counters()[0].scanned_frames;
    let (mut before, mut n_turns) = (scanned(&rig), 0);
    for _ in 0..500 {
        let [turn] = rig.step_together(&[0])[..] else {
            unreachable!("one core")
        };
        let (n, is_last) = (scanned(&rig), turn.n_frames == 0 && !turn.is_pending);
        n_turns += u32::from(n > before && !is_last);
        assert!(
            n == before || !is_last || n > 900,
            "asleep after {n} of 992 frames"
        );
        before = n;
    }
    assert!(
        before > 900 && n_turns > 1,
        "{before} frames looked at in {n_turns} turns"
    );
}

#[test]
fn frame_that_comes_behind_those_to_a_suspended_guest_waits_no_longer_for_not_being_looked_at() {
    // One to B alone, again and again, and what goes to C in between: a tenth of the time may be
    // lost.
    let mut rig = rig(3, 256);
    while rig.guests[2].send(0, &frame(mac(B), mac(C), 0, 60)) {}
    rig.now += 1_000_000_000;
    let (mut n_late, mut n, mut sent) = (0, 0, rig.now);
    let mut is_out = true;
    for step in 0..100_000u64 {
        if step % 400 == 0 {
            rig.guests[0].send(0, &frame(mac(B), mac(0), 1, 60));
        } else if is_out && step % 10 == 0 {
            assert!(rig.guests[0].send(0, &frame(mac(C), mac(0), 2, 60)));
            (sent, is_out) = (rig.now, false);
        }
        rig.step();
        is_out |= !rig.receive_all(C).is_empty();
        rig.guests[0].reclaim_tx(0);
        n += 1;
        n_late += u64::from(!is_out);
        assert!(rig.now - sent < IN_TIME || is_out);
    }
    assert!(n_late * 8 < n, "held up for {n_late} of {n} turns");
}
