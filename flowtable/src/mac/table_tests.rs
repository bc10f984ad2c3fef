//! Addresses that come, move, stay and go.

use super::*;
use crate::mac::entry::Learned;

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn table(capacity: usize) -> MacTable {
    MacTable::new(capacity, 16, [7, 11])
}

fn learn(t: &MacTable, mac: [u8; 6], port: PortId) -> Learned {
    t.learn(0, mac, port, Kind::Learned, u32::MAX, 0)
}

#[test]
fn address_is_found_in_its_own_network_alone() {
    let t = table(64);
    assert!(matches!(learn(&t, A, 3), Learned::Yes(_)));
    assert_eq!(t.find(0, A).map(|f| f.port), Some(3));
    assert_eq!(t.find(1, A), None);
    assert_eq!(t.find(0, B), None);
}

#[test]
fn move_makes_stale_what_rested_on_the_address_and_nothing_else() {
    let t = table(64);
    learn(&t, A, 1);
    learn(&t, B, 1);
    let (a, b) = (t.find(0, A).unwrap(), t.find(0, B).unwrap());
    assert!(t.move_to(a, 2, Kind::Learned, u32::MAX, 0));
    assert!(!t.holds(a.entry) && t.holds(b.entry));
    assert_eq!(t.find(0, A).unwrap().port, 2);
    assert!(
        !t.move_to(a, 3, Kind::Learned, u32::MAX, 0),
        "an old finding moves nothing"
    );
}

#[test]
fn absence_holds_until_the_address_is_entered() {
    let t = table(64);
    let absent = t.absent(0, A).unwrap();
    assert!(t.holds(absent) && t.holds(EntryRef::from_bits(absent.bits())));
    learn(&t, A, 1);
    assert!(!t.holds(absent));
    assert_eq!(t.absent(0, A).unwrap_err().port, 1);
    t.forget_port(1);
    let again = t.absent(0, A).unwrap();
    assert!(t.holds(again) && !t.holds(absent));
}

#[test]
fn what_others_learn_leaves_most_absences_alone() {
    let (t, n) = if cfg!(miri) {
        (table(1 << 10), 10)
    } else {
        (table(1 << 14), 100)
    };
    let absent: Vec<_> = (0..n)
        .map(|n| t.absent(0, [2, 1, 0, 0, 0, n]).unwrap())
        .collect();
    (0..n / 5).for_each(|n| {
        learn(&t, [2, 0, 0, 0, 0, n], 1);
    });
    assert!(absent.iter().filter(|&&absent| !t.holds(absent)).count() < usize::from(n / 10).max(2));
}

#[test]
fn static_and_sticky_addresses_cannot_be_taken_over() {
    let t = table(64);
    for (mac, kind) in [(A, Kind::Static), (B, Kind::Sticky)] {
        t.learn(0, mac, 1, kind, 9, 0);
        let found = t.find(0, mac).unwrap();
        assert!(!found.movable && !t.move_to(found, 2, Kind::Learned, u32::MAX, 0));
    }
    assert_eq!(t.age(1_000_000, 300), 0, "nor do they age");
    assert_eq!(t.forget_port(1), 0, "nor go with a connection");
    assert_eq!(t.remove_port(1), 2);
}

#[test]
fn port_keeps_as_many_addresses_as_it_may() {
    let t = table(64);
    assert!(matches!(
        t.learn(0, A, 1, Kind::Learned, 1, 0),
        Learned::Yes(_)
    ));
    assert_eq!(t.learn(0, B, 1, Kind::Learned, 1, 0), Learned::PortFull);
    t.forget_port(1);
    assert!(matches!(
        t.learn(0, B, 1, Kind::Learned, 1, 0),
        Learned::Yes(_)
    ));
}

#[test]
fn silent_address_ages_and_a_speaking_one_stays() {
    let t = table(64);
    learn(&t, A, 1);
    learn(&t, B, 1);
    t.touch(t.find(0, A).unwrap().entry, 250);
    assert_eq!(t.age(301, 300), 1);
    assert!(t.find(0, A).is_some() && t.find(0, B).is_none());
}

