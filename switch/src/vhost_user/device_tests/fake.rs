//! Cores that poll nothing, and what a front-end has: regions, events, rings.

use std::cell::RefCell;
use std::rc::Rc;

use pmd::ring::QueueSpec;
use pmd::{GuestFault, SetupError};
use rustix::event::{EventfdFlags, eventfd as new_eventfd};
use rustix::fs::{MemfdFlags, memfd_create};

use super::*;
use crate::vhost_user::cores::Raised;

pub(super) const SLOTS: u64 = 0x20;
/// Offered as protocol features.
pub(super) const OFFERED: u64 = 0x8009;
pub(super) const REGION: u64 = 1 << 20;
pub(super) const VERSION_1: u64 = 1 << 32;

/// What the cores would have.
#[derive(Debug, Default)]
pub(super) struct Cores {
    /// Index and position of each queue that is polled, each poll having moved it on by one.
    pub(super) up: Vec<(u16, u16)>,
    /// The same of those from which everything is dropped.
    pub(super) discarding: Vec<(u16, u16)>,
    pub(super) memory: Option<Arc<GuestMemory>>,
    pub(super) features: u64,
    /// A queue that breaks a rule, and which.
    pub(super) faulty: Option<(u16, GuestFault)>,
    pub(super) n_downs: usize,
    pub(super) n_forgotten: usize,
    /// Since it was brought up last.
    pub(super) is_resting: bool,
}

/// Cores that poll nothing. Rings in the upper half of user memory can't be built.
#[derive(Clone, Debug, Default)]
pub(super) struct FakeDataPlane(pub(super) Rc<RefCell<Cores>>);

impl FakeDataPlane {
    /// Indexes of the queues that are polled.
    pub(super) fn polled(&self) -> Vec<u16> {
        self.0.borrow().up.iter().map(|queue| queue.0).collect()
    }

    /// Indexes of those from which everything is dropped.
    pub(super) fn discarding(&self) -> Vec<u16> {
        let cores = self.0.borrow();
        cores.discarding.iter().map(|queue| queue.0).collect()
    }
}

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

    fn memory_bytes(&self) -> u64 {
        1 << 36
    }

    fn rest(&mut self) {
        self.0.borrow_mut().is_resting = true;
    }

    fn forget(&mut self) {
        self.0.borrow_mut().n_forgotten += 1;
    }
}

pub(super) fn device(n_pairs: u16) -> (Device<FakeDataPlane>, FakeDataPlane) {
    let plane = FakeDataPlane::default();
    (Device::new(plane.clone(), n_pairs, OFFERED), plane)
}

pub(super) fn memfd(len: u64) -> File {
    let file = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(len).unwrap();
    file
}

pub(super) fn region(slot: u64) -> RegionSpec {
    RegionSpec {
        guest_addr: slot * REGION,
        user_addr: slot * REGION,
        len: REGION,
        file_offset: 0,
        file: memfd(REGION),
    }
}

pub(super) fn event() -> File {
    File::from(new_eventfd(0, EventfdFlags::CLOEXEC).unwrap())
}

pub(super) fn rings(desc: u64) -> Rings {
    Rings {
        desc,
        avail: desc + 0x4000,
        used: desc + 0x8000,
    }
}

/// All that a queue needs but its kick and to be enabled.
pub(super) fn set_up(device: &mut Device<FakeDataPlane>, index: u32) {
    device.set_size(index, 256).unwrap();
    device.set_base(index, 100).unwrap();
    device.set_rings(index, rings(0)).unwrap();
}

/// A device with features, memory, and one pair that runs.
pub(super) fn running() -> (Device<FakeDataPlane>, FakeDataPlane) {
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
