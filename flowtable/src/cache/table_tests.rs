//! The table beside a model, its victims, and two threads that hammer it.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::sync::atomic::AtomicBool;

use hashbrown::HashMap;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::action::Action;
use crate::mac::entry::{EntryRef, Kind, Learned};
use crate::wire::header::Header;
use crate::wire::tuple::{Kind as Family, Tuple};

/// So many, or a part of them for an interpreter, which takes a tenth of a second to enter a flow.
const fn many(n: u32) -> u32 {
    if cfg!(miri) { n / 16 } else { n }
}

/// The flow with this number, of one of eight ports.
fn key(n: u32, port: PortId) -> Key {
    let mut header = Header::default();
    header.0[..4].copy_from_slice(&n.to_be_bytes());
    let key = Key::new(&header, port);
    // Keys of all lengths.
    let tuple = |kind| Tuple {
        src: [u64::from(n), 7],
        dst: [1, 2],
        kind,
        ..Tuple::default()
    };
    match n % 4 {
        0 | 1 => key,
        2 => key.with(&Tuple {
            src: [0, u64::from(n)],
            ..tuple(Family::V4)
        }),
        _ => key.with(&tuple(Family::V6)),
    }
}

fn to(port: PortId, stamp: u32) -> Decision {
    Decision {
        action: Action::Unicast(port),
        stamp,
        src: EntryRef::NONE,
        dst: EntryRef::NONE,
    }
}

struct Rig {
    table: FlowTable,
    macs: MacTable,
}

impl Rig {
    fn new(capacity: usize) -> Self {
        Self {
            table: FlowTable::new(capacity, 8, [7, 11]),
            macs: MacTable::new(64, 8, [3, 5]),
        }
    }

    fn insert(&self, key: Key, decision: Decision, now: u32) -> Entered {
        self.table
            .insert(self.table.hash(&key), &key, &decision, 1, &self.macs, now)
    }

    fn find(&self, key: Key) -> Option<Hit> {
        self.table.find(self.table.hash(&key), &key)
    }

    /// Both counts of entries are those that can be found.
    fn assert_counts(&self, keys: impl Iterator<Item = Key>) {
        let mut by_port = [0; 8];
        keys.filter(|&key| self.find(key).is_some())
            .for_each(|key| by_port[usize::from(key.port())] += 1);
        assert_eq!(
            by_port,
            std::array::from_fn(|port| self.table.n_used_by(port as PortId))
        );
        assert_eq!(self.table.n_used(), by_port.iter().sum::<u32>());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, PortId),
    Find(u32),
    Update(u32, PortId),
    Sweep,
    Later(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flow = || 0u32..if cfg!(miri) { 30 } else { 200 };
    let step = prop_oneof![
        6 => (flow(), 0u16..100).prop_map(|(n, port)| Step::Insert(n, port)),
        4 => flow().prop_map(Step::Find),
        2 => (flow(), 0u16..100).prop_map(|(n, port)| Step::Update(n, port)),
        1 => Just(Step::Sweep),
        1 => (1u32..40).prop_map(Step::Later),
    ];
    vec(step, 1..if cfg!(miri) { 100 } else { 300 })
}

/// Each flow is of one port.
fn flow(n: u32) -> Key {
    key(n, (n % 5) as PortId)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 500 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_found_is_what_was_entered_last(
        capacity in 1usize..if cfg!(miri) { 40 } else { 300 },
        steps in steps(),
    ) {
        let rig = Rig::new(capacity);
        // What each flow's decision would be if it is there, and since when it is silent.
        let mut model: HashMap<u32, (Decision, u32)> = HashMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Insert(n, port) => {
                    let was_there = rig.find(flow(n)).is_some();
                    let entered = rig.insert(flow(n), to(port, 1), now);
                    prop_assert!(!was_there || entered == Entered::No);
                    if entered != Entered::No {
                        model.insert(n, (to(port, 1), now));
                        let found = rig.find(flow(n)).map(|hit| hit.decision);
                        prop_assert_eq!(found, Some(to(port, 1)));
                    }
                }
                Step::Find(n) => if let Some(hit) = rig.find(flow(n)) {
                    let Some((decision, seen)) = model.get_mut(&n) else { panic!("{n} was never \
                        entered") };
                    prop_assert_eq!((hit.decision, hit.seen), (*decision, *seen));
                    rig.table.touch(&hit, now);
                    *seen = now;
                },
                Step::Update(n, port) => if let Some(hit) = rig.find(flow(n)) {
                    prop_assert!(rig.table.update(&hit, &to(port, 1), now));
                    prop_assert!(!rig.table.update(&hit, &to(200, 1), now), "it isn't what it was \
                        any more");
                    model.insert(n, (to(port, 1), now));
                },
                Step::Sweep => {
                    (0..SWEEP_PART).for_each(|_| { rig.table.sweep(&rig.macs, now); });
                    for (&n, &(_, seen)) in &model {
                        let is_silent = now - seen > SILENT_MAX;
                        prop_assert!(!is_silent || rig.find(flow(n)).is_none(), "{} stays", n);
                    }
                }
                Step::Later(seconds) => now += seconds,
            }
            prop_assert!(rig.table.n_used() <= rig.table.capacity());
        }
        rig.assert_counts((0..200).map(flow));
    }
}

