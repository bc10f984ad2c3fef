//! Claims by a guest and by the wire to an address that the other has.

use super::setup::*;
use super::*;
use crate::mac::dispute::GAP;
use crate::mac::entry::Kind;

#[test]
fn first_frame_from_an_address_behind_the_uplink_makes_nothing_stick() {
    let mut rig = Rig::new();
    let gateway = C;
    rig.wire(ALL, gateway);
    // A thief at full rate, and a gateway that says something three times a second.
    for tick in 0..10_000 {
        rig.at(tick);
        if tick % 300 == 299 {
            assert_eq!(rig.wire(ALL, gateway), FLOOD_2);
        }
        for _ in 0..10 {
            assert_eq!(rig.send(&sticky(GUEST), ALL, gateway, 0), SPOOFED);
        }
    }
    assert_eq!(rig.port_of(gateway), Some(UPLINK));
    assert_eq!(
        rig.send(&sticky(GUEST), gateway, A, 0),
        Action::Unicast(UPLINK),
        "and its own address it may have"
    );
}

#[test]
fn guest_that_was_migrated_here_keeps_its_address() {
    let mut rig = Rig::new();
    rig.wire(ALL, A);
    rig.macs.start(&sticky(GUEST), 0);
    // As QEMU announces it.
    let announced = [0, 50, 200, 450, 800].map(|ms: u32| 1000 + ms * 1_000_000 / (1 << TICK_SHIFT));
    let passed = announced.map(|tick| rig.at(tick).send(&sticky(GUEST), ALL, A, 0));
    assert_eq!(passed, [SPOOFED, SPOOFED, SPOOFED, FLOOD_2, FLOOD_2]);
    assert_eq!(rig.port_of(A), Some(GUEST));
    assert_eq!(rig.macs.moves(GUEST).n_won, 1);
    assert_eq!(
        rig.send(&sticky(GUEST), ALL, B, 0),
        SPOOFED,
        "it is the guest's own now"
    );
}

#[test]
fn guest_that_has_run_for_a_while_takes_no_address_that_the_wire_uses_now_and_then() {
    let mut rig = Rig::new();
    rig.macs.start(&sticky(GUEST), 0);
    // A gateway that says something each 20 s.
    for tick in 6 * SECOND..200 * SECOND {
        let now = tick / SECOND;
        if tick % (20 * SECOND) == 6 * SECOND {
            rig.at(tick).wire_at(ALL, C, now);
        }
        assert_eq!(rig.at(tick).send(&sticky(GUEST), ALL, C, now), SPOOFED);
    }
    assert_eq!((rig.port_of(C), rig.macs.pins()), (Some(UPLINK), vec![]));
    // Its queues start once more, which makes it no other guest.
    rig.macs.rest(GUEST);
    rig.macs.start(&sticky(GUEST), 200);
    rig.wire_at(ALL, C, 200);
    for n in 1..5 {
        assert_eq!(
            rig.at(200 * SECOND + n * GAP)
                .send(&sticky(GUEST), ALL, C, 200),
            SPOOFED
        );
    }
    assert_eq!(
        rig.send(&sticky(GUEST), C, A, 200),
        Action::Unicast(UPLINK),
        "and its own address it may have"
    );
}

#[test]
fn guest_that_was_moved_here_and_booted_has_its_address_when_it_is_used_nowhere_else() {
    let mut rig = Rig::new();
    rig.wire(ALL, A);
    rig.macs.start(&sticky(GUEST), 1);
    let passed = |rig: &mut Rig, now: u32| {
        let sent = (0..4).map(|n| {
            rig.at(now * SECOND + n * GAP)
                .send(&sticky(GUEST), ALL, A, now)
        });
        sent.filter(|&action| action == FLOOD_2).count()
    };
    assert_eq!([20, 29, 30].map(|now| passed(&mut rig, now)), [0, 0, 2]);
    assert_eq!(rig.port_of(A), Some(GUEST));
}

#[test]
fn reflected_broadcasts_take_no_address_away() {
    let mut rig = Rig::new();
    for tick in (0..20_000).step_by(100) {
        rig.at(tick);
        for _ in 0..20 {
            assert_eq!(rig.send(&sticky(GUEST), ALL, A, 0), FLOOD_2);
        }
        for delay in 0..20 {
            assert_eq!(rig.at(tick + delay).wire(ALL, A), SPOOFED);
        }
    }
    // The last of them, and nothing more from the guest for long.
    for delay in 0..GAP {
        rig.at(20_000 + delay).wire(ALL, A);
    }
    assert_eq!(rig.at(30_000).wire(A, C), Action::Unicast(GUEST));
    assert_eq!(rig.macs.moves(GUEST), Default::default());
}

