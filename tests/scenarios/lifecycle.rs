//! Ports that come and go while others send, and guests that meet a new switch.

use flowtable::DropReason;
use guest::Options;
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks, options};

#[test]
fn port_goes_down_and_up_in_traffic_and_nobody_loses_anything() {
    for n_cores in 1..=3 {
        let mut rig = Rig::new(n_cores, 4, networks(&[&[0, 1, 2, 3]]));
        rig.plug_all(4, &options());
        rig.introduce(0..4);
        let (mut next, mut n_to_it) = (0, 0);
        for id in 0..2000 {
            assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), id, 60)));
            assert!(rig.guests[2].send(0, &frame(mac(3), mac(2), id, 60)));
            match id % 20 {
                5 => drop(rig.down(3)),
                15 => rig.up(3, 0, ANY),
                _ => {}
            }
            rig.step();
            for got in rig.receive_all(1) {
                assert_eq!(id_of(&got), next);
                next += 1;
            }
            n_to_it += rig.receive_all(3).len();
            rig.receive_all(2);
            rig.guests[0].reclaim_tx(0);
        }
        rig.settle();
        next += rig.receive_all(1).len() as u64;
        n_to_it += rig.receive_all(3).len();
        assert_eq!(
            (next, n_to_it),
            (2000, 2000),
            "{n_cores} cores: its own frames waited for it"
        );
        rig.assert_balanced();
    }
}

#[test]
fn queues_come_back_at_the_positions_they_had_reached() {
    let mut rig = Rig::simple(2, &options());
    for id in 0..10 {
        rig.guests[0].send(0, &frame(ALL, mac(0), id, 60));
    }
    rig.settle();
    let down = rig.down(0);
    assert_eq!((down.rxqs.len(), down.txqs.len()), (1, 1));
    assert_eq!((down.rxqs[0].base(), down.txqs[0].base()), (10, 0));
    let down = rig.down(1);
    assert_eq!((down.rxqs[0].base(), down.txqs[0].base()), (0, 10));
}

#[test]
fn frame_to_a_port_that_is_down_is_dropped_by_name() {
    let mut rig = Rig::simple(2, &options());
    rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    rig.down(1);
    rig.guests[0].send(0, &frame(mac(1), mac(0), 0, 60));
    rig.settle();
    assert_eq!(rig.counters(0).n_dropped(), 0, "it may be back in a moment");
    rig.now += 10_000_000;
    rig.guests[0].send(0, &frame(ALL, mac(0), 0, 60));
    rig.settle();
    assert_eq!(rig.drops(0, DropReason::PortDown), 1);
    assert_eq!(rig.drops(0, DropReason::NoDestination), 1);
    rig.assert_balanced();
}

/// A switch that dies at any moment, as seen by its guests: a new one takes up their rings as it
/// finds them.
#[test]
fn new_switch_takes_up_the_rings_where_the_old_one_died() {
    for (name, options) in [
        ("plain", options()),
        (
            "small",
            Options {
                rx_ring: 16,
                tx_ring: 16,
                ..options()
            },
        ),
    ] {
        let mut guests: Vec<_> = Vec::new();
        let (mut id, mut seen) = (0u64, Vec::new());
        for life in 0..40 {
            let mut rig = Rig::new(1 + life % 2, 2, networks(&[&[0, 1]]));
            if guests.is_empty() {
                for _ in 0..2 {
                    rig.plug(0, ANY, options.clone());
                }
            } else {
                rig.guests = std::mem::take(&mut guests);
                (0..2).for_each(|port| rig.up(port, 0, ANY));
                rig.step();
            }
            for _ in 0..life * 3 {
                while rig.guests[0].send(0, &frame(ALL, mac(0), id, 60)) {
                    id += 1;
                }
                rig.step();
                seen.extend(rig.receive_all(1).iter().map(|f| id_of(f)));
            }
            // The switch is gone between two bursts, whatever stands in the rings.
            guests = std::mem::take(&mut rig.guests);
        }
        let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
        rig.guests = guests;
        (0..2).for_each(|port| rig.up(port, 0, ANY));
        for _ in 0..2000 {
            rig.step();
            seen.extend(rig.receive_all(1).iter().map(|f| id_of(f)));
        }
        assert!(
            seen.windows(2).all(|pair| pair[0] < pair[1]),
            "{name}: frames came twice or out of order"
        );
        // A flood does not wait for room, so some of it is lost; no buffer is.
        assert!(seen.len() > 300, "{name}: {}", seen.len());
        for guest in &mut rig.guests {
            guest.reclaim_tx(0);
            guest.assert_intact();
            let counters = guest.counters();
            assert_eq!(
                counters.tx_chains, counters.tx_done,
                "{name}: a transmit buffer never came back"
            );
        }
    }
}
