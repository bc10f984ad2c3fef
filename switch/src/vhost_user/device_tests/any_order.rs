//! Whatever is said, in whatever order.

use proptest::prelude::*;

use super::fake::*;
use super::*;

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
            let of_state = |state| -> Vec<u16> {
                (0..4).filter(|&index| view.queues[usize::from(index)].state == state).collect()
            };
            let mut up = plane.polled();
            up.sort_unstable();
            prop_assert_eq!(&of_state(QueueState::Runs), &up);
            prop_assert_eq!(of_state(QueueState::Discards), plane.discarding());
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
        prop_assert!(plane.polled().is_empty() && plane.discarding().is_empty());
        prop_assert!(memory.is_none_or(|memory| memory.upgrade().is_none()));
    }
}
