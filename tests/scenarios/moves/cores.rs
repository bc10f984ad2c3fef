//! Cores that come and go on virtual time.

use pmd::control::{MoveError, RemoveError};
use rig::{Dice, seeds};

use super::*;

#[test]
fn flows_stay_whole_while_cores_go_one_two_one_fifty_times() {
    let n_rounds = if cfg!(miri) { 2 } else { 50 };
    for seed in seeds(0..3) {
        let (mut dice, mut world) = (Dice::new(seed), World::new(1));
        let mut work = |world: &mut World| {
            for _ in 0..30 {
                for _ in 0..dice.below(12) {
                    let flow = World::any_flow(&mut dice);
                    world.send(flow, 60 + dice.below(1400));
                }
                let cores = world.rig.turning();
                world.rig.turn(cores[dice.below(cores.len())]);
                world.rig.cores.try_finish_moves();
                world.check(true);
            }
        };
        for round in 0..n_rounds {
            work(&mut world);
            let core = world.rig.add_core();
            assert_eq!((core, world.rig.cores.core_ids()), (1, vec![0, 1]));
            world.rig.cores.start_spread();
            work(&mut world);
            world.rig.until(|rig| rig.cores.try_finish_moves());
            let loads = world.rig.cores.queues();
            assert_eq!(loads.iter().filter(|queue| queue.core == core).count(), 4);
            // Each in its turn, so that every number has been both.
            let core = round % 2;
            world.rig.cores.start_remove_core(core).expect("it may go");
            work(&mut world);
            world
                .rig
                .until(|rig| rig.cores.try_finish_remove_core(core));
            world.rig.forget_ended();
            assert_eq!(world.rig.turning(), [1 - core]);
            if core == 0 {
                assert_eq!(world.rig.add_core(), 0);
                world.rig.remove_core(1);
            }
        }
        assert_eq!(world.finish(true), 0, "dropped");
        let peers = world.peers.iter();
        assert_eq!(peers.map(XskPeer::n_lost).sum::<u64>(), 0);
    }
}

#[test]
fn cores_that_go_together_give_their_queues_to_those_that_stay() {
    let mut world = World::new(4);
    let all = |world: &World| world.rig.cores.queues();
    assert_eq!(all(&world).len(), 8);
    for ids in [&[0, 1, 2, 3][..], &[0, 7], &[1, 1, 2, 3, 0]] {
        let why = world.rig.cores.remove_cores(ids).unwrap_err();
        assert!(matches!(why, RemoveError::Last | RemoveError::NoCore));
        assert_eq!(world.rig.cores.core_ids(), [0, 1, 2, 3]);
    }
    world
        .rig
        .cores
        .start_remove_cores(&[0, 1, 3])
        .expect("they may go");
    // Whoever is next is never one that goes, too.
    assert!(
        all(&world)
            .iter()
            .all(|queue| queue.core == 2 || !queue.is_moving)
    );
    for core in [0, 1, 3] {
        world
            .rig
            .until(|rig| rig.cores.try_finish_remove_core(core));
    }
    world.rig.forget_ended();
    assert_eq!(world.rig.cores.core_ids(), [2]);
    assert!(
        all(&world)
            .iter()
            .all(|queue| queue.core == 2 && !queue.is_moving)
    );
}

#[test]
fn counters_of_a_core_that_is_gone_stay_in_all_sums() {
    let mut world = World::new(2);
    for _ in 0..50 {
        for port in 0..2 {
            assert!(world.send((port, 0, 1 - port), 100) && world.send((port, 1, 1 - port), 100));
        }
        world.rig.step();
        world.check(true);
    }
    world.rig.settle();
    let sums = |world: &World| {
        let cores = world.rig.cores.core_counters();
        let flows = world.rig.cores.flows();
        (
            (0..N_PORTS as PortId)
                .map(|port| world.rig.counters(port))
                .collect::<Vec<_>>(),
            cores.iter().map(|core| core.rx_frames).sum::<u64>(),
            flows.front_hits + flows.hits + flows.misses,
        )
    };
    let before = sums(&world);
    assert!(world.rig.cores.core_counters()[1].rx_frames > 0);
    world.rig.remove_core(1);
    assert_eq!(sums(&world), before);
    assert_eq!(world.rig.cores.core_counters()[1].n_rxqs, 0);
    assert_eq!(world.rig.cores.core_counters()[0].n_rxqs, 8);
    // The next one takes its place, and counts on.
    assert_eq!(world.rig.add_core(), 1);
    assert_eq!(sums(&world), before);
    world.rig.cores.start_spread();
    world.rig.until(|rig| rig.cores.try_finish_moves());
    assert!(world.send((0, 0, 1), 100));
    world.rig.settle();
    assert_eq!(sums(&world).1, before.1 + 1);
}

