use std::cell::RefCell;
use std::rc::Rc;

use pmd::ring::QueueSpec;
use pmd::{GuestFault, SetupError};
use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd as new_eventfd};
use rustix::fs::{MemfdFlags, memfd_create};

use super::*;
use crate::vhost_user::cores::Raised;

const SLOTS: u64 = 0x20;
/// Offered as protocol features.
const OFFERED: u64 = 0x8009;
const REGION: u64 = 1 << 20;
const VERSION_1: u64 = 1 << 32;

/// What the cores would have.
#[derive(Debug, Default)]
struct Cores {
    /// Index and position of each queue that is polled, each poll having moved it on by one.
    up: Vec<(u16, u16)>,
    /// The same of those from which everything is dropped.
    discarding: Vec<(u16, u16)>,
    memory: Option<Arc<GuestMemory>>,
    features: u64,
    /// A queue that breaks a rule, and which.
    faulty: Option<(u16, GuestFault)>,
    n_downs: usize,
    n_forgotten: usize,
    /// Since it was brought up last.
    is_resting: bool,
}

/// Cores that poll nothing. Rings in the upper half of user memory can't be built.
#[derive(Clone, Debug, Default)]
struct FakeDataPlane(Rc<RefCell<Cores>>);

impl DataPlane for FakeDataPlane {
    fn up(&mut self, memory: &Arc<GuestMemory>, features: u64, queues: &[QueueSpec]) -> Raised {
        let mut cores = self.0.borrow_mut();
        assert!(
            cores.up.is_empty() && cores.discarding.is_empty(),
            "a port that is up was brought up"
        );
        assert!(!queues.is_empty());
        let mut raised = Raised::default();
        cores.is_resting = false;
        for spec in queues {
            assert!(spec.size.is_power_of_two());
            if spec.desc >= REGION / 2 {
                raised.failed.push((spec.index, SetupError::new("outside")));
            } else {
                let queues = if spec.discards {
                    &mut cores.discarding
                } else {
                    &mut cores.up
                };
                queues.push((spec.index, spec.base.unwrap_or(7)));
            }
        }
        cores.memory =
            (!cores.up.is_empty() || !cores.discarding.is_empty()).then(|| memory.clone());
        cores.features = features;
        raised
    }

    fn down(&mut self) -> Vec<Parked> {
        let mut cores = self.0.borrow_mut();
        cores.n_downs += 1;
        cores.memory = None;
        let fault = |index| {
            cores
                .faulty
                .filter(|(faulty, _)| *faulty == index)
                .map(|(_, fault)| fault)
        };
        let parked = |&(index, base): &(u16, u16)| Parked {
            index,
            base: base.wrapping_add(1),
            fault: fault(index),
        };
        let all = cores
            .up
            .iter()
            .chain(&cores.discarding)
            .map(parked)
            .collect();
        cores.up.clear();
        cores.discarding.clear();
        all
    }

    fn memory_slots(&self) -> usize {
        16
    }

    fn rest(&mut self) {
        self.0.borrow_mut().is_resting = true;
    }

    fn forget(&mut self) {
        self.0.borrow_mut().n_forgotten += 1;
    }
}

fn device(n_pairs: u16) -> (Device<FakeDataPlane>, FakeDataPlane) {
    let plane = FakeDataPlane::default();
    (Device::new(plane.clone(), n_pairs, OFFERED), plane)
}

fn memfd(len: u64) -> File {
    let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(len).unwrap();
    file
}

fn region(slot: u64) -> RegionSpec {
    RegionSpec {
        guest_addr: slot * REGION,
        user_addr: slot * REGION,
        len: REGION,
        file_offset: 0,
        file: memfd(REGION),
    }
}

fn event() -> File {
    File::from(new_eventfd(0, EventfdFlags::CLOEXEC).unwrap())
}

fn rings(desc: u64) -> Rings {
    Rings {
        desc,
        avail: desc + 0x4000,
        used: desc + 0x8000,
    }
}

/// All that a queue needs but its kick and to be enabled.
fn set_up(device: &mut Device<FakeDataPlane>, index: u32) {
    device.set_size(index, 256).unwrap();
    device.set_base(index, 100).unwrap();
    device.set_rings(index, rings(0)).unwrap();
}

