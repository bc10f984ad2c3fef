//! Addresses of guests that rest, start anew or end.

use super::setup::*;
use super::*;
use crate::mac::dispute::GAP;

#[test]
fn address_of_a_port_that_rests_may_live_behind_the_uplink_and_comes_back() {
    for own in [SourcePolicy::Fixed(A), SourcePolicy::Sticky] {
        let mut rig = Rig::new();
        let (guest, neighbour) = (
            port(GUEST, own),
            Ingress {
                port: 4,
                network: 2,
                ..any(4)
            },
        );
        rig.send(&guest, ALL, A, 0);
        rig.send(&neighbour, ALL, B, 0);
        assert_eq!(rig.send(&neighbour, A, B, 0), Action::Unicast(GUEST));
        rig.macs.rest(GUEST);
        for _ in 0..2 {
            assert_eq!(
                rig.send(&neighbour, A, B, 0),
                Action::Unicast(UPLINK),
                "it may be there, and nowhere else"
            );
        }
        assert_eq!(
            rig.wire(A, C),
            Action::Unicast(GUEST),
            "not back to where it comes from"
        );
        assert_eq!(rig.wire(B, A), Action::Unicast(4));
        assert_eq!(
            (rig.port_of(A), rig.row(A).away_from),
            (Some(UPLINK), Some(GUEST))
        );
        assert_eq!(rig.send(&neighbour, A, B, 0), Action::Unicast(UPLINK));
        assert_eq!(rig.wire(A, C), Action::Drop(DropReason::SamePort));
        assert_eq!(rig.macs.moves(GUEST).n_away, 1);
        // Nobody here may have it.
        for source in [
            SourcePolicy::Sticky,
            SourcePolicy::Learn(9),
            SourcePolicy::Any(9),
        ] {
            let thief = Ingress {
                source,
                ..neighbour
            };
            for n in 0..10 {
                let action = rig.at(1000 + n * GAP).send(&thief, ALL, A, 0);
                assert_eq!(action, SPOOFED, "{source:?}");
            }
        }
        rig.macs.age(1_000_000, 300);
        rig.macs.forget_port(UPLINK);
        rig.macs.start(&guest, 0);
        assert_eq!((rig.port_of(A), rig.row(A).away_from), (Some(GUEST), None));
        rig.send(&neighbour, ALL, B, 0);
        assert_eq!(rig.send(&neighbour, A, B, 0), Action::Unicast(GUEST));
        assert_eq!(rig.wire(B, A), SPOOFED);
        assert_eq!(rig.send(&guest, B, A, 0), Action::Unicast(4));
        assert_eq!(rig.macs.n_addresses(GUEST), 1);
        assert_eq!(rig.macs.n_addresses(UPLINK), 0);
    }
}

#[test]
fn address_that_was_lost_is_not_won_by_starting_anew() {
    let mut rig = Rig::new();
    rig.send(&sticky(GUEST), ALL, A, 0);
    for n in 1..4 {
        rig.at(n * GAP).wire(ALL, A);
    }
    assert_eq!(rig.port_of(A), Some(UPLINK));
    rig.macs.rest(GUEST);
    rig.macs.start(&sticky(GUEST), 0);
    assert_eq!(rig.port_of(A), Some(UPLINK));
    assert_eq!(rig.send(&sticky(GUEST), ALL, A, 0), SPOOFED);
}

#[test]
fn address_of_a_guest_that_ended_is_free_wherever_it_is() {
    let mut rig = Rig::new();
    let other = Ingress {
        port: 4,
        network: 2,
        ..sticky(4)
    };
    rig.send(&sticky(GUEST), ALL, A, 0);
    rig.macs.rest(GUEST);
    rig.wire(ALL, A);
    rig.macs.unpin(GUEST);
    assert_eq!((rig.port_of(A), rig.macs.pins()), (None, vec![]));
    assert_eq!(rig.send(&other, ALL, A, 0), FLOOD_2);
    // One that stuck to two, the second after the first had lost it, stays with the second.
    let mut rig = Rig::new();
    rig.send(&sticky(GUEST), ALL, A, 0);
    for n in 1..4 {
        rig.at(n * GAP).wire(ALL, A);
    }
    rig.macs.start(&other, 0);
    for n in 5..8 {
        rig.at(n * GAP).send(&other, ALL, A, 0);
    }
    assert_eq!(rig.port_of(A), Some(4));
    rig.macs.unpin(GUEST);
    assert_eq!(rig.port_of(A), Some(4));
}