#[test]
fn table_takes_as_many_flows_as_it_says() {
    let most = many(1000);
    let rig = Rig::new(most as usize);
    let n_free = (0..most)
        .filter(|&n| rig.insert(flow(n), to(1, 1), 0) == Entered::Free)
        .count() as u32;
    assert!(
        n_free >= most * 74 / 100,
        "{n_free}: with five ports nobody is over its share before it's full"
    );
    assert_eq!(
        rig.table.n_used() as usize,
        (0..most).filter(|&n| rig.find(flow(n)).is_some()).count()
    );
}

#[test]
fn one_port_alone_may_have_all_of_it() {
    let most = many(1000);
    let rig = Rig::new(most as usize);
    let n = (0..most)
        .filter(|&n| rig.insert(key(n, 1), to(1, 1), 0) == Entered::Free)
        .count() as u32;
    assert_eq!((n, rig.table.n_used_by(1)), (most, most));
}

#[test]
fn full_table_replaces_the_oldest_of_the_same_port() {
    let rig = Rig::new(64);
    (0..64).for_each(|n| assert_eq!(rig.insert(key(n, 1), to(1, 1), n), Entered::Free));
    let before: Vec<bool> = (0..64).map(|n| rig.find(key(n, 1)).is_some()).collect();
    assert!(before.iter().all(|&there| there));
    // All of them are younger than a minute.
    let entered = (100..)
        .find_map(|n| Some(rig.insert(key(n, 1), to(2, 1), 59)).filter(|&e| e != Entered::No));
    assert_eq!(entered, Some(Entered::OverOwn));
    assert_eq!(
        (0..64).filter(|&n| rig.find(key(n, 1)).is_none()).count(),
        1
    );
    assert_eq!(rig.table.n_used(), 64);
}

#[test]
fn what_rests_on_an_address_that_moved_gives_way_first() {
    let rig = Rig::new(16);
    let Learned::Yes(entry) = rig.macs.learn(0, [2; 6], 1, Kind::Learned, 9, 0) else {
        panic!("there is room")
    };
    let resting = Decision {
        src: entry,
        ..to(1, 1)
    };
    (0..16).for_each(|n| {
        assert_eq!(
            rig.insert(key(n, 1), if n == 9 { resting } else { to(1, 1) }, n % 5),
            Entered::Free
        )
    });
    rig.macs.forget_port(1);
    let entered: Vec<_> = (100..300)
        .map(|n| rig.insert(key(n, 2), to(1, 1), 5))
        .collect();
    assert_eq!(
        entered.iter().filter(|&&e| e == Entered::OverStale).count(),
        1
    );
    assert!(rig.find(key(9, 1)).is_none());
}

#[test]
fn what_a_port_decided_before_it_was_changed_gives_way() {
    let rig = Rig::new(16);
    (0..16).for_each(|n| assert_eq!(rig.insert(key(n, 1), to(1, 1), 0), Entered::Free));
    let hash = |key: &Key| rig.table.hash(key);
    let n_stale = (100..200)
        .filter(|&n| {
            rig.table
                .insert(hash(&key(n, 1)), &key(n, 1), &to(1, 2), 2, &rig.macs, 0)
                == Entered::OverStale
        })
        .count();
    assert_eq!(n_stale, 16);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "many minutes in an interpreter, which sees the same memory in others"
)]
fn scan_evicts_nothing_of_its_neighbours() {
    let rig = Rig::new(1 << 12);
    let neighbour = |n| key(n, 2);
    let n_neighbours = 1 << 10;
    (0..n_neighbours)
        .for_each(|n| assert_eq!(rig.insert(neighbour(n), to(1, 1), 0), Entered::Free));
    let mut counts = HashMap::new();
    for n in 0..1_000_000 {
        *counts
            .entry(format!("{:?}", rig.insert(key(n, 1), to(1, 1), 1)))
            .or_insert(0) += 1;
    }
    assert_eq!(
        (0..n_neighbours)
            .filter(|&n| rig.find(neighbour(n)).is_none())
            .count(),
        0,
        "{counts:?}"
    );
    assert!(rig.table.n_used_by(1) >= 2000, "{counts:?}");
    assert!(
        rig.table.n_used() < (1 << 12) * 3 / 4 + 8,
        "the last quarter is for those who come late: {counts:?}"
    );
    // One who comes late finds room at once.
    let late = (0..500)
        .filter(|&n| rig.insert(key(n, 3), to(1, 1), 1) == Entered::Free)
        .count();
    assert_eq!(late, 500);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "many minutes in an interpreter, which sees the same memory in others"
)]
fn port_beyond_its_share_gives_way_to_those_who_have_less() {
    let rig = Rig::new(1024);
    (0..1024).for_each(|n| assert_eq!(rig.insert(key(n, 1), to(1, 1), 0), Entered::Free));
    let n = (0..400)
        .filter(|&n| rig.insert(key(n, 2), to(1, 1), 1) == Entered::OverGreedy)
        .count();
    assert!(
        n > 100,
        "{n}: the more it has, the more often one of its own gives way"
    );
    let n_before = rig.table.n_used_by(2);
    (0..20_000).for_each(|n| {
        rig.insert(key(1000 + n, 2), to(1, 1), 1);
    });
    assert!(
        rig.table.n_used_by(2) >= n_before && rig.table.n_used_by(2) <= 513,
        "{}",
        rig.table.n_used_by(2)
    );
}

