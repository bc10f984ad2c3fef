//! `header/*`, `key/*`, `rules/*`, `table/*`, `mac/*`: what a decision is made of. Each case checks
//! what it got.

use std::hint::black_box;
use std::net::IpAddr;

use flowtable::cache::table::{Decision, Entered};
use flowtable::mac::entry::{EntryRef, Kind, Learned};
use flowtable::rules::rule::{Cidr, Proto, Rule};
use flowtable::{
    Action, Direction, FlowTable, HEADER_MAX, Header, Key, KeyFields, MacTable, Mask, Policy,
    Tuple, Verdict,
};
use hashbrown::HashMap;
use pmd::sys::settle;
use rig::mac;

use super::{Case, Run};
use crate::{BURST, Spent, timed};

const N: usize = BURST as usize;

/// How many flows or addresses there are, in words and as a number.
pub(super) const COUNTS: [(&str, usize); 4] =
    [("1", 1), ("1k", 1000), ("100k", 100_000), ("1M", 1_000_000)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("header/parse", parse),
        Case::new("key/addresses", || key(false)),
        Case::new("key/rules", || key(true)),
    ];
    // As many as a NIC may have.
    cases.extend([1, 16, 256].map(|n| Case::new(format!("rules/decide-{n}"), move || rules(n))));
    for (text, n) in COUNTS {
        cases.push(Case::new(format!("table/hit-{text}"), move || hit(n)));
        cases.push(Case::new(format!("table/miss-{text}"), move || miss(n)));
        cases.push(Case::new(format!("table/insert-{text}"), move || insert(n)));
        cases.push(Case::new(format!("mac/find-{text}"), move || find_mac(n)));
    }
    // What a map that one thread has for itself would take.
    for (text, n) in COUNTS {
        cases.push(Case::new(
            format!("table/hit-{text}-hashbrown"),
            move || hit_neighbour(n),
        ));
        cases.push(Case::new(
            format!("table/miss-{text}-hashbrown"),
            move || miss_neighbour(n),
        ));
        cases.push(Case::new(
            format!("table/insert-{text}-hashbrown"),
            move || insert_neighbour(n),
        ));
    }
    cases
}

/// The numbers of a burst's flows, of so many: far apart, so that no flow lies beside the one
/// before it.
pub(super) fn flows(at: &mut usize, n_flows: usize) -> [usize; N] {
    let first = *at;
    *at += N;
    std::array::from_fn(|k| (first + k) * 7919 % n_flows)
}

/// Runs `act` for each burst, of what `prepare` made for it, which doesn't count.
fn bursts<T>(n_frames: u64, mut prepare: impl FnMut() -> T, mut act: impl FnMut(&T)) -> Spent {
    let mut spent = Spent::default();
    for _ in 0..n_frames.div_ceil(N as u64) {
        let prepared = prepare();
        spent += timed(N as u64, || act(&prepared));
    }
    spent
}

/// A UDP datagram of the flow with this number.
pub(super) fn header(n: usize) -> Header {
    let mut header = Header([0; HEADER_MAX]);
    let [_, a, b, c] = (n as u32).to_be_bytes();
    let ip = [
        8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, a, b, c, 0, 7, 0, 9, 0,
        26, 0, 0,
    ];
    let bytes = [&mac(1)[..], &mac(0), &ip].concat();
    header.0[..bytes.len()].copy_from_slice(&bytes);
    header
}

/// A rule that fits none of what is sent here, so that it makes a key and is looked at to its end.
fn rule() -> Rule {
    let cidr = Some(Cidr {
        addr: IpAddr::from([192, 0, 2, 0]),
        len: 24,
    });
    let numbers = vec![(25, 25)];
    Rule {
        direction: Direction::FromVm,
        verdict: Verdict::Deny,
        proto: Proto::Number(17),
        cidr,
        numbers,
    }
}

pub(super) fn policy() -> Policy {
    Policy::new(&[rule()])
}

/// Flows that aren't there at first: so many that none of them is still there when its turn comes
/// again.
const OTHERS: usize = 1 << 20;
const N_OTHERS: usize = 100 << 16;

fn fields() -> KeyFields {
    policy().fields(Direction::FromVm)
}

