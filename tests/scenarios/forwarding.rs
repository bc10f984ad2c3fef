//! Who gets a frame, and whether it is the frame that was sent.

mod shapes;

use flowtable::{DropReason, SourcePolicy};
use guest::Options;
use guest::options::Indirect;
use pmd::port::mem::MemPort;
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks, options};

#[test]
fn frames_of_every_size_pass_unchanged_between_guests_of_every_shape() {
    for (name, a) in shapes::shapes() {
        for (other, b) in [("plain", options()), (name, a.clone())] {
            let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
            rig.plug(0, ANY, a.clone());
            rig.plug(0, ANY, b);
            rig.introduce(0..2);
            for (n, len) in [60, 64, 65, 127, 128, 129, 200, 1514, 1999, 2048, 4000, 9014]
                .into_iter()
                .enumerate()
            {
                for (from, to) in [(0, 1), (1, 0)] {
                    let sent = frame(mac(to), mac(from), n as u64, len);
                    assert!(
                        rig.guests[usize::from(from)].send(0, &sent),
                        "{name}: no room to send"
                    );
                    rig.settle();
                    let got = rig.receive_all(to);
                    assert!(
                        got == [sent],
                        "{name} to {other}: {len} bytes from {from} arrived as {:?}",
                        got.len()
                    );
                }
            }
            rig.assert_balanced();
            assert_eq!(
                rig.counters(0).n_dropped() + rig.counters(1).n_dropped(),
                0,
                "{name}"
            );
        }
    }
}

#[test]
fn long_burst_wraps_the_rings_many_times_in_order() {
    let mut rig = Rig::simple(
        2,
        &Options {
            rx_ring: 64,
            tx_ring: 32,
            checked: false,
            ..options()
        },
    );
    rig.introduce(0..2);
    let (mut n_sent, mut n_got) = (0u64, 0u64);
    while n_got < 70_000 {
        while rig.guests[0].send(
            0,
            &frame(mac(1), mac(0), n_sent, 60 + n_sent as usize % 700),
        ) {
            n_sent += 1;
        }
        rig.step();
        for got in rig.receive_all(1) {
            assert_eq!(id_of(&got), n_got);
            n_got += 1;
        }
    }
    rig.settle();
    rig.assert_balanced();
}

#[test]
fn broadcast_reaches_every_other_member_of_the_network_and_nobody_else() {
    let mut rig = Rig::new(1, 6, networks(&[&[0, 1, 2, 3], &[4, 5]]));
    for port in 0..6 {
        rig.plug(u16::from(port >= 4), ANY, options());
    }
    rig.guests[1].send(0, &frame(ALL, mac(1), 7, 100));
    rig.settle();
    let got: Vec<usize> = (0..6).map(|port| rig.receive_all(port).len()).collect();
    assert_eq!(got, [1, 0, 1, 1, 0, 0]);
    assert_eq!(rig.counters(1).copies, 2);
    rig.assert_balanced();
}

#[test]
fn unknown_address_is_flooded_and_a_known_one_goes_to_its_port_alone() {
    let mut rig = Rig::simple(4, &options());
    rig.introduce(0..3);
    rig.drain([3]);
    for (to, expected) in [(2, [0, 0, 1, 0]), (3, [0, 1, 1, 1])] {
        rig.guests[0].send(0, &frame(mac(to), mac(0), 1, 60));
        rig.settle();
        let got: Vec<usize> = (0..4).map(|port| rig.receive_all(port).len()).collect();
        assert_eq!(got, expected);
    }
    rig.assert_balanced();
}

#[test]
fn same_address_lives_in_two_networks() {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1], &[2, 3]]));
    for port in 0..4 {
        rig.plug(port / 2, ANY, options());
    }
    for port in [0, 2] {
        rig.guests[port].send(0, &frame(ALL, mac(9), 0, 60));
    }
    rig.settle();
    rig.drain(0..4);
    for (from, to) in [(1, 0), (3, 2)] {
        rig.guests[from].send(0, &frame(mac(9), mac(from as u16), 1, 60));
        rig.settle();
        let got: Vec<usize> = (0..4).map(|port| rig.receive_all(port).len()).collect();
        assert_eq!(got[to], 1);
        assert_eq!(got.iter().sum::<usize>(), 1);
    }
    rig.assert_balanced();
}