#[test]
fn slot_used_again_does_not_hold_for_the_old_address() {
    let t = table(1);
    learn(&t, A, 1);
    let old = t.find(0, A).unwrap();
    t.forget_port(1);
    for last in 0..=255 {
        learn(&t, [2, 9, 9, 9, 9, last], 1);
    }
    assert!(!t.holds(old.entry));
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn table_fills_to_its_capacity() {
    let t = table(4096);
    let learned = (0..4096u16)
        .filter(|n| {
            let [hi, lo] = n.to_be_bytes();
            matches!(learn(&t, [2, 0, 0, 0, hi, lo], 1), Learned::Yes(_))
        })
        .count();
    assert_eq!(learned, 4096);
    assert_eq!(t.rows().len(), 4096);
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn address_entered_by_two_threads_at_once_is_there_once() {
    let t = table(1 << 12);
    std::thread::scope(|s| {
        for port in 0..2 {
            let t = &t;
            s.spawn(move || {
                for n in 0..1000u16 {
                    let [hi, lo] = n.to_be_bytes();
                    while learn(t, [2, 0, 0, 0, hi, lo], port) == Learned::NotNow
                        && t.find(0, [2, 0, 0, 0, hi, lo]).is_none()
                    {}
                }
            });
        }
    });
    assert_eq!(t.rows().len(), 1000);
}

fn numbered(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [2, 9, a, b, c, d]
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn flood_of_addresses_from_a_wire_leaves_room_for_those_of_guests() {
    let t = table(64);
    let n_wire = (0..100_000)
        .filter(|&n| matches!(learn(&t, numbered(n), 1), Learned::Yes(_)))
        .count();
    assert!(n_wire >= 64 && t.rows().len() == n_wire);
    assert_eq!(learn(&t, A, 1), Learned::NotNow, "not a slot is free");
    for n in 0..32 {
        let kind = [Kind::Counted, Kind::Sticky, Kind::Static][n as usize % 3];
        let port = 2 + (n % 10) as PortId;
        let entry = t.learn(0, [2, 1, 0, 0, 0, n], port, kind, 100, 0);
        assert!(matches!(entry, Learned::Yes(_)), "address {n}");
        assert_eq!(
            t.find(0, [2, 1, 0, 0, 0, n])
                .map(|found| (found.port, found.kind)),
            Some((port, kind))
        );
    }
    assert_eq!(
        t.n_addresses(1) as usize,
        n_wire - 32,
        "those that gave way are counted for nobody"
    );
    assert_eq!(t.rows().len(), n_wire);
}

#[test]
fn address_that_gives_way_is_the_one_that_was_silent_for_longest_and_what_rested_on_it_is_stale() {
    let t = table(1);
    let mut n = 0;
    while t.rows().len() < 16 {
        t.learn(0, numbered(n), 1, Kind::Learned, 100, 10 + n);
        n += 1;
    }
    let buckets = t.places(key_of(0, A)).0.map(|first| first / BUCKET);
    let is_candidate =
        |row: &Row| buckets.contains(&(t.find(0, row.mac).unwrap().entry.slot as usize / BUCKET));
    let oldest = t
        .rows()
        .into_iter()
        .filter(is_candidate)
        .min_by_key(|row| row.seen)
        .unwrap();
    let (before, epoch) = (t.find(0, oldest.mac).unwrap(), t.epoch(0));
    assert!(matches!(
        t.learn(0, A, 2, Kind::Sticky, 1, 99),
        Learned::Yes(_)
    ));
    assert!(t.find(0, oldest.mac).is_none() && !t.holds(before.entry) && t.epoch(0) != epoch);
    assert_eq!(t.rows().len(), 16);
}

#[test]
fn addresses_of_a_guest_give_way_to_its_betters_alone() {
    let t = table(1);
    let mut n = 0;
    while t.rows().len() < 16 {
        t.learn(0, numbered(n), 1, Kind::Counted, 100, 0);
        n += 1;
    }
    for kind in [Kind::Learned, Kind::Counted] {
        assert_eq!(t.learn(0, A, 2, kind, 1, 0), Learned::NotNow);
    }
    assert!(matches!(
        t.learn(0, A, 2, Kind::Sticky, 1, 0),
        Learned::Yes(_)
    ));
    assert!(matches!(
        t.learn(0, B, 3, Kind::Static, 1, 0),
        Learned::Yes(_)
    ));
}

#[test]
fn of_many_threads_with_an_address_each_one_pins_its_own() {
    for _ in 0..if cfg!(miri) { 1 } else { 200 } {
        let t = table(64);
        let pinned = std::thread::scope(|s| {
            let t = &t;
            let pin = |n| (n, s.spawn(move || t.pin(1, 0, [2, 0, 0, 0, 0, n])));
            let threads: Vec<_> = (0..4).map(pin).collect();
            threads
                .into_iter()
                .filter_map(|(n, thread)| thread.join().unwrap().then_some(n))
                .collect::<Vec<u8>>()
        });
        assert_eq!(t.pins(), [(1, 0, [2, 0, 0, 0, 0, pinned[0]])]);
        assert_eq!(pinned.len(), 1);
    }
}

#[test]
fn claim_from_one_holder_counts_nothing_against_the_next() {
    let macs = MacTable::new(64, 8, [3, 5]);
    let mac = [2, 0, 0, 0, 0, 9];
    assert!(matches!(
        macs.learn(0, mac, 1, Kind::Counted, 9, 0),
        Learned::Yes(_)
    ));
    assert!(!macs.claim(macs.find(0, mac).unwrap(), 6, 1000, false));
    assert!(macs.rows()[0].is_disputed);
    assert!(macs.move_to(macs.find(0, mac).unwrap(), 2, Kind::Learned, 9, 0));
    assert!(!macs.rows()[0].is_disputed);
    // So the next claim is the first again, by which the new holder is listened for.
    let before = macs.find(0, mac).unwrap().entry;
    assert!(!macs.claim(macs.find(0, mac).unwrap(), 6, 1300, false) && !macs.holds(before));
}