/// A device with features, memory, and one pair that runs.
fn running() -> (Device<FakeDataPlane>, FakeDataPlane) {
    let (mut device, plane) = device(1);
    device
        .set_features(VERSION_1 | F_PROTOCOL_FEATURES)
        .unwrap();
    device.add_region(region(0)).unwrap();
    for index in 0..2 {
        set_up(&mut device, index);
        device.set_kick(index, Some(event())).unwrap();
        device.set_enabled(index, true).unwrap();
    }
    assert_eq!(plane.0.borrow().up.len(), 2);
    (device, plane)
}

#[test]
fn port_rests_while_no_receive_ring_is_started_and_not_for_less() {
    let (mut device, plane) = running();
    let is_resting = |plane: &FakeDataPlane| plane.0.borrow().is_resting;
    device.stop_queue(1).unwrap();
    assert!(!is_resting(&plane), "what the guest sends says nothing");
    device.set_enabled(0, false).unwrap();
    device.set_call(0, Some(event())).unwrap();
    device.set_memory(vec![]).unwrap();
    assert!(
        !is_resting(&plane),
        "disabled and without memory for a moment, but started"
    );
    device.set_memory(vec![region(0)]).unwrap();
    device.set_enabled(0, true).unwrap();
    device.stop_queue(0).unwrap();
    assert!(
        is_resting(&plane),
        "as a front-end is left that has migrated its guest"
    );
    device.set_kick(0, Some(event())).unwrap();
    assert!(!is_resting(&plane));
    for end in [Device::disable_all, Device::reset, Device::close] {
        let (mut device, plane) = running();
        end(&mut device);
        assert!(is_resting(&plane));
    }
}

#[test]
fn queue_runs_when_all_of_it_is_there_and_not_before() {
    let (mut device, plane) = device(1);
    let is_up = |plane: &FakeDataPlane| !plane.0.borrow().up.is_empty();
    device.set_enabled(1, true).unwrap();
    device.set_kick(1, None).unwrap();
    device
        .set_features(VERSION_1 | F_PROTOCOL_FEATURES)
        .unwrap();
    device.set_size(1, 256).unwrap();
    device.set_rings(1, rings(0)).unwrap();
    assert!(!is_up(&plane), "memory is missing");
    device.add_region(region(0)).unwrap();
    assert_eq!(
        plane.0.borrow().up,
        [(1, 7)],
        "without a base it is where its used index says"
    );
}

#[test]
fn queue_without_protocol_features_is_enabled_by_its_kick() {
    let (mut device, plane) = device(1);
    device.set_features(VERSION_1).unwrap();
    device.set_memory(vec![region(0)]).unwrap();
    set_up(&mut device, 0);
    device.set_kick(0, None).unwrap();
    assert_eq!(plane.0.borrow().up, [(0, 100)]);
}

#[test]
fn stopped_queue_says_where_it_stands_and_the_other_goes_on_there() {
    let (mut device, plane) = running();
    // Queue 0 was moved once when queue 1 joined it, and once more now.
    assert_eq!(device.stop_queue(1).unwrap(), 101);
    assert_eq!(plane.0.borrow().up, [(0, 102)]);
    assert_eq!(device.stop_queue(1).unwrap(), 101, "stopped already");
    device.set_kick(1, None).unwrap();
    assert_eq!(plane.0.borrow().up, [(0, 103), (1, 101)]);
}

#[test]
fn queue_that_was_stopped_for_a_fault_runs_again_only_when_it_is_set_up_anew() {
    let (mut device, plane) = running();
    plane.0.borrow_mut().faulty = Some((1, GuestFault::AvailTooFar));
    let runs = |plane: &FakeDataPlane| {
        plane
            .0
            .borrow()
            .up
            .iter()
            .map(|(index, _)| *index)
            .collect::<Vec<_>>()
    };
    device.set_call(0, Some(event())).unwrap();
    assert_eq!(
        runs(&plane),
        [0],
        "the other queue's change brought the port up anew"
    );
    plane.0.borrow_mut().faulty = None;
    device.add_region(region(1)).unwrap();
    device.set_call(1, Some(event())).unwrap();
    assert_eq!(runs(&plane), [0]);
    let state = device.view().queues[1].state.clone();
    assert!(
        matches!(&state, QueueState::Broken(why) if why.contains("available index")),
        "{state:?}"
    );
    device.stop_queue(1).unwrap();
    device.set_base(1, 0).unwrap();
    device.set_kick(1, Some(event())).unwrap();
    assert_eq!(runs(&plane), [0, 1]);
}

