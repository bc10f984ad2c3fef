//! `header/*`, `key/*`, `table/*`, `mac/*`, `lookup/*`: what a decision is made of, in TSC cycles a frame: minimum, median and maximum
//! of runs, the cases taking turns. Each case checks what it got.
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use flowtable::cache::table::{Decision, Entered};
use flowtable::mac::entry::{EntryRef, Kind, Learned};
use flowtable::rules::policy::{Cidr, Proto, Rule};
use flowtable::{
    Action, Direction, FlowTable, HEADER_MAX, Header, Ingress, Key, KeyFields, Lookup, MacTable, Mask, Networks,
    Policy, SourcePolicy, Tuple, Verdict,
};
use pmd::sys::{cycles, settle};
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use tests::{mac, networks};

const BURST: usize = 32;
/// Frames of a run.
const RUN: usize = 1 << 14;
const RUNS: usize = 40;

/// A case: its name, and a run of it, which gives cycles for each of so many frames.
type Case = (String, Box<dyn FnMut() -> f64>);

fn main() {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |name: String, make: &dyn Fn() -> Box<dyn FnMut() -> f64>| {
        if is_wanted(&name) {
            cases.push((name, make()));
        }
    };
    add("header/parse".into(), &parse);
    add("key/addresses".into(), &|| key(false));
    add("key/rules".into(), &|| key(true));
    for (text, n) in [("1", 1), ("1k", 1000), ("100k", 100_000), ("1M", 1_000_000)] {
        add(format!("table/hit-{text}"), &|| hit(n));
        add(format!("table/miss-{text}"), &|| miss(n));
        add(format!("table/insert-{text}"), &|| insert(n));
        add(format!("mac/find-{text}"), &|| find_mac(n));
        add(format!("lookup/burst-{text}"), &|| burst(n, true));
        add(format!("lookup/macs-{text}"), &|| burst(n, false));
    }
    let mut results = vec![Vec::new(); cases.len()];
    for _ in 0..RUNS {
        for ((_, run), results) in cases.iter_mut().zip(&mut results) {
            results.push(run());
        }
    }
    for ((name, _), runs) in cases.iter().zip(&mut results) {
        runs.sort_by(f64::total_cmp);
        let (least, median, most) = (runs[0], runs[RUNS / 2], runs[RUNS - 1]);
        println!("{name:32} {least:7.1} {median:7.1} {most:7.1} cycles/frame (min median max)");
    }
}

/// Runs `act` for each burst of a run's frames, the numbers of whose flows it gets.
fn timed(n_flows: usize, at: &mut usize, mut act: impl FnMut(&[usize])) -> f64 {
    let mut spent = 0;
    for _ in 0..RUN / BURST {
        // Far apart, so that no flow lies beside the one before it.
        let flows: Vec<usize> = (0..BURST).map(|k| (*at + k) * 7919 % n_flows).collect();
        *at += BURST;
        let before = cycles();
        act(&flows);
        spent += cycles().wrapping_sub(before);
    }
    spent as f64 / RUN as f64
}

/// A UDP datagram of the flow with this number.
fn header(n: usize) -> Header {
    let mut header = Header([0; HEADER_MAX]);
    let [_, a, b, c] = (n as u32).to_be_bytes();
    let ip = [8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, a, b, c, 0, 7, 0, 9, 0, 26, 0, 0];
    let bytes = [&mac(1)[..], &mac(0), &ip].concat();
    header.0[..bytes.len()].copy_from_slice(&bytes);
    header
}

/// One from the station with this number.
fn from_mac(n: usize) -> Header {
    let mut header = header(0);
    header.0[8..12].copy_from_slice(&(n as u32).to_le_bytes());
    header
}

fn fields() -> KeyFields {
    policy().fields(Direction::FromVm)
}

fn policy() -> Policy {
    let cidr = Some(Cidr { addr: IpAddr::from([192, 0, 2, 0]), len: 24 });
    let numbers = vec![(25, 25)];
    let rule = Rule { direction: Direction::FromVm, verdict: Verdict::Deny, proto: Proto::Number(17), cidr, numbers };
    Policy::new(&[rule])
}

fn key_of(n: usize) -> Key {
    let header = header(n);
    Key::new(&header, 0).with(&Tuple::parse(&header, 60).cut(fields()))
}

fn parse() -> Box<dyn FnMut() -> f64> {
    let headers: Vec<_> = (0..BURST).map(header).collect();
    let mut at = 0;
    Box::new(move || {
        timed(BURST, &mut at, |flows| {
            let ports = flows.iter().map(|&n| u32::from(Tuple::parse(black_box(&headers[n]), 60).number));
            assert_eq!(ports.sum::<u32>(), 9 * BURST as u32);
        })
    })
}

fn key(has_rules: bool) -> Box<dyn FnMut() -> f64> {
    let headers: Vec<_> = (0..BURST).map(header).collect();
    let wanted = headers.iter().enumerate().map(|(n, h)| if has_rules { key_of(n) } else { Key::new(h, 0) });
    let (wanted, mask) = (wanted.collect::<Vec<_>>(), Mask::new(fields()));
    let mut at = 0;
    Box::new(move || {
        timed(BURST, &mut at, |flows| {
            let alike = flows.iter().filter(|&&n| {
                let header = black_box(&headers[n]);
                let ruled = || Key::ruled(Key::words_of(header, 0), header, 60, 0, &mask);
                if has_rules { ruled() == Some(wanted[n]) } else { Key::new(header, 0) == wanted[n] }
            });
            assert_eq!(alike.count(), BURST);
        })
    })
}

