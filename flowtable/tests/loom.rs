//! Every interleaving of small programs over the lock-free parts, and every value that their loads
//! may return. Only under `--cfg loom`: see `tests/loom`.
#![cfg(loom)]
#![allow(missing_docs)]

use std::sync::Mutex;

use flowtable::mac::entry::{Found, Kind, Learned};
use flowtable::mac::table::MacTable;
use loom::sync::Arc;
use loom::thread;

#[path = "loom/flows.rs"]
mod flows;

const ANY: u32 = u32::MAX;

/// More switches from one thread to another than a mistake has ever needed; without a bound the
/// longer ones take hours.
fn check(program: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.max_branches = 4000;
    model.check(program);
}

fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

/// The smallest table: two buckets of two.
fn table() -> MacTable {
    MacTable::new(1, 6, [7, 11])
}

fn learn(table: &MacTable, mac: [u8; 6], port: u16) -> Learned {
    table.learn(0, mac, port, Kind::Learned, ANY, 0)
}

fn find(table: &MacTable, mac: [u8; 6]) -> Option<Found> {
    table.find(0, mac)
}

/// An address that comes to lie in the slot where `mac(1)` would.
fn rival() -> [u8; 6] {
    static FOUND: Mutex<Option<[u8; 6]>> = Mutex::new(None);
    loom::model(|| {
        let first = learn(&table(), mac(1), 1);
        let rival = (2..)
            .map(mac)
            .find(|&other| learn(&table(), other, 1) == first);
        *FOUND.lock().unwrap() = rival;
    });
    FOUND.lock().unwrap().expect("there are only four slots")
}

/// Addresses of which every slot has one.
fn fillers() -> Vec<[u8; 6]> {
    static FOUND: Mutex<Vec<[u8; 6]>> = Mutex::new(Vec::new());
    let mut model = loom::model::Builder::new();
    model.max_branches = 10_000;
    model.check(|| {
        let table = table();
        let found = (20..60)
            .map(mac)
            .filter(|&mac| matches!(learn(&table, mac, 1), Learned::Yes(_)));
        *FOUND.lock().unwrap() = found.collect();
    });
    let found = FOUND.lock().unwrap().clone();
    assert_eq!(found.len(), 4);
    found
}

#[test]
fn reader_never_takes_a_word_that_was_written_for_another_key() {
    let (a, b) = (mac(1), rival());
    check(move || {
        let table = Arc::new(table());
        learn(&table, a, 1);
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                table.forget_port(1);
                learn(&table, b, 2);
                table.forget_port(2);
                learn(&table, a, 3);
            })
        };
        let found = find(&table, a).map(|found| found.port);
        assert!(matches!(found, None | Some(1 | 3)), "A behind {found:?}");
        writer.join().unwrap();
        assert_eq!(find(&table, a).map(|found| found.port), Some(3));
    });
}

#[test]
fn reader_of_the_address_in_between_sees_it_or_nothing() {
    let (a, b) = (mac(1), rival());
    check(move || {
        let table = Arc::new(table());
        learn(&table, a, 1);
        let writer = {
            let table = table.clone();
            thread::spawn(move || {
                table.forget_port(1);
                learn(&table, b, 2);
                table.forget_port(2);
                learn(&table, a, 3);
            })
        };
        let found = find(&table, b);
        assert!(
            matches!(found.map(|found| found.port), None | Some(2)),
            "B behind {found:?}"
        );
        writer.join().unwrap();
        assert!(
            found.is_none_or(|found| !table.holds(found.entry)),
            "what rested on B holds for A"
        );
    });
}

#[test]
fn move_is_seen_by_whoever_sees_the_new_epoch() {
    check(|| {
        let table = Arc::new(table());
        learn(&table, mac(1), 1);
        let (found, before) = (find(&table, mac(1)).unwrap(), table.epoch(0));
        let mover = {
            let table = table.clone();
            thread::spawn(move || assert!(table.move_to(found, 2, Kind::Learned, ANY, 0)))
        };
        let (epoch, now) = (
            table.epoch(0),
            find(&table, mac(1)).expect("a move takes nothing away"),
        );
        assert!(
            epoch == before || now.port == 2,
            "the new epoch, and the old port"
        );
        assert!(
            epoch == before || !table.holds(found.entry),
            "the new epoch, and the old entry holds"
        );
        mover.join().unwrap();
        assert!(table.epoch(0) != before && !table.holds(found.entry));
    });
}