#[test]
fn front_end_has_no_more_memory_regions_than_its_part() {
    let (mut device, _) = device(1);
    let n_max = device.memory_slots() as u64;
    assert!(
        device
            .set_memory((0..=n_max).map(region).collect())
            .is_err()
    );
    device.set_memory((0..n_max).map(region).collect()).unwrap();
    assert!(device.add_region(region(n_max)).is_err());
    device.remove_region(0, 0, REGION).unwrap();
    device.add_region(region(n_max)).unwrap();
}

#[test]
fn memory_is_swapped_while_nothing_runs_and_the_old_is_let_go() {
    let (mut device, plane) = running();
    let old = Arc::downgrade(device.memory().unwrap());
    let n_downs = plane.0.borrow().n_downs;
    device.add_region(region(1)).unwrap();
    assert!(old.upgrade().is_none(), "nobody holds the old memory");
    assert_eq!(plane.0.borrow().n_downs, n_downs + 1);
    assert_eq!(plane.0.borrow().memory.as_ref().unwrap().n_regions(), 2);
    device.remove_region(REGION, REGION, REGION).unwrap();
    assert_eq!(plane.0.borrow().memory.as_ref().unwrap().n_regions(), 1);
    device.remove_region(0, 0, REGION).unwrap();
    assert!(
        plane.0.borrow().up.is_empty(),
        "without memory nothing runs"
    );
    device.add_region(region(0)).unwrap();
    assert_eq!(plane.0.borrow().up.len(), 2);
}

/// What was put back for a guest counts against it, so that it must not begin anew by taking all
/// its memory away.
#[test]
fn memory_that_comes_after_all_was_taken_away_is_the_same_guests() {
    let (mut device, plane) = running();
    let first = plane.0.borrow().memory.clone().unwrap();
    device.remove_region(0, 0, REGION).unwrap();
    device.add_region(region(0)).unwrap();
    let added = plane.0.borrow().memory.clone().unwrap();
    device.set_memory(vec![]).unwrap();
    assert!(device.memory().is_none());
    device.set_memory(vec![region(1)]).unwrap();
    device.reset();
    let set = device.memory().unwrap();
    assert!(first.is_of_same_guest(&added) && first.is_of_same_guest(set));
    device.close();
    device.add_region(region(0)).unwrap();
    assert!(
        !first.is_of_same_guest(device.memory().unwrap()),
        "another guest's"
    );
}

#[test]
fn refused_memory_changes_nothing() {
    let (mut device, plane) = running();
    let n_downs = plane.0.borrow().n_downs;
    let short = RegionSpec {
        file: memfd(4096),
        ..region(1)
    };
    assert!(
        !device.add_region(short).unwrap_err().is_memory,
        "it could be shared, if it were long enough"
    );
    let on_disk = RegionSpec {
        file: File::open("/proc/self/exe").unwrap(),
        ..region(1)
    };
    assert!(device.add_region(on_disk).unwrap_err().is_memory);
    let overlap = device.add_region(region(0)).unwrap_err();
    assert!(
        overlap.text.contains("overlaps") && !overlap.is_memory,
        "it is another file's: {overlap}"
    );
    assert!(device.set_memory(vec![region(0), region(0)]).is_err());
    assert!(device.remove_region(REGION, REGION, REGION).is_err());
    assert_eq!(
        plane.0.borrow().n_downs,
        n_downs,
        "the queues were not even stopped"
    );
    assert_eq!(plane.0.borrow().up.len(), 2);
}

/// The same region again, by another descriptor of the same file.
fn again(region: &RegionSpec) -> RegionSpec {
    RegionSpec {
        file: region.file.try_clone().unwrap(),
        ..*region
    }
}

