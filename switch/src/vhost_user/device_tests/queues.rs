//! Which queues run, and where they stand.

use pmd::GuestFault;

use super::fake::*;
use super::memory::again;
use super::*;

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
    device.set_call(0, Some(event())).unwrap();
    assert_eq!(
        plane.polled(),
        [0],
        "the other queue's change brought the port up anew"
    );
    plane.0.borrow_mut().faulty = None;
    device.add_region(region(1)).unwrap();
    device.set_call(1, Some(event())).unwrap();
    assert_eq!(plane.polled(), [0]);
    let state = device.view().queues[1].state.clone();
    assert!(
        matches!(&state, QueueState::Broken(why) if why.contains("available index")),
        "{state:?}"
    );
    device.stop_queue(1).unwrap();
    device.set_base(1, 0).unwrap();
    device.set_kick(1, Some(event())).unwrap();
    assert_eq!(plane.polled(), [0, 1]);
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
    assert_eq!(plane.polled(), [2, 3]);
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
        (plane.polled(), plane.discarding()),
        (vec![], vec![]),
        "left alone before it is first enabled"
    );
    assert_eq!(device.view().queues[1].state, QueueState::Disabled);
    (0..2).for_each(|index| device.set_enabled(index, true).unwrap());
    assert_eq!((plane.polled(), plane.discarding()), (vec![0, 1], vec![]));
    (0..2).for_each(|index| device.set_enabled(index, false).unwrap());
    assert_eq!(
        (plane.polled(), plane.discarding()),
        (vec![], vec![1]),
        "a receive queue is left alone, as ever"
    );
    assert_eq!(device.view().queues[1].state, QueueState::Discards);
    device.add_region(region(1)).unwrap();
    assert_eq!(plane.discarding(), [1], "whatever else changes");
    device.set_enabled(1, true).unwrap();
    assert_eq!((plane.polled(), plane.discarding()), (vec![1], vec![]));
    device.set_enabled(1, false).unwrap();
    // Stopped and started again, which is another life of the ring.
    device.stop_queue(1).unwrap();
    assert!(plane.discarding().is_empty());
    device.set_kick(1, Some(event())).unwrap();
    assert_eq!((plane.polled(), plane.discarding()), (vec![], vec![]));
    device.set_enabled(1, true).unwrap();
    assert_eq!(plane.polled(), [1]);
}

#[test]
fn ring_that_does_not_fit_is_refused_and_stops_that_queue_alone() {
    let (mut device, plane) = running();
    let why = device.set_rings(1, rings(REGION / 2)).unwrap_err();
    assert_eq!(why.text, "outside");
    assert_eq!(plane.polled(), [0]);
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
fn closed_device_keeps_nothing() {
    let (mut device, plane) = running();
    let memory = Arc::downgrade(device.memory().unwrap());
    device.close();
    assert!(memory.upgrade().is_none());
    assert!(plane.0.borrow().up.is_empty());
    assert_eq!(plane.0.borrow().n_forgotten, 1);
    assert_eq!(device.view().features, None);
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
