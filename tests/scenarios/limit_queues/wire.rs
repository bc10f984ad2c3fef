//! Frames off a wire, which can't wait where they are.

use rig::{Dice, seeds};

use super::*;

const WIRE: u16 = 0;
const VM: u16 = 1;

/// Sends `per_step` frames from the wire each step, as many as come at `bits` a second, for some
/// time. Gives bytes and frames that arrived, and the longest that one took.
fn flood(world: &mut World, bits: u64, len: usize, time: u64) -> (u64, u64, u64) {
    let (mut owed, mut sum, mut n, mut most) = (0u64, 0, 0, 0);
    for _ in 0..time / STEP {
        owed += bits * STEP / 8000;
        while owed >= len as u64 * 1_000_000 {
            owed -= len as u64 * 1_000_000;
            world.send(WIRE, VM, len);
        }
        world.rig.step();
        for (_, took, bytes) in world.receive(VM) {
            sum += bytes.len() as u64;
            n += 1;
            most = most.max(took);
        }
    }
    (sum, n, most)
}

#[test]
fn vm_gets_its_rate_exactly_and_no_frame_waits_for_more_than_fifty_milliseconds() {
    for rate in [
        2_000_000,
        50_000_000,
        100_000_000,
        200_000_000,
        1_000_000_000u64,
    ] {
        for len in [64, 1514] {
            if len == 64 && rate > 200_000_000 {
                continue;
            }
            let mut world = World::new(1, &[(false, NO_LIMIT), (false, bits(rate))]);
            // What was saved up goes, and the queue fills.
            let offered = (rate * 2).max(20_000_000);
            flood(&mut world, offered, len, 500 * MS);
            let held = world.rig.counters(WIRE).held;
            assert!(held > 0, "{rate}: nothing waits");
            let (sum, _, most) = flood(&mut world, offered, len, SECOND);
            let exact = rate as f64 / 8.0;
            assert!(
                (sum as f64 - exact).abs() <= 0.005 * exact + len as f64,
                "{rate}, {len} B: {sum}, not {exact}"
            );
            assert!(most <= 50 * MS, "{rate}, {len} B: a frame took {most} ns");
            assert!(world.drops(WIRE, DropReason::Limit) > 0);
            let counters = world.rig.counters(WIRE);
            assert_eq!(counters.n_dropped(), world.drops(WIRE, DropReason::Limit));
            assert!(counters.queued > 0);
            world.assert_at_rest();
        }
    }
}

#[test]
fn packets_a_second_hold_in_the_same_way() {
    let mut world = World::new(1, &[(false, NO_LIMIT), (false, packets(5_000))]);
    flood(&mut world, 100_000_000, 500, 200 * MS);
    let (_, n, most) = flood(&mut world, 100_000_000, 500, SECOND);
    assert!(n.abs_diff(5_000) <= 25, "{n}");
    assert!(most <= 50 * MS, "{most}");
    world.assert_at_rest();
}

#[test]
fn burst_that_fits_into_the_queue_is_delivered_late_and_whole() {
    let mut world = World::new(1, &[(false, NO_LIMIT), (false, bits(100_000_000))]);
    // 64 KiB at once, and 20 ms of the rate.
    for _ in 0..200 {
        world.send(WIRE, VM, 1514);
    }
    world.assert_at_rest();
    let ids: Vec<u64> = world.receive(VM).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, (1..=200).collect::<Vec<_>>());
    assert_eq!(world.rig.counters(WIRE).n_dropped(), 0);
    assert!(
        (150..=157).contains(&world.rig.counters(WIRE).queued),
        "{:?}",
        world.rig.counters(WIRE)
    );
}

#[test]
fn without_a_queue_what_is_over_the_limit_is_dropped() {
    let policed = LimitOptions {
        queue: None,
        ..bits(100_000_000)
    };
    let mut world = World::new(1, &[(false, NO_LIMIT), (false, policed)]);
    for _ in 0..200 {
        world.send(WIRE, VM, 1514);
    }
    world.assert_at_rest();
    assert_eq!(
        (world.receive(VM).len(), world.rig.counters(WIRE).queued),
        (44, 0)
    );
    assert_eq!(world.drops(WIRE, DropReason::Limit), 156);
}