#[test]
fn region_said_once_for_every_queue_pair_is_there_once() {
    let (mut device, plane) = running();
    let first = region(1);
    let other = RegionSpec {
        file: memfd(REGION),
        ..region(1)
    };
    let moved = RegionSpec {
        file_offset: 4096,
        len: REGION - 4096,
        ..again(&first)
    };
    device.add_region(again(&first)).unwrap();
    let n_downs = plane.0.borrow().n_downs;
    device.add_region(again(&first)).unwrap();
    assert_eq!(
        plane.0.borrow().n_downs,
        n_downs,
        "nothing changed, so no queue was stopped"
    );
    assert_eq!(device.memory().unwrap().n_regions(), 2);
    assert!(
        device.add_region(other).is_err(),
        "the same addresses in another file"
    );
    assert!(
        device.add_region(moved).is_err(),
        "another part of the same file, over it"
    );
    device.remove_region(REGION, REGION, REGION).unwrap();
    assert_eq!(
        device.memory().unwrap().n_regions(),
        1,
        "however often it was added"
    );
}

#[test]
fn region_removed_once_for_every_queue_pair_takes_nothing_along_that_came_since() {
    let (mut device, plane) = running();
    let (old, new) = (
        region(1),
        RegionSpec {
            len: 2 * REGION,
            file: memfd(2 * REGION),
            ..region(1)
        },
    );
    device.add_region(old).unwrap();
    // QEMU 7.2: the first pair has both before the second has either.
    for _pair in 0..4 {
        device.remove_region(REGION, REGION, REGION).unwrap();
        device.add_region(again(&new)).unwrap();
        assert_eq!(device.memory().unwrap().n_bytes(), 3 * REGION);
    }
    assert_eq!(plane.0.borrow().up.len(), 2);
    assert!(
        device.remove_region(5 * REGION, REGION, REGION).is_err(),
        "one that there never was"
    );
    // All of them, and once more, when there is no memory left at all.
    for _pair in 0..2 {
        device.remove_region(REGION, REGION, 2 * REGION).unwrap();
        device.remove_region(0, 0, REGION).unwrap();
    }
    assert!(device.memory().is_none());
}

#[test]
fn region_that_is_there_already_needs_no_slot() {
    let (mut device, _) = device(2);
    let n_max = device.memory_slots() as u64;
    let all: Vec<_> = (0..n_max).map(region).collect();
    for _pair in 0..2 {
        all.iter()
            .for_each(|region| device.add_region(again(region)).unwrap());
    }
    // And each may be removed once more after all others were.
    for _pair in 0..2 {
        (0..n_max).for_each(|slot| {
            device
                .remove_region(slot * REGION, slot * REGION, REGION)
                .unwrap()
        });
    }
}

#[test]
fn the_same_table_again_stops_no_queue_and_another_keeps_what_is_in_both() {
    let (mut device, plane) = device(1);
    device.set_features(VERSION_1).unwrap();
    let (one, two) = (region(0), region(1));
    device.set_memory(vec![again(&one)]).unwrap();
    set_up(&mut device, 0);
    device.set_kick(0, None).unwrap();
    let n_downs = plane.0.borrow().n_downs;
    device.set_memory(vec![again(&one)]).unwrap();
    assert_eq!(plane.0.borrow().n_downs, n_downs);
    device.set_memory(vec![again(&two), again(&one)]).unwrap();
    assert_eq!(plane.0.borrow().n_downs, n_downs + 1);
    assert_eq!(plane.0.borrow().up.len(), 1);
    assert!(
        device.set_memory(vec![again(&one), again(&one)]).is_err(),
        "twice in one table is an overlap"
    );
    device
        .set_memory(vec![
            RegionSpec {
                file: memfd(REGION),
                ..again(&one)
            },
            two,
        ])
        .unwrap();
    assert_eq!(
        plane.0.borrow().n_downs,
        n_downs + 2,
        "another file is other memory"
    );
}