#[test]
fn silent_flows_are_swept_away_within_a_minute() {
    let few = many(100);
    let rig = Rig::new(10 * few as usize);
    (0..5 * few).for_each(|n| {
        rig.insert(flow(n), to(1, 1), if n < few { 50 } else { 0 });
    });
    let n_swept: usize = (61..61 + SWEEP_PART as u32)
        .map(|_| rig.table.sweep(&rig.macs, 61))
        .sum();
    assert_eq!((n_swept, rig.table.n_used()), (4 * few as usize, few));
    (5 * few..12 * few).for_each(|n| {
        rig.insert(flow(n), to(1, 1), 62);
    });
    assert!(
        rig.table.n_used() > 7 * few,
        "entries that were given back are used again"
    );
    rig.assert_counts((0..12 * few).map(flow));
}

/// Threads that enter, look for, change and sweep flows of the same keys; whatever is found must be
/// what that key may have. `WEIR_LONG`: for how many seconds.
#[test]
fn whatever_two_cores_find_was_entered_for_that_key() {
    let seconds: u64 = std::env::var("WEIR_LONG")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let rig = Rig::new(96);
    let n_keys = 300u32;
    // Action, stamp and both references of a decision say the same number, which is the key's
    // modulo the number of keys.
    let decision = |n: u32, round: u32| {
        let number = round.wrapping_mul(n_keys).wrapping_add(n);
        let same = EntryRef::from_bits(u64::from(u32::MAX) << 32);
        Decision {
            action: Action::Unicast(number as u16),
            stamp: number | 1 << 31,
            src: same,
            dst: same,
        }
    };
    let check = |n: u32, hit: &Hit| {
        let number = hit.decision.stamp & !(1 << 31);
        assert_eq!(number % n_keys, n, "found for another key: {hit:?}");
        assert_eq!(
            hit.decision.action,
            Action::Unicast(number as u16),
            "torn: {hit:?}"
        );
    };
    let (stop, n_found) = (AtomicBool::new(false), AtomicU64::new(0));
    let core = |seed: u64, rounds: u32| {
        let mut dice = seed;
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) && (round < rounds || std::time::Instant::now() < end) {
            for _ in 0..64 {
                dice = dice
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let n = (dice >> 33) as u32 % n_keys;
                round += 1;
                let (key, now) = (flow(n), round % 100_000 / 16);
                match rig.find(key) {
                    Some(hit) => {
                        check(n, &hit);
                        n_found.fetch_add(1, Ordering::Relaxed);
                        if dice >> 60 == 0 {
                            rig.table.update(&hit, &decision(n, round % 100_000), now);
                        } else {
                            rig.table.touch(&hit, now);
                        }
                    }
                    None => {
                        rig.insert(key, decision(n, round % 100_000), now);
                    }
                }
            }
        }
    };
    let rounds = if cfg!(miri) { 128 } else { 400_000 };
    std::thread::scope(|s| {
        let cores = [1, 2].map(|seed| s.spawn(move || core(seed, rounds)));
        let sweeper = s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                rig.table.sweep(&rig.macs, 0);
                std::thread::yield_now();
            }
        });
        cores.into_iter().for_each(|core| core.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        sweeper.join().unwrap();
    });
    assert!(n_found.load(Ordering::Relaxed) > u64::from(rounds / 10));
    // A key may be there twice; counted are entries.
    let n_there: usize = (0..rig.table.buckets.len())
        .flat_map(|bucket| rig.table.slots(bucket))
        .filter(|slot| slot.load(Ordering::Relaxed) != 0)
        .count();
    assert_eq!(rig.table.n_used() as usize, n_there);
    assert!(n_there <= 96);
    let n_free = std::iter::from_fn(|| rig.table.slab.take()).count();
    assert_eq!(
        n_there + n_free,
        96,
        "an entry was lost, or is in two places"
    );
}