const ALWAYS: Decision = Decision { action: Action::Unicast(1), stamp: 1, src: EntryRef::NONE, dst: EntryRef::NONE };

/// As the daemon has it: in large pages, if there are any.
fn table(n_flows: usize) -> FlowTable {
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
fn look(table: &FlowTable, keys: &[Key]) -> usize {
    let hashes: [u64; BURST] = std::array::from_fn(|k| {
        let hash = table.hash(&keys[k]);
        table.prefetch(hash);
        hash
    });
    let entries: [Option<u32>; BURST] = std::array::from_fn(|k| table.candidate(hashes[k], &keys[k]));
    (0..BURST).filter(|&k| entries[k].is_some_and(|entry| table.get(entry, &keys[k]).is_some())).count()
}

fn hit(n_flows: usize) -> Box<dyn FnMut() -> f64> {
    let (table, _) = filled(n_flows);
    let mut at = 0;
    Box::new(move || timed_keys(n_flows, 0, &mut at, |keys| assert!(look(&table, keys) + 2 >= BURST)))
}

fn miss(n_flows: usize) -> Box<dyn FnMut() -> f64> {
    let (table, _) = filled(n_flows);
    let mut at = 0;
    Box::new(move || timed_keys(n_flows, 1 << 23, &mut at, |keys| assert_eq!(look(&table, keys), 0)))
}

/// Flows entered into a full table, each in place of another one of the port's.
fn insert(n_flows: usize) -> Box<dyn FnMut() -> f64> {
    let (table, macs) = filled(n_flows);
    let (mut at, mut round) = (0, 0);
    Box::new(move || {
        let mut n_entered = 0;
        round = (round + 1) % 100;
        let cycles = timed_keys(1 << 16, (1 << 20) + (round << 16), &mut at, |keys| {
            let enter = |key: &&Key| table.insert(table.hash(key), key, &ALWAYS, 1, &macs, 1) != Entered::No;
            n_entered += keys.iter().filter(enter).count();
        });
        assert!(n_flows < 1000 || n_entered > RUN / 2, "{n_entered}");
        assert!(table.n_used() as usize <= n_flows.max(16));
        cycles
    })
}

fn timed_keys(n_flows: usize, from: usize, at: &mut usize, mut act: impl FnMut(&[Key])) -> f64 {
    let mut spent = 0;
    for _ in 0..RUN / BURST {
        let keys: [Key; BURST] = std::array::from_fn(|k| key_of(from + (*at + k) * 7919 % n_flows));
        *at += BURST;
        let before = cycles();
        act(&keys);
        spent += cycles().wrapping_sub(before);
    }
    spent as f64 / RUN as f64
}

fn address(n: usize) -> [u8; 6] {
    let [a, b, c, d] = (n as u32).to_be_bytes();
    [2, 1, a, b, c, d]
}

fn find_mac(n_macs: usize) -> Box<dyn FnMut() -> f64> {
    let macs = MacTable::new(n_macs, 2, [1, 2]);
    let n_learned =
        (0..n_macs).filter(|&n| matches!(macs.learn(0, address(n), 1, Kind::Learned, u32::MAX, 0), Learned::Yes(_)));
    assert_eq!(n_learned.count(), n_macs);
    let mut at = 0;
    Box::new(move || {
        timed(n_macs, &mut at, |flows| {
            assert_eq!(flows.iter().filter(|&&n| macs.find(0, address(n)).is_some_and(|f| f.port == 1)).count(), BURST);
        })
    })
}

/// Whole bursts through a core's `decide`. The flows differ in what rules ask for, or in their source MAC.
fn burst(n_flows: usize, has_rules: bool) -> Box<dyn FnMut() -> f64> {
    let policy = has_rules.then(|| Arc::new(policy()));
    let rules = Networks::clone(&networks(&[&[0, 1]])).with_policies(vec![policy; 2], 1);
    let macs = Arc::new(MacTable::new(n_flows + 64, 2, [3, 4]));
    for span in macs.spans() {
        let _ = settle(span);
    }
    let mut lookup = Lookup::new(Arc::new(table(n_flows)), macs.clone(), Arc::new(rules));
    lookup.make_room();
    assert!(matches!(macs.learn(0, mac(1), 1, Kind::Learned, 9, 0), Learned::Yes(_)));
    let source = SourcePolicy::Learn(u32::MAX);
    let from = Ingress { port: 0, network: 0, trunk: None, source, generation: 1 };
    let mut decide = move |flows: &[usize], now: u32| {
        let headers: [Header; BURST] = std::array::from_fn(|k| match has_rules {
            true => header(flows[k]),
            false => from_mac(flows[k]),
        });
        let mut actions = [Action::Flood(9); BURST];
        let before = cycles();
        lookup.decide(&from, &headers, &[60; BURST], &mut actions, now);
        let spent = cycles().wrapping_sub(before);
        assert_eq!(actions, [Action::Unicast(1); BURST]);
        spent
    };
    // A port may bring no more than a hundred thousand addresses in a second.
    for n in 0..n_flows {
        decide(&[n; BURST], (n / 100_000) as u32);
    }
    let now = (n_flows / 100_000) as u32;
    // So that nothing is noted for the first time in this second.
    for n in 0..n_flows {
        decide(&[n; BURST], now);
    }
    let mut at = 0;
    Box::new(move || {
        let mut spent = 0;
        for _ in 0..RUN / BURST {
            let flows: [usize; BURST] = std::array::from_fn(|k| (at + k) * 7919 % n_flows);
            at += BURST;
            spent += decide(&flows, now);
        }
        spent as f64 / RUN as f64
    })
}