#[test]
fn what_is_said_of_one_pair_while_another_runs_stops_it_at_most_for_a_moment() {
    let (mut device, plane) = device(2);
    let features = VERSION_1 | F_PROTOCOL_FEATURES | F_MQ;
    let memory = region(0);
    for pair in 0..2_u32 {
        // All that QEMU says once for each pair.
        device.set_protocol_features(OFFERED).unwrap();
        device.set_features(features).unwrap();
        device.add_region(again(&memory)).unwrap();
        for index in 2 * pair..2 * pair + 2 {
            set_up(&mut device, index);
            device.set_kick(index, Some(event())).unwrap();
            device.set_call(index, Some(event())).unwrap();
            device.set_enabled(index, true).unwrap();
        }
        assert_eq!(u32::try_from(plane.0.borrow().up.len()), Ok(2 * pair + 2));
    }
    // Its end, pair by pair, with a change of memory in between.
    device.stop_queue(0).unwrap();
    device.stop_queue(1).unwrap();
    device.add_region(region(1)).unwrap();
    assert_eq!(
        plane
            .0
            .borrow()
            .up
            .iter()
            .map(|up| up.0)
            .collect::<Vec<_>>(),
        [2, 3]
    );
    device.set_features(features).unwrap();
    assert!(
        device.set_features(VERSION_1).is_err(),
        "the second pair runs"
    );
    device.stop_queue(2).unwrap();
    device.stop_queue(3).unwrap();
    device.set_features(VERSION_1).unwrap();
}

#[test]
fn transmit_queue_discards_only_between_its_first_enabling_and_the_next() {
    let (mut device, plane) = device(1);
    let discards = |plane: &FakeDataPlane| {
        plane
            .0
            .borrow()
            .discarding
            .iter()
            .map(|queue| queue.0)
            .collect::<Vec<_>>()
    };
    let runs = |plane: &FakeDataPlane| {
        plane
            .0
            .borrow()
            .up
            .iter()
            .map(|queue| queue.0)
            .collect::<Vec<_>>()
    };
    device
        .set_features(VERSION_1 | F_PROTOCOL_FEATURES)
        .unwrap();
    device.add_region(region(0)).unwrap();
    (0..2).for_each(|index| set_up(&mut device, index));
    for index in 0..2 {
        // As QEMU does before a queue pair is used.
        device.set_enabled(index, false).unwrap();
        device.set_kick(index, Some(event())).unwrap();
    }
    assert_eq!(
        (runs(&plane), discards(&plane)),
        (vec![], vec![]),
        "left alone before it is first enabled"
    );
    assert_eq!(device.view().queues[1].state, QueueState::Disabled);
    (0..2).for_each(|index| device.set_enabled(index, true).unwrap());
    assert_eq!((runs(&plane), discards(&plane)), (vec![0, 1], vec![]));
    (0..2).for_each(|index| device.set_enabled(index, false).unwrap());
    assert_eq!(
        (runs(&plane), discards(&plane)),
        (vec![], vec![1]),
        "a receive queue is left alone, as ever"
    );
    assert_eq!(device.view().queues[1].state, QueueState::Discards);
    device.add_region(region(1)).unwrap();
    assert_eq!(discards(&plane), [1], "whatever else changes");
    device.set_enabled(1, true).unwrap();
    assert_eq!((runs(&plane), discards(&plane)), (vec![1], vec![]));
    device.set_enabled(1, false).unwrap();
    // Stopped and started again, which is another life of the ring.
    device.stop_queue(1).unwrap();
    assert!(discards(&plane).is_empty());
    device.set_kick(1, Some(event())).unwrap();
    assert_eq!((runs(&plane), discards(&plane)), (vec![], vec![]));
    device.set_enabled(1, true).unwrap();
    assert_eq!(runs(&plane), [1]);
}

