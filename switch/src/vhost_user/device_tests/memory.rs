//! Regions that come, go and come again.

use super::fake::*;
use super::*;

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

/// It costs a front-end nothing to share much: one file, which has no bytes yet, again and again.
#[test]
fn front_end_has_no_more_address_space_than_its_part() {
    let (mut device, plane) = device(1);
    let len = plane.memory_bytes() / 4;
    let file = memfd(2 * len);
    let part = |slot: u64, len: u64| RegionSpec {
        guest_addr: slot * len,
        user_addr: slot * len,
        len,
        file_offset: 0,
        file: file.try_clone().unwrap(),
    };
    assert!(
        device
            .set_memory((0..5).map(|n| part(n, len)).collect())
            .is_err()
    );
    (0..4).for_each(|slot| device.add_region(part(slot, len)).unwrap());
    let refusal = device.add_region(part(4, len)).unwrap_err();
    assert!(refusal.to_string().contains("bytes"), "{refusal}");
    // As much in other places, while the old one is still there.
    let other = (8..12).map(|slot| part(slot, len)).collect();
    device.set_memory(other).unwrap();
    // Another port's front-end has what it needs.
    let (mut device, _) = self::device(1);
    device.add_region(part(0, len)).unwrap();
}

#[test]
fn memory_is_swapped_while_nothing_runs_and_the_old_is_let_go() {
    let (mut device, plane) = running();
    let old = Arc::downgrade(device.memory().unwrap());
    let n_downs = plane.0.borrow().n_downs;
    device.add_region(region(1)).unwrap();
    assert_eq!(plane.0.borrow().n_downs, n_downs + 1);
    assert_eq!(plane.0.borrow().memory.as_ref().unwrap().n_regions(), 2);
    assert_eq!(plane.0.borrow().up.len(), 2);
    assert!(
        old.upgrade().is_some(),
        "it takes long to end, while nothing would run"
    );
    drop(device.take_old_memory());
    assert!(old.upgrade().is_none(), "nobody holds the old memory");
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
pub(super) fn again(region: &RegionSpec) -> RegionSpec {
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
