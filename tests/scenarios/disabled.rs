//! Transmit queues that a guest has disabled: what it sends by them is taken, dropped and paid for.

use flowtable::{DropReason, SourcePolicy};
use pmd::limits::{LimitOptions, VmLimits};
use rig::{ALL, Rig, STEP, frame, id_of, mac, networks, options};
use std::sync::Arc;

const ANY: SourcePolicy = SourcePolicy::Learn(u32::MAX);

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
        rig.fleet
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
    assert_eq!(
        rig.receive_all(1)
            .iter()
            .map(|frame| id_of(frame))
            .collect::<Vec<_>>(),
        [77]
    );
    rig.assert_balanced();
}

#[test]
fn frames_of_a_disabled_queue_are_paid_for_out_of_their_vms_limit() {
    let bits = Some(8_000_000); // a byte a microsecond
    let limit = LimitOptions {
        bits_per_sec: bits,
        packets_per_sec: None,
        burst_bytes: None,
        queue: None,
    };
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    let none = LimitOptions {
        bits_per_sec: None,
        ..limit
    };
    rig.fleet.limit(&[0], &Arc::new(VmLimits::new(limit, none)));
    (0..2).for_each(|_| _ = rig.plug(0, ANY, options()));
    rig.set_disabled(0, 0, ANY, true);
    (0..200).for_each(|id| assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), id, 1000))));
    let dropped = |rig: &Rig| rig.counters(0).drops[DropReason::QueueDisabled.index()];
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
