//! Order and loss while queues move at random.

use rig::{Dice, seeds};

use super::*;

/// Receive queues that may move.
const QUEUES: [(PortId, u16); 8] = [
    (0, 1),
    (0, 3),
    (1, 1),
    (1, 3),
    (DEVICE, 0),
    (DEVICE, 1),
    (GUEST_IN_MEMORY, 1),
    (WIRE, 1),
];

/// Sends, turns some core, moves some queue, goes on with moves: in any order.
fn shuffle(world: &mut World, dice: &mut Dice, n_cores: usize, n_moves: &mut u64) {
    match dice.below(8) {
        0..3 => {
            for _ in 0..dice.below(20) {
                let flow = World::any_flow(dice);
                world.send(flow, 60 + dice.below(1400));
            }
        }
        3..6 => _ = world.rig.turn(dice.below(n_cores)),
        6 => {
            let (port, queue) = QUEUES[dice.below(QUEUES.len())];
            let moves = world.rig.cores.start_move(port, queue, dice.below(n_cores));
            *n_moves += u64::from(moves.is_ok());
        }
        _ => _ = world.rig.cores.try_finish_moves(),
    }
}

#[test]
fn flows_of_queues_that_move_stay_in_order_and_lose_nothing() {
    let n_steps = if cfg!(miri) { 300 } else { 20_000 };
    for seed in seeds(0..6) {
        let (mut dice, n_cores) = (Dice::new(seed), 2 + seed as usize % 2);
        let (mut world, mut n_moves) = (World::new(n_cores), 0);
        for _ in 0..n_steps {
            shuffle(&mut world, &mut dice, n_cores, &mut n_moves);
            // Receivers have room, so nothing may be lost at all.
            world.check(true);
        }
        assert_eq!(world.finish(true), 0, "dropped");
        assert!(n_moves > n_steps / 20, "{n_moves}");
        let n_sent: u64 = world.next.values().sum();
        assert!(n_sent > n_steps / 2, "{n_sent}");
    }
}

#[test]
fn frames_that_wait_for_room_go_in_order_after_a_move() {
    let n_steps = if cfg!(miri) { 300 } else { 20_000 };
    for seed in seeds(10..16) {
        let (mut dice, n_cores) = (Dice::new(seed), 2);
        let (mut world, mut n_moves) = (World::new(n_cores), 0);
        for step in 0..n_steps {
            shuffle(&mut world, &mut dice, n_cores, &mut n_moves);
            // A queue of the device stops for a while, guests fetch rarely: bursts are cut, floods
            // stop half way, queues wait for room, reserve buffers and turns at locks.
            if step % 97 == 0 {
                world.peers[dice.below(2)].stall(dice.below(3) > 0);
            }
            if dice.below(60) == 0 {
                world.check(false);
            }
        }
        let n_dropped = world.finish(false);
        let (n_sent, n_arrived) = (
            world.next.values().sum::<u64>(),
            world.arrived.values().sum::<u64>(),
        );
        assert!(n_arrived <= n_sent && n_sent > n_steps / 20);
        assert!(n_dropped < n_sent, "{n_dropped} of {n_sent}");
        assert!(n_moves > n_steps / 20, "{n_moves}");
    }
}

#[test]
fn flow_leaves_a_device_by_the_same_queue_wherever_it_is_polled() {
    let mut world = World::new(2);
    let flow = (0, 0, DEVICE);
    for core in [1, 0, 1, 1, 0] {
        let _ = world.rig.cores.start_move(0, 1, core);
        world.rig.until(|rig| rig.cores.try_finish_moves());
        (0..10).for_each(|_| assert!(world.send(flow, 60)));
        world.rig.settle();
    }
    let n_by = |peer: &XskPeer| std::iter::from_fn(|| peer.receive()).count();
    let by = [n_by(&world.peers[0]), n_by(&world.peers[1])];
    assert!(by == [50, 0] || by == [0, 50], "{by:?}");
}