#[test]
fn of_two_movers_one_wins_and_the_ports_count_right() {
    check(|| {
        let table = Arc::new(table());
        learn(&table, mac(1), 1);
        let found = find(&table, mac(1)).unwrap();
        let mover = {
            let table = table.clone();
            thread::spawn(move || table.move_to(found, 2, Kind::Learned, ANY, 0))
        };
        let first = table.move_to(found, 3, Kind::Learned, ANY, 0);
        let second = mover.join().unwrap();
        assert!(first != second);
        assert_eq!(
            find(&table, mac(1)).unwrap().port,
            if first { 3 } else { 2 }
        );
        assert_counts_are_right(&table);
    });
}

#[test]
fn address_that_moves_while_its_port_is_forgotten_goes_or_stays_whole() {
    check(|| {
        let table = Arc::new(table());
        learn(&table, mac(1), 1);
        let found = find(&table, mac(1)).unwrap();
        let mover = {
            let table = table.clone();
            thread::spawn(move || table.move_to(found, 2, Kind::Learned, ANY, 0))
        };
        let n_gone = table.forget_port(1);
        let moved = mover.join().unwrap();
        assert_eq!(n_gone, usize::from(!moved));
        assert_eq!(
            find(&table, mac(1)).map(|found| found.port),
            moved.then_some(2)
        );
        assert_counts_are_right(&table);
    });
}

#[test]
fn address_learned_by_two_cores_at_once_is_there_once() {
    check(|| {
        let table = Arc::new(table());
        let other = {
            let table = table.clone();
            thread::spawn(move || learn(&table, mac(1), 2))
        };
        let learned = [learn(&table, mac(1), 1), other.join().unwrap()];
        assert_eq!(
            learned
                .iter()
                .filter(|learned| matches!(learned, Learned::Yes(_)))
                .count(),
            1,
            "{learned:?}"
        );
        assert_eq!(table.rows().len(), 1);
        assert_counts_are_right(&table);
    });
}

#[test]
fn absence_that_was_seen_ends_when_the_address_is_seen() {
    check(|| {
        let table = Arc::new(table());
        let learner = {
            let table = table.clone();
            thread::spawn(move || learn(&table, mac(1), 1))
        };
        let absent = table.absent(0, mac(1));
        let is_known = find(&table, mac(1)).is_some();
        if let Ok(entry) = absent {
            assert!(!is_known || find(&table, mac(1)).is_some());
            learner.join().unwrap();
            assert!(
                !table.holds(entry),
                "what was decided without the address holds, and it is there"
            );
        }
    });
}

#[test]
fn address_that_gives_way_is_never_taken_for_the_one_in_its_place() {
    let others = fillers();
    check(move || {
        let table = Arc::new(table());
        for &other in &others {
            learn(&table, other, 1);
        }
        let before: Vec<_> = others
            .iter()
            .map(|&mac| (mac, find(&table, mac).unwrap()))
            .collect();
        let learner = {
            let table = table.clone();
            thread::spawn(move || {
                let learned = table.learn(0, mac(1), 2, Kind::Sticky, ANY, 0);
                assert!(matches!(learned, Learned::Yes(_)), "{learned:?}");
            })
        };
        let gone = before
            .iter()
            .filter(|(mac, was)| find(&table, *mac).is_none_or(|found| found != *was))
            .count();
        assert!(gone <= 1, "of four {gone} gave way to one");
        let found = find(&table, mac(1)).map(|found| found.port);
        assert!(matches!(found, None | Some(2)), "behind {found:?}");
        learner.join().unwrap();
        assert_eq!(find(&table, mac(1)).map(|found| found.port), Some(2));
        let stale = before
            .iter()
            .filter(|(_, was)| !table.holds(was.entry))
            .count();
        assert_eq!((stale, table.n_addresses(1), table.rows().len()), (1, 3, 4));
    });
}

