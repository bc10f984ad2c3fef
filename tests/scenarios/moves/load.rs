//! What each receive queue takes of its core.

use super::*;

#[test]
fn queues_are_listed_with_their_core_and_their_part_of_it() {
    let mut world = World::new(2);
    let all = world.rig.cores.queues();
    let names: Vec<_> = all.iter().map(|queue| (queue.port, queue.queue)).collect();
    assert_eq!(
        names,
        [
            (0, 1),
            (0, 3),
            (1, 1),
            (1, 3),
            (2, 0),
            (2, 1),
            (3, 1),
            (4, 1)
        ]
    );
    assert_eq!(all.iter().filter(|queue| queue.core == 0).count(), 4);
    // Those that use one transmit queue of the device are on one core.
    assert!(
        all.iter()
            .all(|queue| queue.core == usize::from(queue.tx_index) % 2)
    );
    world.rig.cores.age(1, 300);
    for _ in 0..200 {
        (0..20).for_each(|_| _ = world.send((0, 0, 1), 60));
        world.send((WIRE, 0, 1), 60);
        world.rig.step();
        world.check(true);
    }
    world.rig.cores.age(2, 300);
    let after = world.rig.cores.queues();
    let of = |port, number| {
        let mut queues = after.iter();
        *queues
            .find(|queue| (queue.port, queue.queue) == (port, number))
            .expect("a queue")
    };
    assert_eq!(of(0, 1).rx_frames - all[0].rx_frames, 4000);
    let (busy, idle) = (of(0, 1), of(1, 1));
    assert!(
        busy.part_of_core > 0.4 && busy.part_of_core <= 1.0,
        "{busy:?}"
    );
    assert!(
        idle.part_of_core < 0.01 && idle.busy_cycles < busy.busy_cycles / 4,
        "{idle:?}"
    );
    for core in 0..2 {
        let of_core = after.iter().filter(|queue| queue.core == core);
        let sum: f64 = of_core.map(|queue| queue.part_of_core).sum();
        assert!(sum <= 1.000_001, "{sum}");
    }
    // On another core it begins anew.
    world.rig.move_queue(0, 1, 1 - busy.core);
    let moved = world.rig.cores.queues()[0];
    assert_eq!((moved.core, moved.part_of_core), (1 - busy.core, 0.0));
    assert!(moved.busy_cycles >= busy.busy_cycles && !moved.is_moving);
}
