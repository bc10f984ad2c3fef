//! Frames that wait at a VM's limit, of queues that move.

use flowtable::SourcePolicy;
use pmd::limit::{LimitOptions, QueueOptions};
use rig::{Dice, MS, seeds};

use super::*;

const LIMIT: LimitOptions = LimitOptions {
    bits_per_sec: Some(60_000_000),
    packets_per_sec: None,
    burst_bytes: None,
    queue: Some(QueueOptions {
        time: 200 * MS,
        bytes_max: 8 << 20,
    }),
};
const TO: PortId = GUEST_IN_MEMORY;

/// Frames that wait in the switch.
fn n_held(world: &World) -> u64 {
    (0..N_PORTS as PortId)
        .map(|port| world.rig.counters(port).held)
        .sum()
}

#[test]
fn frames_that_wait_at_a_limit_go_with_their_queue_in_order() {
    for seed in seeds(0..6) {
        let mut dice = Dice::new(seed);
        let mut world = World::with_limit(2, LIMIT);
        let (mut n_held_at_most, mut n_moves) = (0, 0);
        for _ in 0..3_000 {
            for flow in [
                (WIRE, 0, TO),
                (DEVICE, 0, TO),
                (0, 1, TO),
                (0, 1, 1),
                (DEVICE, 1, TO),
            ] {
                if dice.below(8) == 0 {
                    world.send(flow, 60 + dice.below(1000));
                }
            }
            world.rig.turn(dice.below(2));
            if dice.below(20) == 0 {
                let (port, queue) = [(WIRE, 1), (DEVICE, 0), (DEVICE, 1), (0, 3)][dice.below(4)];
                let moves = world.rig.cores.start_move(port, queue, dice.below(2));
                n_moves += u64::from(moves.is_ok());
            }
            if dice.below(3) == 0 {
                world.rig.cores.try_finish_moves();
            }
            n_held_at_most = n_held(&world).max(n_held_at_most);
            world.check(true);
        }
        assert_eq!(world.finish(true), 0, "dropped");
        assert!(
            n_held_at_most > 50 && n_moves > 20,
            "{n_held_at_most}, {n_moves}"
        );
        assert_eq!(n_held(&world), 0);
    }
}

/// Frames of the queue are held, and it is in control's hands.
fn world_with_a_queue_between_cores() -> (World, u64) {
    let mut world = World::with_limit(2, LIMIT);
    for _ in 0..200 {
        assert!(world.send((WIRE, 0, TO), 1000));
    }
    (0..10).for_each(|_| _ = world.rig.step());
    let core = core_of(&world, WIRE);
    world
        .rig
        .cores
        .start_move(WIRE, 1, 1 - core)
        .expect("it moves");
    world.rig.step();
    let n = n_held(&world);
    assert!(n > 50, "{n} are held");
    (world, n)
}

fn core_of(world: &World, port: PortId) -> usize {
    let all = world.rig.cores.queues();
    all.iter()
        .find(|queue| queue.port == port)
        .expect("a queue")
        .core
}

#[test]
fn frames_held_for_a_port_that_goes_down_while_their_queue_moves_are_dropped_and_counted() {
    for is_collected in [false, true] {
        let (mut world, n) = world_with_a_queue_between_cores();
        world.check(true);
        let n_before = world.arrived[&(WIRE, 0, TO)];
        if is_collected {
            // By a step of control that is not the move's own.
            assert!(world.rig.cores.try_finish_down(TO).is_none());
        }
        let down = world.rig.down(TO);
        assert_eq!((down.rxqs.len(), down.txqs.len()), (1, 1));
        assert_eq!(n_held(&world), 0);
        let counters = world.rig.counters(WIRE);
        assert_eq!(counters.drops[flowtable::DropReason::PortDown.index()], n);
        assert!(counters.is_balanced());
        // The next owner of the number gets none of them.
        let end = MemPort::new(usize::MAX, true);
        world.rig.plug_mem(TO, Some(0), &end);
        world.rig.until(|rig| rig.cores.try_finish_moves());
        (0..2_000).for_each(|_| _ = world.rig.step());
        assert!(end.receive().is_none());
        world.check(true);
        assert_eq!(world.arrived[&(WIRE, 0, TO)], n_before);
    }
}

#[test]
fn port_that_goes_down_while_its_queue_moves_comes_back_whole() {
    for is_collected in [false, true] {
        let (mut world, n) = world_with_a_queue_between_cores();
        if is_collected {
            assert!(world.rig.cores.try_finish_down(TO).is_none());
        }
        let down = world.rig.down(WIRE);
        assert_eq!((down.rxqs.len(), down.txqs.len()), (1, 1));
        let counters = world.rig.counters(WIRE);
        assert_eq!(
            (
                counters.drops[flowtable::DropReason::PortDown.index()],
                counters.held
            ),
            (n, 0)
        );
        assert!(counters.is_balanced() && world.rig.cores.try_finish_moves());
        assert!(
            world
                .rig
                .cores
                .queues()
                .iter()
                .all(|queue| queue.port != WIRE)
        );
    }
}

#[test]
fn frames_held_for_a_port_that_goes_to_another_network_meanwhile_are_dropped_and_counted() {
    let (mut world, n) = world_with_a_queue_between_cores();
    world.check(true);
    let n_before = world.arrived[&(WIRE, 0, TO)];
    world
        .rig
        .cores
        .set_networks(&networks(&[&[0, 1, 2, 4], &[TO]]));
    let change =
        world
            .rig
            .cores
            .start_set_ingress(&rig::ingress(TO, 1, SourcePolicy::Any(u32::MAX)));
    world
        .rig
        .until(|rig| rig.cores.try_finish_change(&change).is_some());
    world.rig.until(|rig| rig.cores.try_finish_moves());
    (0..2_000).for_each(|_| _ = world.rig.step());
    world.check(true);
    assert_eq!(world.arrived[&(WIRE, 0, TO)], n_before);
    assert_eq!(n_held(&world), 0);
    let counters = world.rig.counters(WIRE);
    assert_eq!(counters.drops[flowtable::DropReason::PortDown.index()], n);
    assert!(counters.is_balanced());
}

#[test]
fn queue_that_moves_while_its_limits_change_goes_on_by_the_new_ones() {
    for is_limited in [false, true] {
        let mut world = World::new(2);
        let slow = rig::bits(80_000);
        world.rig.limit(&[WIRE], slow, NO_LIMIT);
        (0..200).for_each(|_| assert!(world.send((WIRE, 0, 1), 1000)));
        (0..100).for_each(|_| _ = world.rig.step());
        let n_before = world.rig.counters(WIRE).rx_frames;
        assert!(
            (50..100).contains(&n_before),
            "{n_before}: what was saved up has gone"
        );
        let core = core_of(&world, WIRE);
        world
            .rig
            .cores
            .start_move(WIRE, 1, 1 - core)
            .expect("it moves");
        world.rig.step();
        // In control's hands, its gate shut for a tenth of a second.
        let now = if is_limited {
            rig::bits(8_000_000_000)
        } else {
            NO_LIMIT
        };
        world.rig.limit(&[WIRE], now, NO_LIMIT);
        world.rig.until(|rig| rig.cores.try_finish_moves());
        (0..100).for_each(|_| _ = world.rig.step());
        world.check(true);
        assert_eq!(world.arrived[&(WIRE, 0, 1)], 200);
    }
}
