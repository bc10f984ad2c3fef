//! Addresses that a guest has taken from the wire and may have to give back.

use super::setup::*;
use super::*;
use crate::mac::dispute::GAP;
use crate::mac::owner::Owners;

#[test]
fn gateway_that_was_silent_when_a_young_guest_took_its_address_gets_it_back_by_speaking() {
    let mut rig = with_neighbour();
    rig.take_from_wire(C);
    assert_eq!(
        rig.port_of(C),
        Some(GUEST),
        "as a guest that was migrated here"
    );
    // What the fabric sends back, and what is for everybody, proves nothing while the guest sends;
    // the guest is never silent.
    let mut back_at = None;
    for tick in 4 * GAP..4 * GAP + 3 * SECOND {
        let now = tick / SECOND;
        let own = rig.at(tick).send(&sticky(GUEST), B, C, now);
        if tick < 4 * GAP + SECOND {
            rig.wire_at(ALL, C, now);
            rig.wire_at(numbered(9), C, now);
            rig.wire_at(C, C, now);
            assert_eq!(own, Action::Unicast(4));
        } else if tick % 200 == 0 && rig.wire_at(B, C, now) == Action::Unicast(4) {
            back_at = back_at.or(Some(tick));
        }
    }
    assert!(
        back_at.is_some_and(|at| at < 4 * GAP + SECOND + 800),
        "{back_at:?}"
    );
    assert_eq!(rig.port_of(C), Some(UPLINK));
    assert_eq!(
        (rig.macs.moves(GUEST).n_won, rig.macs.moves(GUEST).n_lost),
        (1, 1)
    );
    // Silences as short as that one give it nothing any more, whatever guest is there by then.
    for is_new in [false, true] {
        if is_new {
            rig.macs.rest(GUEST);
            rig.macs.unpin(GUEST);
            rig.macs.start(&sticky(GUEST), 20);
        }
        let now = 10 + 10 * u32::from(is_new);
        rig.wire_at(ALL, C, now);
        // Of a new guest nothing under half a minute is silence, of the thief itself five seconds
        // are.
        let seconds = if is_new { 29 } else { 4 };
        for n in 0..seconds * 5 {
            assert_eq!(
                rig.at(now * SECOND + n * GAP)
                    .send(&sticky(GUEST), ALL, C, now + n / 5),
                SPOOFED
            );
        }
    }
}

#[test]
fn guest_that_names_other_memory_on_trial_keeps_nothing_of_the_gateways() {
    let mut rig = with_neighbour();
    rig.take_from_wire(C);
    for round in 0..100 {
        // Before three frames of the gateway's can come; and the next guest speaks at once.
        let tick = 5 * GAP + round * 2 * GAP;
        rig.macs.rest(GUEST);
        rig.macs.unpin(GUEST);
        assert_eq!(rig.port_of(C), Some(UPLINK), "round {round}");
        rig.macs.start(&sticky(GUEST), tick / SECOND);
        for tick in tick..tick + GAP {
            assert_eq!(
                rig.at(tick).send(&sticky(GUEST), B, C, tick / SECOND),
                SPOOFED,
                "round {round}"
            );
        }
        rig.macs.age(tick / SECOND, 300);
        assert_eq!(
            rig.at(tick + GAP).wire_at(B, C, tick / SECOND),
            Action::Unicast(4)
        );
    }
    assert_eq!(
        rig.send(&sticky(GUEST), ALL, A, 0),
        FLOOD_2,
        "one that has an address of its own has it at once"
    );
}

#[test]
fn guest_that_rests_does_not_sit_out_its_trial() {
    let mut rig = with_neighbour();
    rig.take_from_wire(C);
    rig.macs.rest(GUEST);
    // The gateway goes on, and nobody notices anything.
    rig.wire_at(ALL, C, 1);
    for now in 1..=300 {
        rig.macs.age(now, 300);
    }
    rig.macs.start(&sticky(GUEST), 300);
    let at = 300 * SECOND;
    for n in 0..10 {
        // However often the guest speaks.
        rig.at(at + n * 2 * GAP)
            .send(&sticky(GUEST), ALL, C, 300 + n / 5);
        rig.at(at + (n * 2 + 1) * GAP).wire_at(B, C, 300 + n / 5);
    }
    assert_eq!(rig.port_of(C), Some(UPLINK));
    assert_eq!(rig.macs.moves(GUEST).n_lost, 1);
}

#[test]
fn guest_that_rests_now_and_then_keeps_nothing_of_the_gateways() {
    let mut rig = with_neighbour();
    rig.take_from_wire(C);
    let mut n_stolen = 0;
    for round in 1..400 {
        let tick = 5 * GAP + round * 50;
        let now = tick / SECOND;
        rig.macs.age(now, 300);
        rig.macs.rest(GUEST);
        rig.at(tick).wire_at(B, C, now);
        rig.macs.start(&sticky(GUEST), now);
        for n in 0..10 {
            rig.at(tick + n * 4).send(&sticky(GUEST), ALL, C, now);
        }
        n_stolen += u32::from(rig.port_of(C) != Some(UPLINK));
    }
    assert_eq!(n_stolen, 0, "of 399 times");
}