#[test]
fn station_that_moves_is_followed_with_its_first_frame() {
    let mut rig = Rig::simple(3, &options());
    rig.introduce(0..3);
    for turn in 0..40 {
        let at = 1 + turn % 2;
        rig.guests[at].send(0, &frame(mac(0), mac(7), 1, 60));
        rig.settle();
        rig.guests[0].send(0, &frame(mac(7), mac(0), 2, 60));
        rig.settle();
        assert_eq!(rig.receive_all(at as u16).len(), 1, "turn {turn}");
        assert_eq!(rig.receive_all(3 - at as u16).len(), 0);
        rig.receive_all(0);
    }
    rig.assert_balanced();
}

#[test]
fn guest_with_an_address_sends_from_no_other() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(0, SourcePolicy::Fixed(mac(0)), options());
    rig.plug(0, ANY, options());
    rig.guests[0].send(0, &frame(ALL, mac(5), 0, 60));
    rig.guests[0].send(0, &frame(ALL, mac(0), 1, 60));
    rig.guests[1].send(0, &frame(ALL, mac(0), 2, 60));
    rig.settle();
    assert_eq!(rig.receive_ids(1), [1]);
    assert_eq!(rig.receive_all(0).len(), 0);
    for port in 0..2 {
        assert_eq!(rig.drops(port, DropReason::Spoofed), 1);
    }
    rig.assert_balanced();
}

#[test]
fn frame_too_long_for_the_receivers_buffers_is_dropped_for_that_receiver_alone() {
    let mut rig = Rig::new(1, 3, networks(&[&[0, 1, 2]]));
    rig.plug(0, ANY, options());
    rig.plug(
        0,
        ANY,
        Options {
            mergeable: false,
            rx_shape: vec![1526],
            ..options()
        },
    );
    rig.plug(0, ANY, options());
    rig.guests[0].send(0, &frame(ALL, mac(0), 3, 1515));
    rig.guests[0].send(0, &frame(ALL, mac(0), 4, 1514));
    rig.settle();
    assert_eq!(rig.receive_all(1).len(), 1);
    assert_eq!(rig.receive_all(2).len(), 2);
    assert_eq!(rig.drops(0, DropReason::TooBig), 1);
    assert_eq!(rig.counters(1).missed, 1);
    rig.assert_balanced();
}

#[test]
fn flow_stays_on_one_queue_and_flows_spread_over_all() {
    let mut rig = Rig::simple(
        2,
        &Options {
            n_queue_pairs: 4,
            ..options()
        },
    );
    rig.introduce(0..2);
    let udp = |port: u16| {
        let mut bytes = [
            &mac(1)[..],
            &mac(0),
            &[
                8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
            ],
        ]
        .concat();
        bytes.extend(port.to_be_bytes());
        bytes.resize(60, 0);
        bytes
    };
    let mut queues = [0; 4];
    for port in 0..64 {
        let mut used = None;
        for turn in 0..3 {
            rig.guests[0].send((usize::from(port) + turn) % 4, &udp(port));
            rig.settle();
            let got: Vec<usize> = (0..4)
                .filter(|&pair| rig.guests[1].recv(pair).is_some())
                .collect();
            assert_eq!(got.len(), 1);
            assert_eq!(
                *used.get_or_insert(got[0]),
                got[0],
                "flow {port} went astray"
            );
        }
        queues[used.unwrap()] += 1;
        rig.receive_all(1);
        rig.receive_all(0);
    }
    assert!(queues.iter().all(|&n| n > 4), "{queues:?}");
    rig.assert_balanced();
}

#[test]
fn wire_in_memory_and_guest_exchange_frames() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(0, ANY, options());
    let wire = MemPort::new(64, false);
    rig.plug_mem(1, Some(0), &wire);
    for len in [60, 128, 129, 1514, 9014] {
        rig.guests[0].send(0, &frame(ALL, mac(0), 1, len));
        wire.send(&frame(ALL, mac(1), 2, len));
        rig.settle();
        assert_eq!(wire.receive().unwrap(), frame(ALL, mac(0), 1, len));
        assert_eq!(rig.receive_all(0), [frame(ALL, mac(1), 2, len)]);
    }
    wire.send(&[1; 13]);
    rig.settle();
    assert_eq!(rig.drops(1, DropReason::Runt), 1);
    rig.assert_balanced();
}