fn key_of(n: usize) -> Key {
    let header = header(n);
    Key::new(&header, 0).with(&Tuple::parse(&header, 60).cut(fields()))
}

/// A burst's keys, of flows from `first` on.
fn keys(at: &mut usize, first: usize, n_flows: usize) -> [Key; N] {
    flows(at, n_flows).map(|n| key_of(first + n))
}

fn parse() -> Run {
    let headers: Vec<_> = (0..N).map(header).collect();
    let mut at = 0;
    Box::new(move |n| {
        bursts(
            n,
            || flows(&mut at, N),
            |flows| {
                let ports = flows
                    .iter()
                    .map(|&n| u32::from(Tuple::parse(black_box(&headers[n]), 60).number));
                assert_eq!(ports.sum::<u32>(), 9 * N as u32);
            },
        )
    })
}

fn key(has_rules: bool) -> Run {
    let headers: Vec<_> = (0..N).map(header).collect();
    let wanted = headers
        .iter()
        .enumerate()
        .map(|(n, h)| if has_rules { key_of(n) } else { Key::new(h, 0) });
    let (wanted, mask) = (wanted.collect::<Vec<_>>(), Mask::new(fields()));
    let mut at = 0;
    Box::new(move |n| {
        bursts(
            n,
            || flows(&mut at, N),
            |flows| {
                let alike = flows.iter().filter(|&&n| {
                    let header = black_box(&headers[n]);
                    let ruled = || Key::ruled(Key::words_of(header, 0), header, 60, 0, &mask);
                    if has_rules {
                        ruled() == Some(wanted[n])
                    } else {
                        Key::new(header, 0) == wanted[n]
                    }
                });
                assert_eq!(alike.count(), N);
            },
        )
    })
}

/// So many rules, none of which fits.
fn rules(n_rules: usize) -> Run {
    let policy = Policy::new(&vec![rule(); n_rules]);
    let tuples: Vec<_> = (0..N).map(|n| Tuple::parse(&header(n), 60)).collect();
    let mut at = 0;
    Box::new(move |n| {
        bursts(
            n,
            || flows(&mut at, N),
            |flows| {
                let verdict = |&n: &usize| policy.decide(Direction::FromVm, black_box(&tuples[n]));
                assert!(
                    flows
                        .iter()
                        .map(verdict)
                        .all(|verdict| verdict == Verdict::Allow)
                );
            },
        )
    })
}

const ALWAYS: Decision = Decision {
    action: Action::Unicast(1),
    stamp: 1,
    src: EntryRef::NONE,
    dst: EntryRef::NONE,
};

/// As the daemon has it: in large pages, if there are any.
pub(super) fn table(n_flows: usize) -> FlowTable {
    let table = FlowTable::new(n_flows.max(16), 2, [1, 2]);
    for span in table.spans() {
        let _ = settle(span);
    }
    table
}

fn filled(n_flows: usize) -> (FlowTable, MacTable) {
    let (table, macs) = (table(n_flows), MacTable::new(16, 2, [3, 4]));
    let n_free = (0..n_flows).filter(|&n| {
        let key = key_of(n);
        table.insert(table.hash(&key), &key, &ALWAYS, 1, &macs, 0) == Entered::Free
    });
    // A few of a thousand find both their buckets full, and take the place of another one.
    assert!(n_free.count() >= n_flows - n_flows / 100);
    (table, macs)
}

/// As a burst is looked up: hashes and buckets, entries, comparisons.
fn look(table: &FlowTable, keys: &[Key; N]) -> usize {
    let hashes: [u64; N] = std::array::from_fn(|k| {
        let hash = table.hash(&keys[k]);
        table.prefetch(hash);
        hash
    });
    let entries: [Option<u32>; N] = std::array::from_fn(|k| table.candidate(hashes[k], &keys[k]));
    (0..N)
        .filter(|&k| entries[k].is_some_and(|entry| table.get(entry, &keys[k]).is_some()))
        .count()
}

fn hit(n_flows: usize) -> Run {
    let (table, _) = filled(n_flows);
    let mut at = 0;
    Box::new(move |n| {
        bursts(
            n,
            || keys(&mut at, 0, n_flows),
            |keys| assert!(look(&table, keys) + 2 >= N),
        )
    })
}