#[test]
fn ring_that_does_not_fit_is_refused_and_stops_that_queue_alone() {
    let (mut device, plane) = running();
    let why = device.set_rings(1, rings(REGION / 2)).unwrap_err();
    assert_eq!(why.text, "outside");
    assert_eq!(
        plane
            .0
            .borrow()
            .up
            .iter()
            .map(|up| up.0)
            .collect::<Vec<_>>(),
        [0]
    );
    assert_eq!(
        device.view().queues[1].state,
        QueueState::Broken("outside".to_owned())
    );
    // It isn't tried again for another queue's sake, but once it is set up anew.
    device.set_call(0, Some(event())).unwrap();
    device.set_rings(1, rings(0)).unwrap();
    assert_eq!(plane.0.borrow().up.len(), 2);
    assert_eq!(device.view().queues[1].state, QueueState::Runs);
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let (mut device, _) = device(2);
    for size in [0, 3, 255, 32_769, 65_536, 65_536 + 256, u32::MAX] {
        assert!(device.set_size(0, size).is_err(), "{size}");
    }
    assert!(device.set_size(0, 32_768).is_ok() && device.set_size(0, 1).is_ok());
    for index in [4, 255, 256, 65_537, u32::MAX] {
        assert!(device.set_size(index, 256).is_err() && device.set_base(index, 0).is_err());
        assert!(
            device.set_rings(index, rings(0)).is_err() && device.set_enabled(index, true).is_err()
        );
        assert!(device.set_kick(index, None).is_err() && device.stop_queue(index).is_err());
    }
    assert!(device.set_base(0, 65_536).is_err());
    for (desc, avail, used) in [(8, 0, 0), (0, 1, 0), (0, 0, 2)] {
        assert!(device.set_rings(0, Rings { desc, avail, used }).is_err());
    }
}

#[test]
fn only_what_is_offered_is_taken() {
    let (mut one, _) = device(1);
    let (mut several, _) = device(2);
    assert_eq!(one.offered() & F_MQ, 0);
    assert!(one.set_features(F_MQ).is_err() && several.set_features(F_MQ).is_ok());
    assert!(one.set_features(1 << 63).is_err());
    assert!(one.set_protocol_features(OFFERED | SLOTS).is_err());
    assert_eq!(one.protocol(), 0);
    assert!(one.set_protocol_features(OFFERED).is_ok());
}

#[test]
fn features_cannot_change_under_a_queue_that_runs() {
    let (mut device, plane) = running();
    assert!(device.set_features(F_PROTOCOL_FEATURES).is_err());
    device
        .set_features(VERSION_1 | F_PROTOCOL_FEATURES)
        .unwrap();
    device.disable_all();
    device.set_features(F_PROTOCOL_FEATURES).unwrap();
    assert!(plane.0.borrow().up.is_empty());
}

#[test]
fn file_that_is_no_eventfd_is_refused() {
    let (mut device, _) = device(1);
    assert!(device.set_kick(0, Some(memfd(4096))).is_err());
    assert!(
        device
            .set_call(0, Some(File::open("/dev/null").unwrap()))
            .is_err()
    );
    assert!(device.set_err(0, Some(File::open("/").unwrap())).is_err());
}

#[test]
fn closed_device_keeps_nothing() {
    let (mut device, plane) = running();
    let memory = Arc::downgrade(device.memory().unwrap());
    device.close();
    assert!(memory.upgrade().is_none());
    assert!(plane.0.borrow().up.is_empty());
    assert_eq!(plane.0.borrow().n_forgotten, 1);
    assert_eq!(device.view().features, None);
}

/// A message, well-formed or not.
#[derive(Clone, Debug)]
enum Step {
    Features(u64),
    Add(u64),
    Remove(u64),
    Table(Vec<u64>),
    Size(u32, u32),
    Rings(u32, u64),
    Base(u32, u32),
    Stop(u32),
    Kick(u32, bool),
    Call(u32, bool),
    Enable(u32, bool),
    DisableAll,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0..5_u32;
    prop_oneof![
        prop::sample::select(vec![0, VERSION_1, VERSION_1 | F_PROTOCOL_FEATURES, 1 << 50])
            .prop_map(Step::Features),
        (0..3_u64).prop_map(Step::Add),
        (0..3_u64).prop_map(Step::Remove),
        prop::collection::vec(0..3_u64, 0..3).prop_map(Step::Table),
        (index(), prop::sample::select(vec![0, 1, 3, 256, 40_000]))
            .prop_map(|(i, n)| Step::Size(i, n)),
        (index(), prop::sample::select(vec![0, 1, REGION / 2]))
            .prop_map(|(i, at)| Step::Rings(i, at)),
        (index(), 0..70_000_u32).prop_map(|(i, n)| Step::Base(i, n)),
        index().prop_map(Step::Stop),
        (index(), any::<bool>()).prop_map(|(i, on)| Step::Kick(i, on)),
        (index(), any::<bool>()).prop_map(|(i, on)| Step::Call(i, on)),
        (index(), any::<bool>()).prop_map(|(i, on)| Step::Enable(i, on)),
        Just(Step::DisableAll),
        Just(Step::Reset),
    ]
}