#[test]
fn of_two_cores_that_learn_where_there_is_no_room_each_takes_a_place_of_its_own() {
    let others = fillers();
    check(move || {
        let table = Arc::new(table());
        for &other in &others {
            learn(&table, other, 1);
        }
        let learner = {
            let table = table.clone();
            thread::spawn(move || table.learn(0, mac(1), 2, Kind::Counted, ANY, 0))
        };
        let learned = [
            table.learn(0, mac(2), 3, Kind::Counted, ANY, 0),
            learner.join().unwrap(),
        ];
        for (learned, mac, port) in [(learned[0], mac(2), 3), (learned[1], mac(1), 2)] {
            let is_there = matches!(learned, Learned::Yes(_));
            assert_eq!(
                find(&table, mac).map(|found| found.port),
                is_there.then_some(port)
            );
        }
        assert_eq!(table.rows().len(), 4);
        assert_counts_are_right(&table);
    });
}

#[test]
fn of_two_addresses_that_a_port_sends_from_on_two_cores_one_is_its_own() {
    check(|| {
        let table = Arc::new(table());
        let other = {
            let table = table.clone();
            thread::spawn(move || table.pin(1, 0, mac(1)))
        };
        let pinned = [table.pin(1, 0, mac(2)), other.join().unwrap()];
        assert_ne!(pinned[0], pinned[1]);
        assert_eq!(table.pins(), [(1, 0, mac(if pinned[0] { 2 } else { 1 }))]);
    });
}

/// The holder sends by what it remembers as long as that holds, or asks and is heard: a claim that
/// began before is over then.
#[test]
fn holder_that_sends_once_it_was_claimed_from_is_heard() {
    const SECOND: u32 = 954;
    check(|| {
        let table = Arc::new(table());
        learn(&table, mac(1), 1);
        let remembered = find(&table, mac(1)).unwrap();
        let claimer = {
            let table = table.clone();
            thread::spawn(move || assert!(!table.claim(remembered, 2, 1000, false)))
        };
        let was_slow = !table.holds(remembered.entry);
        if was_slow {
            table.heard(find(&table, mac(1)).unwrap().entry);
        }
        claimer.join().unwrap();
        let claim = |tick| table.claim(find(&table, mac(1)).unwrap(), 2, tick, false);
        let proven = [1000 + SECOND / 3, 1000 + 2 * SECOND / 3].map(claim);
        assert_eq!(proven, [false, !was_slow], "was heard: {was_slow}");
    });
}

#[test]
fn address_is_its_owners_again_when_that_has_started_whoever_was_sending_it_away() {
    use flowtable::{Ingress, SourcePolicy};
    let owner = Ingress {
        port: 1,
        network: 0,
        trunk: None,
        source: SourcePolicy::Sticky,
        generation: 1,
    };
    check(move || {
        let table = Arc::new(table());
        assert!(table.pin(1, 0, mac(1)));
        table.learn(0, mac(1), 1, Kind::Sticky, ANY, 0);
        table.rest(1);
        let wire = {
            let table = table.clone();
            thread::spawn(move || {
                let Some(found) = find(&table, mac(1)) else {
                    return;
                };
                if found.port == 1 && table.is_resting(1) {
                    table.send_away(found, 2, 0);
                }
            })
        };
        table.start(&owner, 0);
        wire.join().unwrap();
        let found = find(&table, mac(1)).unwrap();
        assert_eq!(
            (found.port, found.kind, found.is_away),
            (1, Kind::Sticky, false)
        );
        assert_eq!((table.n_addresses(1), table.n_addresses(2)), (1, 0));
    });
}

/// With all addresses gone, each port has room for one again, and for no more.
fn assert_counts_are_right(table: &MacTable) {
    (0..6).for_each(|port| {
        table.forget_port(port);
    });
    for port in 1..4 {
        let learned = table.learn(0, mac(9), port, Kind::Learned, 1, 0);
        assert!(
            matches!(learned, Learned::Yes(_)),
            "port {port} is counted wrongly: {learned:?}"
        );
        table.forget_port(port);
    }
}