fn miss(n_flows: usize) -> Run {
    let (table, _) = filled(n_flows);
    let mut at = 0;
    Box::new(move |n| {
        bursts(
            n,
            || keys(&mut at, 1 << 23, n_flows),
            |keys| assert_eq!(look(&table, keys), 0),
        )
    })
}

/// Flows entered into a full table, each in place of another one of the port's.
fn insert(n_flows: usize) -> Run {
    let (table, macs) = filled(n_flows);
    let mut at = 0;
    Box::new(move |n| {
        let mut n_entered = 0;
        let spent = bursts(
            n,
            || keys(&mut at, OTHERS, N_OTHERS),
            |keys| {
                let enter = |key: &&Key| {
                    table.insert(table.hash(key), key, &ALWAYS, 1, &macs, 1) != Entered::No
                };
                n_entered += keys.iter().filter(enter).count() as u64;
            },
        );
        assert!(
            n_flows < 1000 || n < 1 << 12 || n_entered > n / 2,
            "{n_entered} of {n}"
        );
        assert!(table.n_used() as usize <= n_flows.max(16));
        spent
    })
}

/// The same flows in a map, with no more room than it needs for them.
fn neighbour(n_flows: usize) -> HashMap<Key, Decision> {
    let mut map = HashMap::with_capacity(n_flows);
    map.extend((0..n_flows).map(|n| (key_of(n), ALWAYS)));
    map
}

fn look_in(map: &HashMap<Key, Decision>, keys: &[Key; N]) -> usize {
    keys.iter()
        .filter(|key| black_box(map.get(*key)).is_some())
        .count()
}

fn hit_neighbour(n_flows: usize) -> Run {
    let (map, mut at) = (neighbour(n_flows), 0);
    Box::new(move |n| {
        bursts(
            n,
            || keys(&mut at, 0, n_flows),
            |keys| assert_eq!(look_in(&map, keys), N),
        )
    })
}

fn miss_neighbour(n_flows: usize) -> Run {
    let (map, mut at) = (neighbour(n_flows), 0);
    Box::new(move |n| {
        bursts(
            n,
            || keys(&mut at, 1 << 23, n_flows),
            |keys| assert_eq!(look_in(&map, keys), 0),
        )
    })
}

/// Each in place of the one that was entered first, which the map has to be told: it has no
/// eviction of its own.
fn insert_neighbour(n_flows: usize) -> Run {
    let (mut map, mut at, mut n_gone) = (neighbour(n_flows), 0, 0);
    let mut oldest = move || {
        let n: usize = n_gone;
        n_gone += 1;
        key_of(
            n.checked_sub(n_flows)
                .map_or(n, |n| OTHERS + n * 7919 % N_OTHERS),
        )
    };
    Box::new(move |n| {
        let both = || {
            (
                keys(&mut at, OTHERS, N_OTHERS),
                std::array::from_fn::<_, N, _>(|_| oldest()),
            )
        };
        let spent = bursts(n, both, |(keys, oldest)| {
            let mut pairs = keys.iter().zip(oldest);
            let is_exchanged = |(key, oldest): (&Key, &Key)| {
                let is_new = map.insert(*key, ALWAYS).is_none();
                map.remove(oldest).is_some() && is_new
            };
            assert!(pairs.all(is_exchanged));
        });
        assert_eq!(map.len(), n_flows);
        spent
    })
}

fn find_mac(n_macs: usize) -> Run {
    let address = |n: usize| {
        let [a, b, c, d] = (n as u32).to_be_bytes();
        [2, 1, a, b, c, d]
    };
    let macs = MacTable::new(n_macs, 2, [1, 2]);
    let learn = |n: &usize| macs.learn(0, address(*n), 1, Kind::Learned, u32::MAX, 0);
    assert_eq!(
        (0..n_macs)
            .filter(|n| matches!(learn(n), Learned::Yes(_)))
            .count(),
        n_macs
    );
    let mut at = 0;
    Box::new(move |n| {
        bursts(
            n,
            || flows(&mut at, n_macs),
            |flows| {
                assert_eq!(
                    flows
                        .iter()
                        .filter(|&&n| macs.find(0, address(n)).is_some_and(|f| f.port == 1))
                        .count(),
                    N
                );
            },
        )
    })
}