#[test]
fn guest_that_moved_on_while_on_trial_and_came_back_has_its_address_when_it_is_silent_elsewhere() {
    let mut rig = with_neighbour();
    rig.take_from_wire(C);
    rig.macs.rest(GUEST);
    rig.wire_at(B, C, 10);
    assert_eq!(rig.port_of(C), Some(UPLINK));
    rig.macs.start(&sticky(GUEST), 20);
    for n in 0..4 {
        rig.at(20 * SECOND + n * GAP)
            .send(&sticky(GUEST), ALL, C, 20);
    }
    assert_eq!(rig.port_of(C), Some(GUEST));
}

#[test]
fn guest_that_ends_when_it_has_stood_its_trial_leaves_its_address_to_anybody() {
    let mut rig = Rig::new();
    rig.take_from_wire(A);
    rig.macs.age(61, 300);
    rig.macs.rest(GUEST);
    rig.macs.unpin(GUEST);
    assert_eq!(rig.port_of(A), None);
    rig.macs.start(&sticky(GUEST), 62);
    assert_eq!(
        rig.at(62 * SECOND).send(&sticky(GUEST), ALL, A, 62),
        FLOOD_2
    );
}

#[test]
fn frame_that_came_back_from_the_way_to_a_guest_that_rests_proves_nothing() {
    let mut rig = Rig::new();
    let paused = Ingress {
        port: 4,
        network: 2,
        ..sticky(4)
    };
    rig.send(&paused, ALL, B, 0);
    rig.take_from_wire(A);
    rig.macs.rest(4);
    for tick in SECOND..3 * SECOND {
        assert_eq!(
            rig.at(tick).send(&sticky(GUEST), B, A, tick / SECOND),
            Action::Unicast(UPLINK)
        );
        if tick % 200 == 0 {
            assert_eq!(rig.wire_at(B, A, tick / SECOND), SPOOFED);
        }
    }
    assert_eq!(rig.port_of(A), Some(GUEST));
}

#[test]
fn port_that_lost_on_trial_needs_a_longer_silence_each_time_whatever_it_took() {
    let mut owners = Owners::new(2);
    let silence = |owners: &Owners, key, now| owners.silence_needed(0, key, now);
    owners.begin(0, 100);
    assert_eq!(
        [silence(&owners, 7, 101), silence(&owners, 7, 105)],
        [0, 30]
    );
    assert!(owners.try_pin(0, 7));
    for (n, own) in [(1, 5), (2, 10), (3, 20), (4, 40), (9, 160)] {
        owners = Owners::new(2);
        owners.try_pin(0, 7);
        (0..n).for_each(|_| owners.doubt(0, 100));
        assert_eq!(
            (silence(&owners, 7, 101), silence(&owners, 8, 101)),
            (own, own.max(30)),
            "after {n}"
        );
        owners.unpin(0);
        owners.begin(0, 110);
        assert_eq!(
            silence(&owners, 7, 111),
            own.max(30),
            "no guest there is young"
        );
        owners.try_pin(0, 7);
        assert_eq!(silence(&owners, 7, 3701), 0, "and an hour later it is");
    }
}

#[test]
fn guest_that_was_migrated_and_lost_its_address_to_a_liar_has_it_back_when_that_one_is_silent() {
    let mut rig = with_neighbour();
    rig.take_from_wire(A);
    for tick in SECOND..3 * SECOND {
        rig.at(tick).send(&sticky(GUEST), B, A, tick / SECOND);
        if tick % 200 == 0 {
            rig.wire_at(B, A, tick / SECOND);
        }
    }
    assert_eq!(
        (rig.port_of(A), rig.macs.pins()),
        (Some(UPLINK), vec![(GUEST, 2, A)])
    );
    let back = (3 * SECOND..20 * SECOND)
        .find(|&tick| rig.at(tick).send(&sticky(GUEST), B, A, tick / SECOND) == Action::Unicast(4));
    assert!(back.is_some_and(|tick| tick < 9 * SECOND), "{back:?}");
}

#[test]
fn trial_ends_and_the_address_is_the_guests_as_any_other() {
    let mut rig = with_neighbour();
    rig.take_from_wire(A);
    for tick in 61 * SECOND..64 * SECOND {
        let now = tick / SECOND;
        assert_eq!(
            rig.at(tick).send(&sticky(GUEST), B, A, now),
            Action::Unicast(4)
        );
        assert_eq!(rig.wire_at(B, A, now), SPOOFED);
    }
    assert_eq!(
        (rig.port_of(A), rig.macs.pins()),
        (Some(GUEST), vec![(GUEST, 2, A)])
    );
}
