//! Which port has an address: bounds of a port's own, limits of the table, guests and the wire.

use super::*;
use crate::mac::dispute::GAP;
use crate::mac::entry::{Kind, Learned, Row};
use crate::mac::owner::Owners;

const SPOOFED: Action = Action::Drop(DropReason::Spoofed);
const FLOOD_2: Action = Action::Flood(2);
/// Ticks, and a few less.
const SECOND: u32 = 953;
/// The guest in network 2, whose uplink is [`UPLINK`].
const GUEST: PortId = 5;

fn sticky(n: PortId) -> Ingress {
    port(n, SourcePolicy::Sticky)
}

fn numbered(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [2, 9, a, b, c, d]
}

impl Rig {
    /// A frame from the wire of network 2.
    fn wire(&mut self, dst: [u8; 6], src: [u8; 6]) -> Action {
        wire(self, dst, src, &[(0x8100, 100)], 64)
    }

    fn wire_at(&mut self, dst: [u8; 6], src: [u8; 6], now: u32) -> Action {
        let mut header = Header::default();
        header.0[..6].copy_from_slice(&dst);
        header.0[6..12].copy_from_slice(&src);
        header.0[12..18].copy_from_slice(&[0x81, 0, 0, 100, 8, 0]);
        let mut actions = [Action::Flood(9)];
        self.lookup
            .decide(&unbounded(UPLINK), &[header], &[64], &mut actions, now);
        actions[0]
    }

    fn at(&mut self, ticks: u32) -> &mut Self {
        self.lookup.set_time(u64::from(ticks) << TICK_SHIFT);
        self
    }

    /// The guest starts, and takes an address from the wire as one that was migrated here.
    fn take_from_wire(&mut self, mac: [u8; 6]) {
        self.wire(ALL, mac);
        self.macs.start(&sticky(GUEST), 0);
        for n in 1..4 {
            self.at(n * GAP).send(&sticky(GUEST), ALL, mac, 0);
        }
    }

    fn port_of(&self, mac: [u8; 6]) -> Option<PortId> {
        self.macs.find(2, mac).map(|found| found.port)
    }

    fn row(&self, mac: [u8; 6]) -> Row {
        self.macs
            .rows()
            .into_iter()
            .find(|row| row.mac == mac)
            .expect("a row")
    }
}

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
fn gateway_that_was_silent_when_a_young_guest_took_its_address_gets_it_back_by_speaking() {
    let mut rig = Rig::new();
    let neighbour = Ingress {
        port: 4,
        network: 2,
        ..any(4)
    };
    rig.send(&neighbour, ALL, B, 0);
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
    let mut rig = Rig::new();
    let neighbour = Ingress {
        port: 4,
        network: 2,
        ..any(4)
    };
    rig.send(&neighbour, ALL, B, 0);
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

/// A neighbour of the guest, in network 2, is known.
fn with_neighbour() -> Rig {
    let mut rig = Rig::new();
    let neighbour = Ingress {
        port: 4,
        network: 2,
        ..any(4)
    };
    rig.send(&neighbour, ALL, B, 0);
    rig
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
    let mut rig = Rig::new();
    let neighbour = Ingress {
        port: 4,
        network: 2,
        ..any(4)
    };
    rig.send(&neighbour, ALL, B, 0);
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
    let mut rig = Rig::new();
    let neighbour = Ingress {
        port: 4,
        network: 2,
        ..any(4)
    };
    rig.send(&neighbour, ALL, B, 0);
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
        // One flow, which the core has at hand.
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
        crate::cache::tally::FlowReport::new(&rig.lookup.flows, 0, [&*rig.lookup.tally]).misses
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
