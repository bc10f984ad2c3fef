//! Receivers that leave no room: who waits, who doesn't, for how long.

use flowtable::DropReason;
use guest::Options;
use guest::hostile::{Attack, FAULTS, Fault, Grade};
use pmd::port::mem::MemPort;
use rig::{ALL, ANY, Rig, STEP, frame, id_of, mac, networks, options};

/// Three guests that know each other; the receive ring of port 1 is as small as can be.
fn rig() -> Rig {
    let mut rig = Rig::new(1, 3, networks(&[&[0, 1, 2]]));
    rig.plug_rx_rings([256, 8, 256]);
    rig.introduce(0..3);
    rig
}

fn full(rig: &Rig) -> u64 {
    rig.drops(0, DropReason::ReceiverFull)
}

#[test]
fn while_all_goes_to_the_blocked_receiver_it_waits_for_ever_and_nothing_is_lost() {
    let mut rig = rig();
    for id in 0..100 {
        assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), id, 100)));
    }
    for _ in 0..100_000 {
        rig.step();
    }
    assert_eq!(
        rig.counters(0).rx_frames,
        1 + 8,
        "a second later, the rest still stands in the sender's ring"
    );
    let mut next = 0;
    while next < 100 {
        for got in rig.receive_all(1) {
            assert_eq!(id_of(&got), next);
            next += 1;
        }
        rig.step();
    }
    assert_eq!(full(&rig), 0);
    assert!(rig.counters(0).held_turns > 0);
    rig.assert_balanced();
}

#[test]
fn frame_behind_a_blocked_one_waits_a_tenth_of_the_time_at_most() {
    let mut rig = rig();
    // A stream to the receiver that never fetches, and one to another.
    let (mut n_through, mut steps) = (0, 0);
    let mut id = 0;
    while steps < 10_000 {
        while rig.guests[0].send(
            0,
            &frame(mac(if id % 2 == 0 { 1 } else { 2 }), mac(0), id, 60),
        ) {
            id += 1;
        }
        rig.step();
        steps += 1;
        n_through += rig.receive_all(2).len();
    }
    // A turn takes a burst of 32, half of it for port 2, nine tenths of the time.
    assert!(
        n_through as u64 >= 10_000 * 16 * 85 / 100,
        "{n_through} frames got through"
    );
    assert!(full(&rig) > 0);
    assert_eq!(rig.counters(1).missed, full(&rig));
    rig.settle();
    rig.assert_balanced();
}

#[test]
fn short_pause_of_a_receiver_costs_nobody_a_frame() {
    let mut rig = rig();
    // Long enough to have earned a millisecond of holding.
    rig.now += 1_000_000_000;
    for id in 0..40 {
        rig.guests[0].send(
            0,
            &frame(mac(if id % 2 == 0 { 1 } else { 2 }), mac(0), id, 60),
        );
    }
    for _ in 0..900_000 / STEP {
        rig.step();
    }
    let mut got = 0;
    while got < 20 {
        got += rig.receive_all(1).len();
        rig.step();
    }
    rig.settle();
    assert_eq!(rig.receive_all(2).len(), 20);
    assert_eq!(full(&rig), 0);
    rig.assert_balanced();
}

#[test]
fn frame_that_all_buffers_together_cannot_hold_does_not_stand_in_the_way_for_ever() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(0, ANY, options());
    rig.plug(
        0,
        ANY,
        Options {
            rx_ring: 64,
            rx_shape: vec![7, 60, 33],
            ..options()
        },
    );
    rig.introduce(0..2);
    // 21 chains of 100 bytes are all there is.
    rig.guests[0].send(0, &frame(mac(1), mac(0), 1, 3000));
    rig.guests[0].send(0, &frame(mac(1), mac(0), 2, 2000));
    for _ in 0..20_000_000 / STEP {
        rig.step();
    }
    assert_eq!(rig.receive_ids(1), [2]);
    assert_eq!(rig.drops(0, DropReason::TooBig), 1);
    rig.assert_balanced();
}

