//! Every interleaving of a signal handler and the threads that map and unmap guests' memory. Only under `--cfg loom`: see `fuzz/loom`.
#![cfg(loom)]
#![allow(missing_docs, unreachable_pub, dead_code)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use loom::sync::atomic as atomics;
#[path = "../src/shm/slot.rs"]
mod slot;
use slot::{Put, Slot};

/// What is mapped where: a number for each of two places, that of its owner, or 0. The kernel orders what it does to one address space.
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
                // Its mapping ends; another takes its slot, and somebody else's memory comes to lie where it was.
                end(&slot, &space, 0);
                space.map(0, 9);
                space.map(1, 2);
                assert!(slot.take(BASES[1], LENS[1], 4));
            })
        };
        let done = slot.replace_if_around(BASES[0] + 8, |base, len, extra| {
            assert_eq!((base, len, extra), (BASES[0], LENS[0], 3));
            assert_eq!(space.is(0), 1, "mapped over somebody else's memory");
            Put::All
        });
        owner.join().unwrap();
        assert!(!slot.is_damaged(), "the second mapping is marked for the first one's fault");
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
                    Put::All
                });
            })
        };
        let owner = {
            let (slot, space) = (slot.clone(), space.clone());
            thread::spawn(move || end(&slot, &space, 0))
        };
        slot.replace_if_around(BASES[0], |_, _, _| {
            assert_eq!(space.is(0), 1);
            Put::All
        });
        core.join().unwrap();
        owner.join().unwrap();
    });
}
