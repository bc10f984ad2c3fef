//! Whatever lies in front, a frame to a willing receiver goes out in time; and what only waits for
//! a slow one is not lost.

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
    let scanned = |rig: &Rig| rig.fleet.cores()[0].scanned_frames;
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
fn many_senders_blocked_at_once_cost_a_hundredth_of_the_time_to_look_ahead() {
    const N: u16 = 66;
    let mut rig = rig(N, 1024);
    let senders = || (0..N).filter(|&port| port != B && port != C);
    let begin = rig.fleet.cores()[0];
    let started = rig.now;
    for from in senders() {
        let guest = &mut rig.guests[usize::from(from)];
        (0..1023).for_each(|_| assert!(guest.send(0, &frame(mac(B), mac(from), 0, 60))));
        assert!(guest.send(0, &frame(mac(C), mac(from), 7, 60)));
    }
    let mut n_out = 0;
    while n_out < 64 {
        rig.step();
        n_out += rig.receive_all(C).len();
        assert!(rig.now - started < IN_TIME, "{n_out} of 64 within 10 ms");
    }
    let after = rig.fleet.cores()[0];
    let scanned = after.scanned_frames - begin.scanned_frames;
    assert!(
        (1..=64 * 1024).contains(&scanned),
        "{scanned} frames were looked at ahead: each once at most"
    );
    println!(
        "64 senders: all out after {} us; {scanned} frames looked at ahead, {} cycles each",
        (rig.now - started) / 1000,
        (after.scan_cycles - begin.scan_cycles) / scanned
    );
    // From now on they do nothing else, for six tenths of a second.
    let (begin, started) = (after.scanned_frames, rig.now);
    for _ in 0..60_000 {
        for from in senders() {
            let guest = &mut rig.guests[usize::from(from)];
            if guest.reclaim_tx(0) > 0 {
                while guest.send(0, &frame(mac(B), mac(from), 0, 60)) {}
            }
        }
        // One that is slow, lest it count as stalled.
        if rig.now.is_multiple_of(10_000_000) {
            rig.receive_all(B);
        }
        rig.step();
    }
    let (scanned, passed) = (
        rig.fleet.cores()[0].scanned_frames - begin,
        rig.now - started,
    );
    assert!(
        scanned * 60 < passed / 100 + 10_000_000,
        "{scanned} frames in {} ms",
        passed / 1_000_000
    );
    rig.assert_counted();
}

/// All but `B` and `C` fill their rings with frames to `B`.
fn fill(rig: &mut Rig, ids: &mut [u64]) {
    for from in (0..ids.len()).filter(|&from| from != usize::from(B) && from != usize::from(C)) {
        let guest = &mut rig.guests[from];
        guest.reclaim_tx(0);
        while guest.send(0, &frame(mac(B), mac(from as u16), ids[from], 60)) {
            ids[from] += 1;
        }
    }
}

