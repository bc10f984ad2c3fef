//! Every interleaving of a signal handler and the threads that map and unmap guests' memory, and of
//! cores that take and give back what one list of free numbers has. Only under `--cfg loom`: see
//! `tests/loom`.
#![cfg(loom)]
#![allow(missing_docs, unreachable_pub, dead_code)]

use loom::sync::Arc;
use loom::sync::atomic as atomics;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
#[path = "../src/shm/slot.rs"]
mod slot;
use slot::{Put, Slot};
#[path = "../src/limit/free_list.rs"]
mod free_list;
use free_list::FreeList;
#[path = "../src/limit/rate.rs"]
mod rate;
use rate::{Limiter, Setting};

/// As in `pmd`.
mod time {
    pub type Nanos = u64;
    pub const SECOND: Nanos = 1_000_000_000;
}

/// What is mapped where: a number for each of two places, that of its owner, or 0. The kernel
/// orders what it does to one address space.
struct Space([AtomicUsize; 2]);

impl Space {
    fn map(&self, place: usize, owner: usize) {
        self.0[place].store(owner, Ordering::SeqCst);
    }

    fn is(&self, place: usize) -> usize {
        self.0[place].load(Ordering::SeqCst)
    }
}

const BASES: [usize; 2] = [0x1000, 0x9000];
const LENS: [usize; 2] = [0x1000, 0x3000];

/// What `Guard::end` does, and then its mapping's owner.
fn end(slot: &Slot, space: &Space, place: usize) {
    slot.close();
    while !slot.is_left() {
        thread::yield_now();
    }
    space.map(place, 0);
    slot.free();
}

#[test]
fn handler_acts_upon_the_mapping_it_found_or_upon_none() {
    loom::model(|| {
        let slot = Arc::new(Slot::default());
        let space = Arc::new(Space([AtomicUsize::new(1), AtomicUsize::new(0)]));
        assert!(slot.take(BASES[0], LENS[0], 3));
        let owner = {
            let (slot, space) = (slot.clone(), space.clone());
            thread::spawn(move || {
                // Its mapping ends; another takes its slot, and somebody else's memory comes to lie
                // where it was.
                end(&slot, &space, 0);
                space.map(0, 9);
                space.map(1, 2);
                assert!(slot.take(BASES[1], LENS[1], 4));
            })
        };
        let done = slot.replace_if_around(BASES[0] + 8, |base, len, extra| {
            assert_eq!((base, len, extra), (BASES[0], LENS[0], 3));
            assert_eq!(space.is(0), 1, "mapped over somebody else's memory");
            Put::ForGood
        });
        owner.join().unwrap();
        assert_eq!(
            slot.n_parts(),
            0,
            "the first one's fault counts as the second mapping's"
        );
        assert!(done || space.is(0) == 9);
    });
}

#[test]
fn two_handlers_in_one_mapping_are_both_waited_for() {
    let mut model = loom::model::Builder::new();
    // Of three threads, every interleaving takes hours.
    model.preemption_bound = Some(2);
    model.check(|| {
        let slot = Arc::new(Slot::default());
        let space = Arc::new(Space([AtomicUsize::new(1), AtomicUsize::new(0)]));
        assert!(slot.take(BASES[0], LENS[0], 3));
        let core = {
            let (slot, space) = (slot.clone(), space.clone());
            thread::spawn(move || {
                slot.replace_if_around(BASES[0], |_, _, _| {
                    assert_eq!(space.is(0), 1);
                    Put::ForGood
                });
            })
        };
        let owner = {
            let (slot, space) = (slot.clone(), space.clone());
            thread::spawn(move || end(&slot, &space, 0))
        };
        slot.replace_if_around(BASES[0], |_, _, _| {
            assert_eq!(space.is(0), 1);
            Put::ForGood
        });
        core.join().unwrap();
        owner.join().unwrap();
    });
}

/// Two cores take numbers, link them, and give them back as a chain: no number is ever had twice,
/// and none is lost. A core that was held up between its look at the head and the exchange must not
/// bring back what was behind the head then.
#[test]
fn number_is_had_once_and_none_is_lost() {
    loom::model(|| {
        let list = Arc::new(FreeList::new(3));
        let owners = Arc::new([
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        ]);
        let take = |list: &FreeList, owners: &[AtomicUsize; 3], me: usize| {
            let number = list.take()?;
            assert_eq!(
                owners[number as usize].swap(me, Ordering::Relaxed),
                0,
                "{number} is had twice"
            );
            Some(number)
        };
        let give = |list: &FreeList, owners: &[AtomicUsize; 3], chain: &[u32]| {
            chain
                .iter()
                .for_each(|&number| owners[number as usize].store(0, Ordering::Relaxed));
            list.give(chain[0], chain[chain.len() - 1]);
        };
        let other = thread::spawn({
            let (list, owners) = (list.clone(), owners.clone());
            move || {
                // Takes two and gives the first back, which is at the head again, before another
                // than it was.
                let (first, second) = (take(&list, &owners, 1), take(&list, &owners, 1));
                first
                    .into_iter()
                    .for_each(|number| give(&list, &owners, &[number]));
                second
            }
        });
        let mine = match (take(&list, &owners, 2), take(&list, &owners, 2)) {
            (Some(first), Some(second)) => {
                list.link(first, second);
                assert_eq!(list.next(first), second);
                give(&list, &owners, &[first, second]);
                None
            }
            (first, second) => first.or(second),
        };
        let kept = other.join().unwrap();
        let left = std::iter::from_fn(|| take(&list, &owners, 3)).count();
        let n_kept = [kept, mine].into_iter().flatten().count();
        assert_eq!(left + n_kept, 3, "{left} are left");
    });
}

/// Control adds numbers while a core takes some: each is had once, and none is lost.
#[test]
fn numbers_that_come_to_be_are_had_once() {
    loom::model(|| {
        let list = Arc::new(FreeList::new(1));
        let core = thread::spawn({
            let list = list.clone();
            move || {
                let mut taken: Vec<u32> = (0..2).filter_map(|_| list.take()).collect();
                if let Some(first) = taken.pop() {
                    list.give(first, first);
                }
                taken
            }
        });
        list.grow(3);
        let mut all = core.join().unwrap();
        all.extend(std::iter::from_fn(|| list.take()));
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    });
}

/// A rate changes while a core charges: what it charged is charged once, at the price of before or
/// of after, and what is left is that many units.
#[test]
fn charge_is_made_once_while_the_rate_changes() {
    loom::model(|| {
        const NOW: u64 = 1 << 30;
        let (slow, fast) = (
            Setting::of_bits(8_000_000, Some(10_000)),
            Setting::of_bits(80_000_000, Some(10_000)),
        );
        let limiter = Arc::new(Limiter::new(slow).saved_up(NOW));
        let core = thread::spawn({
            let limiter = limiter.clone();
            move || {
                assert!(limiter.units_left(NOW) > 0);
                limiter.charge(NOW, 1000);
            }
        });
        limiter.change(NOW, fast);
        limiter.change(NOW, slow);
        core.join().unwrap();
        let left = limiter.left(NOW);
        assert!((8998..=9002).contains(&left), "{left} of 9000 are left");
    });
}