#[test]
fn flood_never_waits_for_a_member_without_room() {
    let mut rig = rig();
    for id in 0..50 {
        rig.guests[0].send(0, &frame(ALL, mac(0), id, 60));
    }
    rig.settle();
    assert_eq!(rig.receive_all(2).len(), 50);
    assert_eq!(rig.receive_all(1).len(), 8);
    assert_eq!(full(&rig), 42);
    assert_eq!(rig.counters(1).missed, 42);
    rig.assert_balanced();
}

#[test]
fn frames_off_a_wire_cannot_wait() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(
        0,
        ANY,
        Options {
            rx_ring: 8,
            ..options()
        },
    );
    let wire = MemPort::new(1000, false);
    rig.plug_mem(1, Some(0), &wire);
    rig.guests[0].send(0, &frame(ALL, mac(0), 0, 60));
    rig.settle();
    (0..20).for_each(|id| wire.send(&frame(mac(0), mac(1), id, 60)));
    rig.settle();
    assert_eq!(wire.n_waiting(), 0);
    assert_eq!(rig.receive_all(0).len(), 8);
    assert_eq!(rig.drops(1, DropReason::ReceiverFull), 12);
    rig.assert_balanced();
}

#[test]
fn neighbours_of_a_blocked_pair_lose_nothing() {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1, 2, 3]]));
    rig.plug_rx_rings([256, 4, 256, 256]);
    rig.introduce(0..4);
    let mut next = 0;
    for id in 0..5_000 {
        while rig.guests[0].send(0, &frame(mac(1), mac(0), 0, 60)) {}
        assert!(rig.guests[2].send(0, &frame(mac(3), mac(2), id, 60)));
        rig.step();
        for got in rig.receive_all(3) {
            assert_eq!(id_of(&got), next);
            next += 1;
        }
        rig.guests[2].reclaim_tx(0);
    }
    assert_eq!(next, 5_000);
    rig.assert_balanced();
}

/// A UDP datagram to port 1 from one of many ports, so that it has a flow of its own.
fn udp(port: u16) -> Vec<u8> {
    let ip = [
        8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    let mut bytes = [
        &mac(1)[..],
        &mac(0),
        &ip,
        &port.to_be_bytes(),
        &[0, 53, 0, 26, 0, 0],
    ]
    .concat();
    bytes.resize(60, 0);
    bytes
}

#[test]
fn queue_that_its_guest_does_not_serve_holds_up_its_other_queues_no_more_than_a_tenth_of_the_time()
{
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(0, ANY, options());
    rig.plug(
        0,
        ANY,
        Options {
            n_queue_pairs: 2,
            rx_ring: 64,
            ..options()
        },
    );
    rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    rig.receive_all(0);
    let (mut n, mut got, mut last) = (0u16, 0u32, 0);
    for step in 0..10_000 {
        while rig.guests[0].send(0, &udp(n % 64)) {
            n = n.wrapping_add(1);
        }
        rig.step();
        while rig.guests[1].recv(0).is_some() {
            (got, last) = (got + 1, step);
        }
        rig.guests[1].post_rx(0);
    }
    assert!(
        last > 9_900 && got > 100_000,
        "{got} frames, the last in step {last}"
    );
    rig.settle();
    rig.assert_balanced();
}

#[test]
fn frame_that_will_be_dropped_anyway_ends_no_wait() {
    let mut rig = rig();
    for id in 0..100 {
        let dst = if id == 38 {
            [1, 0x80, 0xc2, 0, 0, 14]
        } else {
            mac(1)
        };
        assert!(rig.guests[0].send(0, &frame(dst, mac(0), id, 60)));
    }
    for _ in 0..20_000 {
        rig.step();
    }
    assert_eq!(full(&rig), 0);
}

#[test]
fn senders_to_a_slow_receiver_get_the_same_part_of_it() {
    for n_cores in [1, 2] {
        let mut rig = Rig::new(n_cores, 5, networks(&[&[0, 1, 2, 3, 4]]));
        rig.plug_rx_rings([256, 16, 256, 256, 256]);
        rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
        rig.settle();
        rig.drain(0..5);
        let (senders, mut got) = ([0u16, 2, 3, 4], [0u64; 5]);
        for _ in 0..4_000 {
            for from in senders {
                while rig.guests[usize::from(from)].send(0, &frame(mac(1), mac(from), 7, 60)) {}
            }
            rig.step();
            for from in senders {
                rig.guests[usize::from(from)].reclaim_tx(0);
            }
            rig.receive_all(1)
                .iter()
                .for_each(|bytes| got[usize::from(bytes[11])] += 1);
        }
        let all: u64 = got.iter().sum();
        for from in senders {
            let part = got[usize::from(from)] * 4;
            assert!(
                part * 10 >= all * 9 && part * 10 <= all * 11,
                "{n_cores} cores: {got:?}"
            );
            assert_eq!(rig.counters(from).n_dropped(), 0);
        }
    }
}

#[test]
fn broken_chain_that_waits_behind_a_blocked_frame_is_one_fault() {
    let mut rig = rig();
    for id in 0..12 {
        assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), id, 60)));
    }
    rig.step();
    let is_one = |fault: &&Fault| fault.grade == Grade::DropChain && fault.row.starts_with("S4");
    let good = frame(mac(1), mac(0), 7, 64);
    let mut attack = Attack::new(&mut rig.guests[0], 0, &good);
    assert!(attack.run(FAULTS.iter().find(is_one).expect("such a case")));
    let n_chains = attack.n_chains() as u64;
    drop(attack);
    for _ in 0..1000 {
        rig.step();
    }
    assert!(
        (1..=n_chains).contains(&rig.counters(0).faults),
        "{} of {n_chains}",
        rig.counters(0).faults
    );
}