#[test]
fn many_senders_to_one_that_takes_little_are_not_looked_at_each_turn_and_get_equal_parts() {
    const N: usize = 66;
    let mut rig = rig(N as u16, 256);
    let (mut ids, mut next) = ([0; N], [0; N]);
    fill(&mut rig, &mut ids);
    (0..1_000).for_each(|_| _ = rig.step());
    let decided = |rig: &Rig| {
        let flows = rig.fleet.flows();
        flows.front_hits + flows.hits + flows.misses
    };
    let (before, n_steps) = (decided(&rig), 160_000);
    let scanned = |rig: &Rig| rig.fleet.cores()[0].scanned_frames;
    let scanned_before = scanned(&rig);
    for step in 0..n_steps {
        // Turns are as short as those in which nothing happens, so that many come between two
        // looks.
        rig.now -= 5_000;
        // One buffer each two milliseconds; and a tenth of a second without any.
        if step % 400 == 0 && !(80_000..100_000).contains(&step) {
            if let Some(got) = rig.guests[usize::from(B)].recv(0) {
                let from = usize::from(got[11]);
                assert_eq!(id_of(&got), next[from], "from {from}");
                next[from] += 1;
            }
            rig.guests[usize::from(B)].post_rx(0);
            let used = rig.counters(B).tx_frames;
            rig.step();
            if step > 0 {
                assert_eq!(rig.counters(B).tx_frames, used + 1, "step {step}: at once");
            }
            fill(&mut rig, &mut ids);
        } else {
            rig.step();
        }
    }
    let decided = decided(&rig) - before;
    let each_turn = 64 * 32 * n_steps;
    assert!(
        decided > 0 && decided * 100 < each_turn,
        "{decided} frames were decided, {each_turn} in every turn"
    );
    let scanned = scanned(&rig) - scanned_before;
    assert!(
        scanned < 64 * 256 * 2,
        "{scanned} frames were looked at ahead, each more than once"
    );
    // The first one had what was free at the beginning.
    let got = (3..N).map(|from| next[from]);
    let (least, most) = got.fold((u64::MAX, 0), |(least, most), n| {
        (least.min(n), most.max(n))
    });
    assert!(
        least >= 4 && most <= least + 2,
        "from {least} to {most} each"
    );
    assert!((0..N as u16).all(|port| rig.counters(port).n_dropped() == 0));
    rig.assert_counted();
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

/// Makes the receive ring of `B` one of chains that loop; gives how many there are.
fn make_looping(rig: &mut Rig) -> usize {
    rig.down(B);
    rig.guests[1].reset_vring(0);
    rig.up(B, 0, ANY);
    rig.step();
    let mut n = 0;
    while add_loop(rig) {
        n += 1;
    }
    n
}

fn add_loop(rig: &mut Rig) -> bool {
    let guest = &mut rig.guests[1];
    let addr = guest.scratch();
    let ring = guest.ring(0);
    while ring.n_used() > 0 {
        ring.pop();
    }
    let is_added = ring.add_raw(1, |ids| {
        vec![Desc {
            addr,
            len: 8,
            flags: NEXT | WRITE,
            next: ids[0],
        }]
    });
    ring.publish();
    is_added
}

/// Port 0, `B` with a long receive ring, `C`, and a wire on port 3.
fn looping_rig() -> (Rig, MemPort) {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1, 2, 3]]));
    for port in 0..3 {
        let rx_ring = if port == B { 1024 } else { 256 };
        rig.plug(
            0,
            ANY,
            Options {
                rx_ring,
                ..options()
            },
        );
    }
    rig.introduce(0..rig.guests.len() as u16);
    let wire = MemPort::new(10_000, false);
    rig.plug_mem(3, Some(0), &wire);
    assert_eq!(make_looping(&mut rig), 1024);
    // Down, it was forgotten.
    rig.guests[1].send(0, &frame(ALL, mac(B), 0, 60));
    rig.settle();
    rig.drain([0, C]);
    while wire.receive().is_some() {}
    (rig, wire)
}

#[test]
fn receiver_that_adds_a_broken_buffer_each_turn_holds_up_nobody() {
    let (mut rig, _wire) = looping_rig();
    for id in 0..40 {
        assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), id, 60)));
    }
    assert!(rig.guests[0].send(0, &frame(mac(C), mac(0), 77, 60)));
    let begin = rig.now;
    while rig.receive_all(C).is_empty() {
        rig.step();
        add_loop(&mut rig);
        assert!(rig.now - begin < IN_TIME);
    }
    // With nothing else behind they wait, but not for ever.
    for id in 0..100 {
        assert!(rig.guests[0].send(0, &frame(mac(B), mac(0), id, 60)));
    }
    while rig.counters(0).rx_frames < 1 + 141 {
        rig.step();
        add_loop(&mut rig);
        assert!(rig.now - begin < 2_000_000_000, "{:?}", rig.counters(0));
    }
    rig.assert_counted();
}

#[test]
fn receiver_with_broken_buffers_does_not_keep_the_wire_from_others() {
    let (mut rig, wire) = looping_rig();
    for id in 0..200 {
        wire.send(&frame(mac(B), mac(9), id, 60));
    }
    wire.send(&frame(mac(C), mac(9), 7, 60));
    let mut n_turns = 0;
    while rig.receive_all(C).is_empty() {
        rig.step();
        add_loop(&mut rig);
        n_turns += 1;
        assert!(
            n_turns <= 10,
            "frames off the wire can't wait for a receiver"
        );
    }
    assert_eq!(rig.drops(3, DropReason::ReceiverFull), 200);
    rig.assert_counted();
}
