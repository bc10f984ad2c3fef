//! Ports that go down with as much held as may be.

use pmd::sys::thread_cpu_ns;

use super::*;

const BYTES_MAX: u64 = 8 << 20;

/// One wire, one VM that may get little but for which much may wait, another pair.
fn world() -> World {
    let queue = QueueOptions {
        time: 1000 * SECOND,
        bytes_max: BYTES_MAX,
    };
    let to_vm = LimitOptions {
        queue: Some(queue),
        ..bits(1_000_000)
    };
    World::new(
        1,
        &[
            (false, NO_LIMIT),
            (false, to_vm),
            (false, NO_LIMIT),
            (false, NO_LIMIT),
        ],
    )
}

/// Fills the VM's queue; gives how many frames of the wire's are held.
fn fill(world: &mut World) -> u64 {
    let before = world.drops(0, DropReason::Limit);
    while world.drops(0, DropReason::Limit) == before {
        world.send_many(0, 1, 60, 32);
        world.rig.step();
    }
    world.drain();
    world.sent_at.clear();
    world.rig.counters(0).held
}

/// Other ports of the core must not wait while one that goes down is cleared of what guests or a
/// wire left for it.
#[test]
fn port_that_goes_down_with_megabytes_held_keeps_nobody_waiting() {
    for goes_down in [0, 1] {
        let mut world = world();
        let mut quickest = u64::MAX;
        for _ in 0..3 {
            let (n_held, before) = (fill(&mut world), world.drops(0, DropReason::PortDown));
            assert!(n_held * 64 > BYTES_MAX * 9 / 10, "{n_held} frames are held");
            world.rig.cores.start_down(goes_down);
            let mut longest = 0;
            let down = loop {
                let id = world.send(2, 3, 60);
                let then = thread_cpu_ns();
                world.rig.step();
                longest = longest.max(thread_cpu_ns() - then);
                assert_eq!(
                    world.receive(3).iter().map(|got| got.0).collect::<Vec<_>>(),
                    [id]
                );
                if let Some(down) = world.rig.cores.try_finish_down(goes_down) {
                    break down;
                }
            };
            quickest = quickest.min(longest);
            let counters = world.rig.counters(0);
            assert_eq!(
                (counters.held, world.drops(0, DropReason::PortDown) - before),
                (0, n_held)
            );
            world.rig.assert_counted();
            drop(down);
            // Whoever has the port now gets nothing of it, and pays for nothing: all of the room is
            // there.
            let end = MemPort::new(usize::MAX, false);
            world.rig.plug_mem(goes_down, Some(0), &end);
            world.ports[usize::from(goes_down)] = end;
            world.send(0, 1, 60);
            world.rig.step();
            assert!(world.receive(1).len() <= 1);
            world.ports[usize::from(goes_down)].send(&frame(ALL, mac(goes_down), 0, 60));
            world.rig.step();
            world.drain();
        }
        // A frame of this size takes some ten nanoseconds to drop, and there are 130,000: no turn
        // may do that.
        assert!(quickest < 500_000, "a turn took {quickest} ns of the core");
        world.rig.down(1);
        world.assert_at_rest();
    }
}

/// What a VM had is freed by control: once its port is down, no core has a hand in it, also where
/// another's ring waited there.
#[test]
fn ring_that_waited_at_a_port_that_went_down_keeps_nothing_of_it() {
    let mut world = World::new(2, &[(true, NO_LIMIT), (true, NO_LIMIT), (false, NO_LIMIT)]);
    let limits = Arc::new(VmLimits::new(NO_LIMIT, bits(2_000_000)));
    world.rig.down(1);
    world.rig.cores.limit(&[1], &limits);
    let end = world.ports[1].clone();
    world.rig.plug_mem(1, Some(0), &end);
    let before = Arc::strong_count(&limits);
    world.send_many(0, 1, 1514, 200);
    world.send_many(2, 1, 1514, 200);
    (0..10).for_each(|_| _ = world.rig.step());
    assert!(world.ports[0].n_waiting() > 0 && world.rig.counters(2).held > 0);
    assert!(
        Arc::strong_count(&limits) >= before + 2,
        "a ring and a queue wait there"
    );
    drop(world.rig.down(1));
    // Control has it, and this test.
    assert_eq!(Arc::strong_count(&limits), 2);
}
