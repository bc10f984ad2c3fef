//! Bounds of a port's own, of the table and of a network.

use super::setup::*;
use super::*;
use crate::mac::dispute::GAP;
use crate::mac::entry::{Kind, Learned};

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn no_frame_passes_from_an_address_that_a_port_may_not_have_however_many_there_are() {
    for (source, own, n_owned) in [
        (SourcePolicy::Sticky, numbered(0), 1),
        (SourcePolicy::Fixed(A), A, 1),
        (SourcePolicy::Learn(4), numbered(0), 4),
    ] {
        let mut rig = Rig::new();
        let from = port(0, source);
        rig.send(&from, ALL, own, 0);
        let passed: Vec<_> = (0..1_000_000)
            .filter(|&n| {
                !matches!(
                    rig.send(&from, B, numbered(n % 500_000), 0),
                    Action::Drop(_)
                )
            })
            .collect();
        let allowed = |n: &u32| source != SourcePolicy::Fixed(A) && n % 500_000 < n_owned;
        assert!(
            passed.iter().all(allowed),
            "{source:?}: {} passed",
            passed.len()
        );
        assert_eq!(rig.macs.n_addresses(0), n_owned);
        assert_eq!(rig.send(&from, ALL, own, 0), FLOOD_0);
    }
}

#[test]
fn full_port_does_not_send_from_an_address_known_elsewhere() {
    let mut rig = Rig::new();
    let from = port(0, SourcePolicy::Learn(2));
    rig.send(&unbounded(1), ALL, C, 0);
    for mac in [A, B] {
        assert_eq!(rig.send(&from, ALL, mac, 0), FLOOD_0);
    }
    assert_eq!(rig.send(&from, ALL, C, 0), SPOOFED);
    assert_eq!(rig.macs.find(0, C).unwrap().port, 1);
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn budget_of_moves_never_lets_a_bounded_port_send_from_what_it_could_not_take() {
    let mut rig = Rig::new();
    let from = port(0, SourcePolicy::Learn(5000));
    for n in 0..4000 {
        rig.send(&unbounded(1), ALL, numbered(n), 0);
    }
    let passed = (0..4000)
        .filter(|&n| rig.send(&from, ALL, numbered(n), 0) == FLOOD_0)
        .count();
    let owned = rig.macs.rows().iter().filter(|row| row.port == 0).count();
    assert_eq!(
        passed, owned,
        "frames that passed, and addresses that are the port's"
    );
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn wire_of_more_stations_than_can_be_learned_loses_nothing() {
    let mut rig = Rig::new();
    rig.send(&any(GUEST), ALL, A, 0);
    let uplink = port(UPLINK, SourcePolicy::Any(500));
    let mut header = Header::default();
    header.0[..6].copy_from_slice(&A);
    header.0[12..18].copy_from_slice(&[0x81, 0, 0, 100, 8, 0]);
    for n in 0..300_000u32 {
        header.0[6..12].copy_from_slice(&numbered(n));
        let mut actions = [Action::Flood(9)];
        rig.lookup
            .decide(&uplink, &[header], &[64], &mut actions, 0);
        assert_eq!(actions[0], Action::Unicast(GUEST), "station {n}");
    }
    assert_eq!(rig.macs.n_addresses(UPLINK), 500);
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn wire_that_fills_the_table_leaves_guests_their_addresses() {
    let mut rig = Rig::new();
    for n in 0..100_000 {
        assert_eq!(rig.wire(ALL, numbered(n)), FLOOD_2);
    }
    assert_eq!(
        rig.macs.learn(2, C, UPLINK, Kind::Learned, u32::MAX, 0),
        Learned::NotNow,
        "not a slot is free"
    );
    assert_eq!(rig.send(&sticky(GUEST), ALL, A, 0), FLOOD_2);
    assert_eq!(rig.wire(A, C), Action::Unicast(GUEST));
    assert_eq!(rig.send(&sticky(GUEST), ALL, B, 0), SPOOFED);
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn stations_of_one_network_leave_those_of_another_their_place() {
    for now in [0, 1] {
        let mut rig = Rig::new();
        let uplink = port(UPLINK, SourcePolicy::Any(500));
        let mut wire = |tag: &[u8], src: [u8; 6]| {
            let mut header = Header::default();
            header.0[..6].copy_from_slice(&ALL);
            header.0[6..12].copy_from_slice(&src);
            header.0[12..12 + tag.len()].copy_from_slice(tag);
            let mut actions = [Action::Flood(9)];
            rig.lookup
                .decide(&uplink, &[header], &[64], &mut actions, now);
            actions[0]
        };
        // The port has all that it may, or may learn no more in this second.
        for n in 0..200_000 {
            assert_eq!(wire(&[8, 0], numbered(n)), Action::Flood(3));
        }
        for n in 0..200 {
            assert_eq!(wire(&[0x81, 0, 0, 100, 8, 0], numbered(n)), FLOOD_2);
        }
        rig.send(&sticky(GUEST), ALL, A, now);
        let unknown = (0..200)
            .filter(|&n| rig.send(&sticky(GUEST), numbered(n), A, now) != Action::Unicast(UPLINK));
        assert_eq!(unknown.count(), 0);
        // What is forgotten leaves its place to others.
        rig.macs.age(1000, 300);
        assert!(rig.macs.reserves().has_room(2) && rig.macs.reserves().has_room(3));
        assert_eq!(rig.macs.n_addresses(UPLINK), 0);
    }
}

#[test]
fn addresses_of_one_network_that_move_leave_those_of_another_their_turn() {
    let mut rig = Rig::new();
    let guest = port(GUEST, SourcePolicy::Learn(4));
    rig.send(&guest, ALL, A, 0);
    // Stations of the other network use up what the port has of this second.
    while rig.macs.may_move(UPLINK, 0) {}
    for n in 1..4 {
        rig.at(n * GAP).wire(ALL, A);
    }
    assert_eq!(rig.port_of(A), Some(UPLINK));
    let taken = (0..1000)
        .filter(|_| rig.macs.reserves().may_move(3, 0))
        .count();
    assert!((1..100).contains(&taken), "{taken}: that is bounded too");
}
