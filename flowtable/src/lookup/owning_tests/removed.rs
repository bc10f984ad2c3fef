//! Ports and networks that are gone, and ports that may have other addresses than before.

use super::setup::*;
use super::*;
use crate::mac::dispute::GAP;
use crate::mac::owner::Moves;

fn neighbour() -> Ingress {
    Ingress {
        port: 4,
        network: 2,
        ..any(4)
    }
}

/// Whoever has the id next, in another network.
fn next(source: SourcePolicy) -> Ingress {
    Ingress {
        network: 3,
        generation: 100,
        ..port(GUEST, source)
    }
}

#[test]
fn flow_to_a_port_that_is_gone_is_decided_anew() {
    let mut rig = with_neighbour();
    rig.send(&sticky(GUEST), ALL, A, 0);
    for _ in 0..3 {
        assert_eq!(rig.send(&neighbour(), A, B, 0), Action::Unicast(GUEST));
    }
    assert_eq!(rig.macs.remove_port(GUEST), 1);
    assert_eq!(rig.send(&neighbour(), A, B, 0), FLOOD_2);
    assert_eq!((rig.port_of(A), rig.macs.pins()), (None, Vec::new()));
    rig.send(&next(SourcePolicy::Sticky), ALL, C, 0);
    assert_eq!(rig.send(&neighbour(), A, B, 0), FLOOD_2);
    assert_eq!(rig.send(&neighbour(), C, B, 0), FLOOD_2);
}

/// A former owner's address that is behind the uplink while it rested is not brought home to the
/// next owner of its id.
#[test]
fn address_that_was_away_does_not_come_back_to_another() {
    for own in [SourcePolicy::Fixed(A), SourcePolicy::Sticky] {
        let mut rig = with_neighbour();
        rig.send(&port(GUEST, own), ALL, A, 0);
        rig.macs.rest(GUEST);
        rig.wire(B, A);
        assert_eq!(rig.row(A).away_from, Some(GUEST));
        rig.macs.remove_port(GUEST);
        assert_eq!(rig.port_of(A), None);
        assert_eq!(rig.macs.n_addresses(UPLINK), 0);
        rig.macs.rest(GUEST);
        rig.macs.start(&next(SourcePolicy::Sticky), 0);
        assert!(rig.macs.rows().iter().all(|row| row.port != GUEST));
        assert_eq!(rig.macs.moves(GUEST), Moves::default());
        // It is the wire's like any other.
        rig.wire(B, A);
        assert_eq!((rig.port_of(A), rig.row(A).away_from), (Some(UPLINK), None));
    }
}

#[test]
fn claims_of_a_former_owner_count_for_nobody() {
    let mut rig = with_neighbour();
    rig.wire(ALL, A);
    let claimant = Ingress {
        network: 2,
        ..any(GUEST)
    };
    for n in 1..3 {
        rig.at(n * GAP).send(&claimant, ALL, A, 0);
    }
    rig.macs.remove_port(GUEST);
    rig.at(3 * GAP).send(&claimant, ALL, A, 0);
    assert_eq!(rig.port_of(A), Some(UPLINK), "it was the first of three");
    for n in 4..6 {
        rig.at(n * GAP).send(&claimant, ALL, A, 0);
    }
    assert_eq!(rig.port_of(A), Some(GUEST));
}

#[test]
fn trials_end_with_either_port() {
    let mut rig = with_neighbour();
    rig.take_from_wire(A);
    assert_eq!(
        (rig.port_of(A), rig.macs.on_trial_of(GUEST)),
        (Some(GUEST), Some(UPLINK))
    );
    rig.macs.remove_port(UPLINK);
    assert_eq!(rig.macs.on_trial_of(GUEST), None, "whoever has the id next");
    assert_eq!(rig.port_of(A), Some(GUEST));

    let mut rig = with_neighbour();
    rig.take_from_wire(A);
    rig.macs.remove_port(GUEST);
    assert_eq!(rig.macs.on_trial_of(GUEST), None);
    assert_eq!(rig.macs.moves(GUEST), Moves::default());
    rig.macs.unpin(GUEST);
    assert_eq!(
        rig.port_of(A),
        None,
        "it was removed, not handed to the uplink"
    );
}

#[test]
fn network_that_is_gone_leaves_no_address() {
    let mut rig = with_neighbour();
    rig.send(&sticky(GUEST), ALL, A, 0);
    rig.send(&next(SourcePolicy::Learn(9)), ALL, A, 0);
    rig.wire(ALL, C);
    assert_eq!(rig.macs.remove_network(2), 3);
    let rows = rig.macs.rows();
    assert!(rows.iter().all(|row| row.network == 3) && rows.len() == 1);
    assert_eq!(rig.macs.pins(), Vec::new());
    assert_eq!(rig.macs.n_addresses(UPLINK), 0);
}

#[test]
fn address_that_a_port_may_not_have_any_more_is_gone_and_others_stay() {
    use SourcePolicy::{Any, Fixed, Learn, Sticky};
    let (a, b) = (A, numbered(7));
    for (before, now, n_gone, a_stays) in [
        (Sticky, Fixed(b), 1, false),
        (Sticky, Fixed(a), 1, false),
        (Fixed(a), Fixed(b), 1, false),
        (Fixed(a), Fixed(a), 0, true),
        (Fixed(a), Sticky, 1, false),
        (Sticky, Sticky, 0, true),
        (Learn(3), Sticky, 1, false),
        (Learn(3), Learn(9), 0, true),
        (Learn(3), Learn(2), 1, false),
        (Any(3), Any(2), 0, true),
        (Any(3), Learn(9), 1, false),
    ] {
        let mut rig = with_neighbour();
        rig.send(&port(GUEST, before), ALL, a, 0);
        assert_eq!(rig.send(&neighbour(), a, B, 0), Action::Unicast(GUEST));
        let now = Ingress {
            generation: 100,
            ..port(GUEST, now)
        };
        let case = format!("{before:?} to {:?}", now.source);
        assert_eq!(
            rig.macs.change_port(&port(GUEST, before), &now),
            n_gone,
            "{case}"
        );
        let to_a = rig.send(&neighbour(), a, B, 0);
        assert_eq!(to_a == Action::Unicast(GUEST), a_stays, "{case}");
        // What it may send from is what it may have now.
        let may = |rig: &mut Rig, mac| rig.send(&now, ALL, mac, 0) != SPOOFED;
        let (may_b, may_a) = (may(&mut rig, b), may(&mut rig, a));
        let expected = match now.source {
            Fixed(own) => (own == b, own == a),
            Sticky => (!a_stays, a_stays),
            Learn(_) | Any(_) => (true, true),
        };
        assert_eq!((may_b, may_a), expected, "{case}");
    }
}

/// A guest that goes to another network keeps the address that it had, and loses no frame for it,
/// whichever cores know of it already.
#[test]
fn sticky_address_goes_along_to_another_network() {
    let mut rig = with_neighbour();
    rig.send(&sticky(GUEST), ALL, A, 0);
    let there = next(SourcePolicy::Sticky);
    assert_eq!(rig.send(&there, ALL, A, 0), Action::Flood(3));
    assert_eq!(rig.send(&sticky(GUEST), ALL, A, 0), FLOOD_2, "another core");
    assert_eq!(rig.send(&there, ALL, C, 0), SPOOFED);
    assert_eq!(rig.macs.change_port(&sticky(GUEST), &there), 1);
    assert_eq!(rig.macs.pins(), [(GUEST, 3, A)]);
    assert_eq!(rig.port_of(A), None);
    assert_eq!(rig.macs.find(3, A).map(|found| found.port), Some(GUEST));
}