#[test]
fn frames_that_fill_several_buffers_of_a_slow_receiver_are_not_lost() {
    let mut rig = rig();
    let merging = Options {
        rx_ring: 16,
        rx_shape: vec![2048],
        mergeable: true,
        ..options()
    };
    rig.down(1);
    rig.guests[1] = guest::GuestDriver::new(merging).expect("memory");
    rig.guests[1].post_rx(0);
    rig.up(1, 0, ANY);
    rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    drop(rig.receive_all(0));
    let (mut id, mut next) = (0, 0);
    for _ in 0..100_000_000 / STEP {
        while rig.guests[0].send(0, &frame(mac(1), mac(0), id, 9000)) {
            id += 1;
        }
        rig.step();
        rig.guests[0].reclaim_tx(0);
        for bytes in rig.receive_all(1) {
            assert_eq!(id_of(&bytes), next, "one was lost");
            next += 1;
        }
    }
    assert!(next > 10_000);
    assert_eq!(rig.counters(0).n_dropped(), 0);
}

#[test]
fn flood_of_frames_that_fill_many_small_buffers_reaches_a_receiver_that_has_them() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(0, ANY, options());
    let small = Options {
        rx_ring: 2048,
        rx_shape: vec![300],
        mergeable: true,
        ..options()
    };
    rig.plug(0, ANY, small);
    for id in 0..32 {
        assert!(rig.guests[0].send(0, &frame(ALL, mac(0), id, 9000)));
    }
    rig.settle();
    assert_eq!(rig.receive_ids(1), (0..32).collect::<Vec<_>>());
    rig.assert_balanced();
}

#[test]
fn frames_of_a_wire_which_cannot_wait_are_not_kept_from_a_receiver_by_whose_turn_it_is() {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1, 2, 3]]));
    rig.plug_rx_rings([256, 8, 256]);
    let wire = MemPort::new(64, false);
    rig.plug_mem(3, Some(0), &wire);
    rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    for id in 0..12 {
        rig.guests[0].send(0, &frame(mac(1), mac(0), id, 60));
    }
    // The second of these turns finds no room at all, so it is port 0's turn; then it is gone.
    rig.step();
    rig.step();
    assert!(rig.counters(0).held_turns > 0);
    rig.down(0);
    assert_eq!(rig.receive_all(1).len(), 8);
    for id in 0..4 {
        wire.send(&frame(mac(1), mac(9), id, 60));
    }
    rig.step();
    assert_eq!(rig.receive_all(1).len(), 4);
    assert_eq!(rig.counters(3).n_dropped(), 0);
}
