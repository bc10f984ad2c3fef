//! Transmit queues that a guest has disabled: what it sends by them is taken, dropped and paid for.

use flowtable::DropReason;
use rig::{ALL, ANY, NO_LIMIT, Rig, STEP, bits, frame, mac, networks, options};

#[test]
fn frames_of_a_disabled_queue_are_received_dropped_and_learned_nothing_from() {
    let mut rig = Rig::simple(2, &options());
    rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    rig.set_disabled(0, 0, ANY, true);
    for id in 0..40 {
        assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), id, 500)));
    }
    // An unknown address and a runt are no exceptions to anything.
    assert!(rig.guests[0].send(0, &frame(mac(1), mac(7), 0, 60)));
    assert!(rig.guests[0].send(0, &[0; 5]));
    rig.settle();
    let counters = rig.counters(0);
    assert_eq!((counters.rx_frames, counters.rx_bytes), (42, 40 * 500 + 60));
    assert_eq!(counters.drops[DropReason::QueueDisabled.index()], 41);
    assert_eq!(
        counters.drops[DropReason::Runt.index()],
        1,
        "it keeps the reason of its own"
    );
    assert!(rig.receive_all(1).is_empty());
    rig.guests[0].reclaim_tx(0);
    assert_eq!(
        rig.guests[0].counters().tx_done,
        42,
        "every buffer came back"
    );
    assert_eq!(
        rig.cores
            .macs()
            .rows()
            .iter()
            .filter(|row| row.port == 0)
            .count(),
        0
    );
    // Enabled again, nothing of that comes late, and what is sent from now on arrives.
    rig.set_disabled(0, 0, ANY, false);
    assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), 77, 60)));
    rig.settle();
    assert_eq!(rig.receive_ids(1), [77]);
    rig.assert_balanced();
}

#[test]
fn frames_of_a_disabled_queue_are_paid_for_out_of_their_vms_limit() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.limit(&[0], bits(8_000_000), NO_LIMIT); // a byte a microsecond
    rig.plug_all(2, &options());
    rig.set_disabled(0, 0, ANY, true);
    (0..200).for_each(|id| assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), id, 1000))));
    let dropped = |rig: &Rig| rig.drops(0, DropReason::QueueDisabled);
    (0..100_000_000 / STEP).for_each(|_| _ = rig.step());
    assert!(
        (90..=115).contains(&dropped(&rig)),
        "{} frames of 1,000 bytes in 100 ms",
        dropped(&rig)
    );
    (0..150_000_000 / STEP).for_each(|_| _ = rig.step());
    assert_eq!(dropped(&rig), 200);
    rig.assert_balanced();
}