fn take(device: &mut Device<FakeDataPlane>, step: Step) -> Result<()> {
    match step {
        Step::Features(bits) => device.set_features(bits),
        Step::Add(slot) => device.add_region(region(slot)),
        Step::Remove(slot) => device.remove_region(slot * REGION, slot * REGION, REGION),
        Step::Table(slots) => device.set_memory(slots.into_iter().map(region).collect()),
        Step::Size(index, size) => device.set_size(index, size),
        Step::Rings(index, at) => device.set_rings(index, rings(at)),
        Step::Base(index, base) => device.set_base(index, base),
        Step::Stop(index) => device.stop_queue(index).map(drop),
        Step::Kick(index, has_file) => device.set_kick(index, has_file.then(event)),
        Step::Call(index, has_file) => device.set_call(index, has_file.then(event)),
        Step::Enable(index, on) => device.set_enabled(index, on),
        Step::DisableAll => {
            device.disable_all();
            Ok(())
        }
        Step::Reset => {
            device.reset();
            Ok(())
        }
    }
}

proptest! {
    /// Whatever is said in whatever order: the cores have exactly the queues that the device says
    /// run, with its memory and features; and in the end nothing is left.
    #[test]
    fn any_order_of_messages_leaves_a_defined_state(steps in prop::collection::vec(step(), 0..60)) {
        let (mut device, plane) = device(2);
        for step in steps {
            let _ = take(&mut device, step);
            let _ = device.take_notes();
            let cores = plane.0.borrow();
            let view = device.view();
            let of_state = |state: QueueState| -> Vec<u16> {
                let has_state = |&index: &u16| view.queues[usize::from(index)].state == state;
                (0..4_u16).filter(has_state).collect()
            };
            let mut up: Vec<_> = cores.up.iter().map(|up| up.0).collect();
            up.sort_unstable();
            prop_assert_eq!(&of_state(QueueState::Runs), &up);
            let discarding: Vec<_> = cores.discarding.iter().map(|queue| queue.0).collect();
            prop_assert_eq!(of_state(QueueState::Discards), discarding);
            if !up.is_empty() {
                prop_assert!(Arc::ptr_eq(cores.memory.as_ref().unwrap(), device.memory().unwrap()));
                prop_assert_eq!(Some(cores.features), view.features);
            }
            // What is held: the device's handle and, if something runs, the cores'.
            if let Some(memory) = device.memory() {
                prop_assert_eq!(Arc::strong_count(memory), 1 + usize::from(cores.memory.is_some()));
            }
        }
        let memory = device.memory().map(Arc::downgrade);
        device.close();
        prop_assert!(plane.0.borrow().up.is_empty() && plane.0.borrow().discarding.is_empty());
        prop_assert!(memory.is_none_or(|memory| memory.upgrade().is_none()));
    }
}

#[test]
fn guest_with_sixteen_pairs_changes_its_queues_less_often_than_is_let_at_once() {
    let (mut device, _) = device(16);
    device
        .set_features(VERSION_1 | F_PROTOCOL_FEATURES)
        .unwrap();
    // Firmware, then the system, then a reset.
    for _ in 0..3 {
        device.set_memory(vec![region(0)]).unwrap();
        for index in 0..32 {
            set_up(&mut device, index);
            device.set_kick(index, Some(event())).unwrap();
            device.set_call(index, Some(event())).unwrap();
            device.set_enabled(index, true).unwrap();
        }
        // The driver has its interrupts unmasked.
        (0..32).for_each(|index| device.set_call(index, Some(event())).unwrap());
        (0..32).for_each(|index| _ = device.stop_queue(index).unwrap());
    }
    let n = device.take_changes();
    assert!((96..512).contains(&n), "{n}");
    assert_eq!(device.take_changes(), 0);
}
