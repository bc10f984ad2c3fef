//! Receivers whose buffers are chains of many descriptors, all of which have to be read: what one
//! burst may read.

use std::time::Instant;

use flowtable::DropReason;
use guest::Options;
use rig::{ALL, ANY, Rig, frame, mac, networks, options};

/// Receivers with a single buffer of as many descriptors as a chain may have.
const N: u16 = 30;
/// Beside them, one whose buffers are of three.
const MODEST: u16 = N + 1;

fn rig() -> Rig {
    let members: Vec<u16> = (0..N + 2).collect();
    let mut rig = Rig::new(1, members.len(), networks(&[&members]));
    for port in members {
        let (rx_ring, rx_shape) = match port {
            0 => (256, vec![2048]),
            MODEST => (256, vec![12, 500, 1100]),
            _ => (1024, vec![60; 1024]),
        };
        rig.plug(
            0,
            ANY,
            Options {
                rx_ring,
                rx_shape,
                checked: false,
                mergeable: false,
                ..options()
            },
        );
    }
    for port in 0..N + 2 {
        rig.guests[usize::from(port)].send(0, &frame(ALL, mac(port), 0, 60));
        (0..20).for_each(|_| {
            rig.settle();
            rig.drain(0..N + 2);
        });
    }
    rig
}

/// A burst with a frame for each, the modest one's last; gives how many of the others got theirs in
/// one turn, and microseconds of the turn.
fn one_turn(rig: &mut Rig, id: u64) -> (usize, f64) {
    for port in 1..=MODEST {
        assert!(rig.guests[0].send(0, &frame(mac(port), mac(0), id, 900)));
    }
    let begin = Instant::now();
    rig.step();
    let took = begin.elapsed().as_secs_f64() * 1e6;
    let n = (1..MODEST).map(|port| rig.receive_all(port).len()).sum();
    (n, took)
}

#[test]
fn burst_reads_as_many_descriptors_of_long_chains_as_of_one_such_receiver() {
    let mut rig = rig();
    let before = rig.counters(0).n_dropped();
    let mut times = Vec::new();
    for id in 0..200 {
        let (n, took) = one_turn(&mut rig, id);
        assert!(
            n <= 3,
            "{n} chains of 1,024 descriptors were read in one turn"
        );
        times.push(took);
        rig.settle();
        rig.drain(1..MODEST);
        let modest: Vec<u64> = rig.receive_ids(MODEST);
        assert_eq!(modest, [id], "behind long chains it comes all the same");
        rig.guests[0].reclaim_tx(0);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "turns with {N} receivers of long chains: median {:.0} us, max {:.0} us",
        times[100], times[199]
    );
    let counters = rig.counters(0);
    assert_eq!(
        counters.n_dropped(),
        before + counters.drops[DropReason::ReceiverFull.index()]
    );
    rig.assert_counted();
}