/// Wires and guests, one core or several, limits of all sizes, receivers that pause: within each
/// pair of sender and receiver frames come in the order in which they were sent.
#[test]
fn no_frame_overtakes_another_of_its_flow() {
    for seed in seeds(0..24) {
        let mut dice = Dice::new(seed);
        let n_cores = 1 + dice.below(3);
        let n_ports = 4 + dice.below(5) as u16;
        let ports: Vec<(bool, LimitOptions)> = (0..n_ports)
            .map(|_| {
                let limit = match dice.below(3) {
                    0 => NO_LIMIT,
                    1 => packets(1_000 + dice.below(100_000) as u64),
                    _ => bits(2_000_000 << dice.below(9)),
                };
                (dice.below(2) == 0, limit)
            })
            .collect();
        let mut world = World::new(n_cores, &ports);
        let mut last: HashMap<(u16, u16), u64> = HashMap::new();
        let mut flow_of: HashMap<u64, (u16, u16)> = HashMap::new();
        let mut n_queued = 0;
        for step in 0..6_000 {
            let is_sending = step % 2_000 < 1_200;
            for _ in 0..if is_sending { dice.below(12) } else { 0 } {
                let from = dice.below(usize::from(n_ports)) as u16;
                let to = dice.below(usize::from(n_ports)) as u16;
                if from != to && world.ports[usize::from(from)].n_waiting() < 256 {
                    let len = [60, 200, 1514, 9014][dice.below(4)];
                    flow_of.insert(world.send(from, to, len), (from, to));
                }
            }
            world.rig.step();
            for port in 0..n_ports {
                for (id, ..) in world.receive(port) {
                    let before = last.insert(flow_of[&id], id);
                    assert!(
                        before.is_none_or(|before| before < id),
                        "seed {seed}: {before:?} came before {id}"
                    );
                }
            }
            if step % 100 == 0 {
                world.rig.assert_counted();
            }
        }
        (0..n_ports).for_each(|port| n_queued += world.rig.counters(port).queued);
        assert!(n_queued > 0, "seed {seed}: nothing was ever queued");
        world.assert_at_rest();
    }
}

#[test]
fn queue_that_is_half_full_marks_what_understands_it() {
    // An IPv4 frame, ECN-capable, and its header's checksum right.
    let packet = |n: u16| {
        let mut bytes = frame(mac(VM), mac(WIRE), u64::from(n), 1514);
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14..34].copy_from_slice(&[
            0x45, 2, 5, 0xdc, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        bytes[18..20].copy_from_slice(&n.to_be_bytes());
        let sum = !sum_of(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    fn sum_of(bytes: &[u8]) -> u16 {
        let sum: u32 = bytes
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        (sum % 0xffff) as u16
    }
    let mut world = World::new(1, &[(false, NO_LIMIT), (false, bits(100_000_000))]);
    (0..200).for_each(|n| world.ports[0].send(&packet(n)));
    world.assert_at_rest();
    let got: Vec<Vec<u8>> = std::iter::from_fn(|| world.ports[1].receive()).collect();
    assert_eq!(got.len(), 200);
    let is_marked: Vec<bool> = got.iter().map(|bytes| bytes[15] & 3 == 3).collect();
    let first = is_marked.iter().position(|&is| is).expect("marks");
    // 44 passed at once, 82 are half of what may wait; a few went meanwhile.
    assert!((120..=135).contains(&first), "{first}");
    assert!(is_marked[first..].iter().all(|&is| is));
    assert!(
        got.iter().all(|bytes| sum_of(&bytes[14..34]) == 0),
        "a checksum is wrong"
    );
}

#[test]
fn rules_that_change_meanwhile_are_kept_to() {
    use flowtable::rules::policy::Policy;
    use flowtable::rules::rule::{Direction, Proto, Rule, Verdict};
    let mut world = World::new(1, &[(false, NO_LIMIT), (false, bits(10_000_000))]);
    for _ in 0..60 {
        world.send(WIRE, VM, 1514);
    }
    world.rig.step();
    world.rig.step();
    let n_before = world.receive(VM).len();
    assert!(world.rig.counters(WIRE).held > 10);
    let deny = Rule {
        direction: Direction::ToVm,
        verdict: Verdict::Deny,
        proto: Proto::NonIp,
        cidr: None,
        numbers: Vec::new(),
    };
    let before = networks(&[&[0, 1]]);
    let after = (*before)
        .clone()
        .with_policies(vec![None, Some(Arc::new(Policy::new(&[deny])))], 9);
    world.rig.cores.set_networks(&Arc::new(after));
    world.assert_at_rest();
    assert_eq!(
        world.receive(VM).len()
            + n_before
            + world.drops(WIRE, DropReason::Denied) as usize
            + world.drops(WIRE, DropReason::Limit) as usize,
        60
    );
    assert!(
        world.drops(WIRE, DropReason::Denied) > 0,
        "{:?}",
        world.rig.counters(WIRE)
    );
}