#[test]
fn silent_guest_loses_its_address_to_three_frames_and_wins_it_back() {
    let mut rig = Rig::new();
    rig.send(&sticky(GUEST), ALL, A, 0);
    rig.wire(ALL, C);
    assert_eq!(rig.at(1000).wire(C, A), SPOOFED);
    assert!(rig.row(A).is_disputed);
    assert_eq!(rig.at(1000 + GAP).wire(ALL, A), SPOOFED);
    assert_eq!(rig.at(1000 + 2 * GAP).wire(ALL, A), FLOOD_2);
    assert_eq!(
        (rig.port_of(A), rig.row(A).kind, rig.row(A).is_disputed),
        (Some(UPLINK), Kind::Learned, false)
    );
    assert_eq!(rig.macs.moves(GUEST).n_lost, 1);
    assert_eq!(
        rig.send(&sticky(GUEST), ALL, B, 0),
        SPOOFED,
        "it may have no other one"
    );
    assert_eq!(rig.macs.pins(), [(GUEST, 2, A)]);
    // Back, the same way: what the wire still says ends what the guest claims.
    for tick in [2000, 2000 + GAP] {
        assert_eq!(rig.at(tick).send(&sticky(GUEST), ALL, A, 0), SPOOFED);
    }
    assert_eq!(rig.at(2000 + GAP + 1).wire(ALL, A), FLOOD_2);
    for n in 2..4 {
        assert_eq!(
            rig.at(2000 + n * GAP).send(&sticky(GUEST), ALL, A, 0),
            SPOOFED
        );
    }
    assert_eq!(
        rig.at(2000 + 4 * GAP).send(&sticky(GUEST), ALL, A, 0),
        FLOOD_2
    );
    assert_eq!(
        (rig.port_of(A), rig.macs.moves(GUEST).n_won),
        (Some(GUEST), 1)
    );
}

#[test]
fn guest_that_sends_by_what_is_remembered_is_heard() {
    let mut rig = Rig::new();
    rig.send(&sticky(GUEST), ALL, A, 0);
    rig.wire(ALL, C);
    rig.send(&sticky(GUEST), C, A, 0);
    for tick in (GAP..100 * GAP).step_by(GAP as usize) {
        assert_eq!(rig.at(tick).wire(ALL, A), SPOOFED);
        // One flow, which is in the cache of the core.
        assert_eq!(rig.send(&sticky(GUEST), C, A, 0), Action::Unicast(UPLINK));
    }
    assert_eq!(rig.port_of(A), Some(GUEST));
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn claims_make_few_of_the_holders_frames_slow() {
    let mut rig = Rig::new();
    rig.lookup.make_room();
    rig.send(&sticky(GUEST), ALL, A, 0);
    rig.wire(ALL, C);
    let misses = |rig: &Rig| {
        crate::cache::tally::FlowCounters::new(&rig.lookup.flows, 0, [&*rig.lookup.tally]).misses
    };
    let before = misses(&rig);
    for n in 0..100_000u32 {
        // 954 ticks: a second.
        rig.at(n * 954 / 100_000).wire(ALL, A);
        rig.send(&sticky(GUEST), C, A, 0);
    }
    let of_guest = misses(&rig) - before - 100_000;
    assert!(of_guest < 10, "{of_guest} of 100,000 frames in a second");
}

#[test]
fn address_of_the_topology_is_never_lost_while_its_port_takes_frames() {
    let mut rig = Rig::new();
    let fixed = port(GUEST, SourcePolicy::Fixed(A));
    rig.send(&fixed, ALL, A, 0);
    for tick in (0..100_000).step_by(7) {
        assert_eq!(rig.at(tick).wire(ALL, A), SPOOFED);
    }
    assert_eq!(rig.wire(A, C), Action::Unicast(GUEST));
}

#[test]
fn guest_of_any_address_takes_none_from_the_wire_by_one_frame_and_loses_none() {
    let mut rig = Rig::new();
    let guest = Ingress {
        port: GUEST,
        network: 2,
        ..unbounded(GUEST)
    };
    rig.wire(ALL, C);
    assert_eq!(
        rig.at(1000).send(&guest, ALL, C, 0),
        FLOOD_2,
        "it may send from it"
    );
    assert_eq!(rig.port_of(C), Some(UPLINK));
    rig.send(&guest, ALL, A, 0);
    assert_eq!(
        rig.at(2000).wire(ALL, A),
        FLOOD_2,
        "what comes back is what the policy allows"
    );
    assert_eq!(rig.port_of(A), Some(GUEST));
}

#[test]
fn fresh_guest_takes_no_address_that_another_one_was_granted() {
    let mut rig = Rig::new();
    let owner = port(1, SourcePolicy::Learn(4));
    rig.send(&owner, ALL, A, 0);
    for n in 0..20 {
        assert_eq!(rig.at(1000 + n * GAP).send(&sticky(0), ALL, A, 0), SPOOFED);
        assert_eq!(rig.send(&owner, ALL, A, 0), FLOOD_0);
    }
    rig.send(&unbounded(2), ALL, B, 0);
    assert_eq!(
        rig.send(&sticky(0), ALL, B, 0),
        FLOOD_0,
        "one that may have any has a right to none"
    );
}