#[test]
fn runts_and_frames_beyond_the_mtu_are_dropped_by_name() {
    let mut rig = Rig::simple(2, &options());
    for (len, reason) in [
        (0, DropReason::Runt),
        (1, DropReason::Runt),
        (13, DropReason::Runt),
        (9015, DropReason::TooBig),
    ] {
        let before = rig.drops(0, reason);
        assert!(rig.guests[0].send(0, &frame(ALL, mac(0), 1, len)));
        rig.settle();
        assert_eq!(rig.drops(0, reason), before + 1, "{len} bytes");
    }
    rig.guests[0].send(0, &frame(ALL, mac(0), 1, 14));
    rig.settle();
    assert_eq!(
        rig.receive_all(1).len(),
        1,
        "an Ethernet header alone is a frame"
    );
    rig.assert_balanced();
}

#[test]
fn burst_of_floods_is_cut_before_it_makes_more_copies_than_a_turn_may() {
    let members: Vec<u16> = (0..100).collect();
    let mut rig = Rig::new(1, 100, networks(&[&members]));
    (0..100).for_each(|_| {
        rig.plug(
            0,
            ANY,
            Options {
                checked: false,
                ..options()
            },
        );
    });
    for id in 0..20 {
        assert!(rig.guests[0].send(0, &frame(ALL, mac(0), id, 60)));
    }
    let mut most = 0;
    while rig.counters(0).rx_frames < 20 {
        let before: u64 = rig.counters(0).forwarded;
        rig.step();
        most = most.max(rig.counters(0).forwarded - before);
    }
    assert!((99..=512).contains(&most), "{most} copies in a turn");
    assert!((1..100).all(|port| rig.receive_all(port).len() == 20));
    rig.assert_balanced();
}

#[test]
fn silent_station_is_forgotten_and_found_again() {
    let mut rig = Rig::simple(3, &options());
    rig.introduce(0..3);
    rig.now += 301_000_000_000;
    rig.guests[0].send(0, &frame(mac(2), mac(0), 0, 60));
    rig.settle();
    assert_eq!(
        (rig.receive_all(1).len(), rig.receive_all(2).len()),
        (0, 1),
        "still known before anybody looks"
    );
    assert_eq!(
        rig.cores.macs().age(pmd::time::seconds(rig.now), 300),
        2,
        "0 has just spoken, 1 and 2 have not"
    );
    rig.guests[0].send(0, &frame(mac(2), mac(0), 1, 60));
    rig.settle();
    assert_eq!(
        (rig.receive_all(1).len(), rig.receive_all(2).len()),
        (1, 1),
        "flooded"
    );
    rig.assert_balanced();
}

#[test]
fn burst_of_long_floods_is_cut_before_it_copies_more_bytes_than_a_turn_may() {
    let members: Vec<u16> = (0..16).collect();
    let mut rig = Rig::new(1, 16, networks(&[&members]));
    for _ in 0..16 {
        rig.plug(
            0,
            ANY,
            Options {
                rx_shape: vec![9100],
                ..options()
            },
        );
    }
    for id in 0..32 {
        assert!(rig.guests[0].stage(
            0,
            guest::NetHeader::default(),
            &frame(ALL, mac(0), id, 9000)
        ));
    }
    rig.guests[0].publish(1);
    let n_bytes = |rig: &Rig| (0..16).map(|port| rig.counters(port).tx_bytes).sum::<u64>();
    let mut most = 0;
    while rig.counters(0).rx_frames < 32 {
        let before = n_bytes(&rig);
        rig.step();
        most = most.max(n_bytes(&rig) - before);
    }
    assert!(most <= 256 << 10, "{most} bytes copied in a turn");
    assert!((1..16).all(|port| rig.receive_all(port).len() == 32));
    rig.assert_balanced();
}

#[test]
fn mergeable_buffers_of_several_descriptors_never_run_into_a_wall() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(0, ANY, options());
    rig.plug(
        0,
        ANY,
        Options {
            rx_ring: 1024,
            rx_shape: vec![300, 300],
            ..options()
        },
    );
    rig.introduce(0..2);
    let (mut id, mut next) = (0, 0);
    while next < 3000 {
        while id < 3000
            && rig.guests[0].send(
                0,
                &frame(mac(1), mac(0), id, 700 + id as usize * 611 % 4000),
            )
        {
            id += 1;
        }
        rig.step();
        for got in rig.receive_all(1) {
            assert_eq!(id_of(&got), next, "{:?}", rig.counters(0).drops);
            next += 1;
        }
    }
    rig.settle();
    rig.assert_balanced();
}
