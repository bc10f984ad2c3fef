//! What is refused.

use super::fake::*;
use super::*;

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