#[test]
fn last_core_stays_and_what_is_not_there_is_refused() {
    let mut world = World::new(2);
    let cores = &world.rig.cores;
    assert_eq!(cores.start_remove_core(2), Err(RemoveError::NoCore));
    assert_eq!(cores.start_remove_core(0), Ok(()));
    assert_eq!(cores.start_remove_core(0), Err(RemoveError::NoCore));
    assert_eq!(cores.start_remove_core(1), Err(RemoveError::Last));
    assert_eq!(cores.start_move(0, 1, 0), Err(MoveError::NoCore));
    assert_eq!(cores.start_move(0, 1, 7), Err(MoveError::NoCore));
    assert_eq!(cores.start_move(0, 0, 1), Err(MoveError::NoQueue));
    assert_eq!(cores.start_move(9, 1, 1), Err(MoveError::NoQueue));
    world.rig.until(|rig| rig.cores.try_finish_remove_core(0));
    world.rig.forget_ended();
    assert_eq!(world.rig.turning(), [1]);
    assert_eq!(world.rig.cores.start_remove_core(1), Err(RemoveError::Last));
    assert_eq!(world.finish(true), 0);
}

#[test]
fn ports_that_come_and_go_meanwhile_are_where_cores_are() {
    let mut world = World::new(2);
    // The core is going when a port comes up, goes down, and comes up.
    world.rig.cores.start_remove_core(0).expect("it may go");
    let down = world.rig.down(WIRE);
    let end = MemPort::new(usize::MAX, false);
    drop(down);
    world.ends[1] = end.clone();
    world.rig.plug_mem(WIRE, Some(0), &end);
    world.rig.until(|rig| rig.cores.try_finish_remove_core(0));
    world.rig.forget_ended();
    let queues = world.rig.cores.queues();
    assert!(queues.len() == 8 && queues.iter().all(|queue| queue.core == 1));
    // A core that comes knows the ports that came before, and after.
    world.rig.add_core();
    world.rig.move_queue(WIRE, 1, 0);
    let down = world.rig.down(GUEST_IN_MEMORY);
    drop(down);
    world.ends[0] = MemPort::new(usize::MAX, true);
    let end = world.ends[0].clone();
    world.rig.plug_mem(GUEST_IN_MEMORY, Some(0), &end);
    world.ends[0].send(&frame(ALL, mac(GUEST_IN_MEMORY), 0, 60));
    world.ends[1].send(&frame(ALL, mac(WIRE), 0, 60));
    world.rig.settle();
    world.fetch();
    for _ in 0..10 {
        for to in [0, 1, DEVICE, GUEST_IN_MEMORY] {
            assert!(world.send((WIRE, 0, to), 200));
        }
    }
    assert_eq!(world.finish(true), 0);
}

#[test]
fn what_an_ended_core_gave_to_a_device_goes_out() {
    for stalls_for_long in [false, true] {
        let mut world = World::new(2);
        let all = world.rig.cores.queues();
        let core = all
            .iter()
            .find(|q| (q.port, q.queue) == (0, 1))
            .expect("a queue")
            .core;
        world.peers.iter().for_each(|peer| peer.stall(true));
        (0..20).for_each(|_| assert!(world.send((0, 0, DEVICE), 500)));
        (0..3).for_each(|_| _ = world.rig.step());
        world.rig.cores.start_remove_core(core).expect("it may go");
        for _ in 0..100 {
            world.rig.step();
            assert!(
                !world.rig.cores.try_finish_remove_core(core),
                "frames are not out yet"
            );
        }
        if stalls_for_long {
            world.rig.now += rig::SECOND;
        } else {
            world.peers.iter().for_each(|peer| peer.stall(false));
        }
        world
            .rig
            .until(|rig| rig.cores.try_finish_remove_core(core));
        world.rig.forget_ended();
        // The next to send there sees to those of before.
        world.peers.iter().for_each(|peer| peer.stall(false));
        assert!(world.send((0, 0, DEVICE), 500));
        assert_eq!(world.finish(true), 0);
    }
}

#[test]
fn next_owner_of_an_id_finds_no_counter_on_a_core_that_was_gone() {
    let mut world = World::new(2);
    let (end, ingress) = (MemPort::new(usize::MAX, true), rig::ingress(WIRE, 0, ANY));
    for _ in 0..20 {
        assert!(world.send((WIRE, 0, 0), 100) && world.send((0, 0, WIRE), 100));
        assert!(world.send((0, 1, WIRE), 100));
    }
    world.rig.settle();
    world.rig.remove_core(1);
    drop(world.rig.down(WIRE));
    let removal = world.rig.cores.start_remove_port(WIRE);
    world.rig.until(|rig| rig.cores.try_finish_remove(&removal));
    assert_eq!(world.rig.counters(WIRE), pmd::stats::Counters::default());
    world.rig.add_core();
    world.rig.cores.add_port(&ingress).expect("it is free");
    world.rig.plug_mem(WIRE, Some(0), &end);
    assert_eq!(world.rig.counters(WIRE), pmd::stats::Counters::default());
}
