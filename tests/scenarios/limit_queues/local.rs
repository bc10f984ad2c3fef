//! Senders whose frames can stay where they are: guests' rings, taps.

use super::*;

#[test]
fn ring_is_held_without_limit_and_loses_nothing() {
    for n_cores in [1, 2] {
        let mut world = World::new(
            n_cores,
            &[(true, NO_LIMIT), (true, bits(20_000_000)), (true, NO_LIMIT)],
        );
        let mut next = 1;
        for step in 0..300_000 {
            while next + 256 > world.next_id && world.ports[0].n_waiting() < 256 && step < 200_000 {
                world.send(0, 1, 1514);
            }
            world.rig.step();
            for (id, ..) in world.receive(1) {
                assert_eq!(id, next);
                next += 1;
            }
        }
        // Two seconds of 20 Mbit/s, what was saved up, and what stood in the ring at the end.
        assert!((3_300..3_700).contains(&next), "{next}");
        assert_eq!((next, world.rig.counters(0).queued), (world.next_id, 0));
        assert_eq!(world.rig.counters(0).n_dropped(), 0);
        world.assert_at_rest();
    }
}

/// A core that has nothing else to do sleeps until the limit lets a frame go: whether it waits in a
/// ring or in a queue.
#[test]
fn core_with_frames_that_wait_looks_at_them_when_they_may_go() {
    // One that keeps its ring full, and a wire that sends the next frame when one has come: each is
    // received, and sent on.
    for (can_hold, rates) in [
        (true, [(2_000_000, 700), (20_000_000, 2_500)]),
        (false, [(2_000_000, 700), (20_000_000, 4_000)]),
    ] {
        for (rate, most) in rates {
            let mut world = World::new(1, &[(can_hold, NO_LIMIT), (true, bits(rate))]);
            let (mut n_turns, mut n_got) = (0, 0);
            let start = world.rig.now;
            while world.rig.now < start + SECOND {
                // A sender that never has more than a few frames on their way.
                while world.ports[0].n_waiting() as u64 + world.rig.counters(0).held < 5 {
                    world.send(0, 1, 1514);
                }
                let turn = world.rig.step_together(&[0])[0];
                n_turns += 1;
                n_got += world.receive(1).len();
                if let Some(opens_at) = turn
                    .opens_at
                    .filter(|_| !turn.is_pending && turn.n_frames == turn.n_throttled)
                {
                    world.rig.now = opens_at.max(world.rig.now) - STEP;
                }
            }
            let exact = rate as usize / 8 / 1514 + 43;
            assert!(
                n_got.abs_diff(exact) <= 8 + exact / 50,
                "{can_hold}, {rate}: {n_got} of {exact} frames"
            );
            assert!(
                n_turns <= most,
                "{can_hold}, {rate}: {n_turns} turns in a second"
            );
        }
    }
}

/// Rings and a wire's queue take turns at a limit, whichever core they are on.
#[test]
fn senders_to_one_vm_take_turns_at_its_limit() {
    for n_cores in [1, 2, 4] {
        for kinds in [vec![true, true, false], vec![false, false, true, false]] {
            let mut ports = vec![(true, bits(100_000_000))];
            ports.extend(kinds.iter().map(|&can_hold| (can_hold, NO_LIMIT)));
            let mut world = World::new(n_cores, &ports);
            let n = kinds.len() as u16;
            let mut got = vec![0u64; kinds.len()];
            for step in 0..70_000 {
                for from in 1..=n {
                    // The first offers more than the others.
                    while world.ports[usize::from(from)].n_waiting()
                        < if from == 1 { 64 } else { 8 }
                    {
                        world.send(from, 0, 1000);
                    }
                }
                world.rig.step();
                for (_, _, bytes) in world.receive(0) {
                    let from = usize::from(u16::from_be_bytes([bytes[10], bytes[11]]));
                    got[from - 1] += if step >= 20_000 { 1000 } else { 0 };
                }
            }
            let sum: u64 = got.iter().sum();
            assert!(
                sum.abs_diff(6_250_000) <= 62_500,
                "{n_cores} cores, {kinds:?}: {sum}"
            );
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            assert!(least * 5 >= most * 4, "{n_cores} cores, {kinds:?}: {got:?}");
        }
    }
}

/// A guest that waits at a VM's limit and is kept from its turn by its own limit takes no rate from
/// others there.
#[test]
fn one_that_does_not_come_for_its_turn_costs_nobody_the_rate() {
    let mut world = World::new(
        1,
        &[
            (true, bits(50_000_000)),
            (false, NO_LIMIT),
            (true, NO_LIMIT),
            (true, NO_LIMIT),
        ],
    );
    for port in 2..4 {
        let limits = VmLimits::new(rig::bits(100_000), NO_LIMIT);
        world.rig.down(port);
        world.rig.cores.limit(&[port], &Arc::new(limits));
        let end = world.ports[usize::from(port)].clone();
        world.rig.plug_mem(port, Some(0), &end);
    }
    let mut sum = 0;
    for step in 0..150_000 {
        for from in 1..4 {
            while world.ports[from].n_waiting() < 8 {
                world.send(from as u16, 0, 1514);
            }
        }
        world.rig.step();
        let n_bytes: usize = world.receive(0).iter().map(|got| got.2.len()).sum();
        sum += if step >= 50_000 { n_bytes } else { 0 };
    }
    assert!(sum.abs_diff(6_250_000) <= 62_500, "{sum}");
}

/// A frame for another, behind one that is held, goes out at once: the one in front of it is copied
/// out of the way.
#[test]
fn frame_behind_one_that_is_held_goes_on() {
    let mut world = World::new(
        1,
        &[(true, NO_LIMIT), (true, bits(10_000_000)), (true, NO_LIMIT)],
    );
    let mut n_other = 0;
    for step in 0..20_000 {
        let mut others = Vec::new();
        if step % 10 == 0 {
            world.send_many(0, 1, 1514, 6);
            others.push(world.send(0, 2, 1514));
        }
        world.rig.step();
        world.receive(1);
        let got: Vec<u64> = world.receive(2).into_iter().map(|got| got.0).collect();
        assert_eq!(got, others, "they go in the turn in which they come");
        n_other += got.len() as u64;
    }
    let counters = world.rig.counters(0);
    assert_eq!(n_other, 2_000);
    assert!(counters.queued > 0 && world.drops(0, DropReason::Limit) > 0);
    assert_eq!(counters.n_dropped(), world.drops(0, DropReason::Limit));
    world.assert_at_rest();
}
