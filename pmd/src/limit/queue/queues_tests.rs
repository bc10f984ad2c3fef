//! Places in a core's table of queues: who gets one beside whom.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;
use crate::limit::chunks::tests::N_PIECES;
use crate::limit::{LimitOptions, QueueOptions};
use crate::shm::Piece;

const VM: PortId = 1;

fn limits() -> Arc<VmLimits> {
    let queue = Some(QueueOptions {
        time: 100_000_000_000,
        bytes_max: 8 << 20,
    });
    let to_vm = LimitOptions {
        bits_per_sec: Some(1_000_000_000),
        queue,
        ..LimitOptions::default()
    };
    Arc::new(VmLimits::new(LimitOptions::default(), to_vm))
}

/// One frame to queue.
fn burst(bytes: &mut [u8]) -> Box<Burst> {
    let mut burst = Box::<Burst>::default();
    burst.n = 1;
    burst.data[0] = Piece::of_private(bytes);
    burst.add_len(0, bytes.len() as u32);
    burst.read_header(0);
    burst
}

fn flow(from: PortId, queue: u32, is_local: bool) -> Flow {
    Flow {
        tx_index: 0,
        from,
        who: u32::from(from) << 16 | queue,
        to: VM,
        is_local,
    }
}

/// A guest, or a wire, with many queues or many VMs to send to leaves some to the next.
#[test]
fn one_that_takes_all_the_queues_it_can_leaves_some_to_another() {
    for is_local in [true, false] {
        let (mut queues, limits) = (LimitQueues::new(8), limits());
        let (mut frame, n_max) = ([7; 60], QUEUES_MAX as u32);
        let mut burst = burst(&mut frame);
        let mut taken = Vec::new();
        for from in 2..8 {
            let n = (1..=n_max)
                .filter(|&who| queues.push(&limits, flow(from, who, is_local), &mut burst, 0, 0))
                .count();
            assert!(
                n > 0,
                "the table is full for port {from}, after {taken:?} (local: {is_local})"
            );
            taken.push(n);
        }
        // A wire takes what guests can't.
        assert!(!is_local || queues.push(&limits, flow(0, 1, false), &mut burst, 0, 0));
    }
}

/// What a core touches of a queue that is dropped does not grow with what is in it, and it drops a
/// bounded number of them at once.
#[test]
#[cfg_attr(miri, ignore = "a hundred thousand frames")]
fn port_that_goes_down_costs_a_bounded_time_whatever_is_held() {
    for (port, queues_of) in [(VM, 2..7), (2, 2..3)] {
        let (mut queues, limits) = (LimitQueues::new(128), limits());
        let (stats, mut frame) = (CoreStats::new(128), [7; 60]);
        let mut burst = burst(&mut frame);
        // Another's, which stays.
        let other = Flow {
            to: 100,
            ..flow(101, 1, false)
        };
        assert!(queues.push(&limits, other, &mut burst, 0, 0));
        // All that there may be of queues, and then each as full as it may be.
        for n_max in [1, usize::MAX] {
            for (from, who) in queues_of
                .clone()
                .flat_map(|from| (1..=400).map(move |who| (from, who)))
            {
                let mut push = || queues.push(&limits, flow(from, who, false), &mut burst, 0, 0);
                let n = (0..n_max).take_while(|_| push()).count();
                (0..n).for_each(|_| stats.port(from).queued());
            }
        }
        let n_queues = queues.live.len() - 1;
        let held: u64 = (2..7)
            .map(|from| crate::stats::sum([&stats], from).held)
            .sum();
        assert!(
            n_queues >= 400 && held > 100_000,
            "{n_queues} queues of {held} frames"
        );
        N_PIECES.set(0);
        let mut n_turns = 0;
        loop {
            let (before, mut n_max) = (queues.live.len(), 256);
            let is_done = queues.drop_all_of(port, &mut n_max, &stats);
            assert_eq!(before - queues.live.len(), 256 - n_max);
            n_turns += 1;
            if is_done {
                break;
            }
        }
        assert_eq!((n_turns, N_PIECES.get()), (n_queues.div_ceil(256), 0));
        let dropped = (2..7).map(|from| crate::stats::sum([&stats], from));
        assert!(dropped.clone().all(|counters| counters.held == 0));
        assert_eq!(
            dropped
                .map(|counters| counters.drops[DropReason::PortDown.index()])
                .sum::<u64>(),
            held
        );
        assert_eq!(crate::stats::sum([&stats], VM).missed, held);
        // The other is where it was, and nothing else.
        assert_eq!(
            (queues.live.len(), queues.find(other.who, 100).is_some()),
            (1, true)
        );
        assert_eq!(queues.table.iter().filter(|&&first| first != 0).count(), 1);
        assert_eq!(limits.held().unwrap().1.n_frames(), 1);
        assert!(
            queues
                .n_from
                .iter()
                .enumerate()
                .all(|(from, &n)| n == u16::from(from == 101))
        );
    }
}

/// All guests of a host send to one VM at its limit: what a frame costs there must not grow with
/// their number.
#[test]
fn frame_finds_its_queue_in_a_few_steps_however_many_send_to_one_vm() {
    let (mut queues, limits, mut frame) = (LimitQueues::new(1024), limits(), [7; 60]);
    let mut burst = burst(&mut frame);
    let flows: Vec<Flow> = (2..1000).map(|from| flow(from, 2, true)).collect();
    flows
        .iter()
        .for_each(|&flow| assert!(queues.push(&limits, flow, &mut burst, 0, 0)));
    let steps = |queues: &LimitQueues, slot: usize| {
        let before = |&at: &usize| usize::from(queues.slots[at].as_ref()?.before).checked_sub(1);
        std::iter::successors(Some(slot), before).count()
    };
    for rest in [998, 500, 0] {
        while queues.live.len() > rest {
            let slot = usize::from(queues.live[queues.live.len() / 2].slot);
            queues.remove(slot);
        }
        let found: Vec<usize> = flows
            .iter()
            .filter_map(|flow| queues.find(flow.who, flow.to))
            .collect();
        assert_eq!(found.len(), rest);
        let longest = found
            .iter()
            .map(|&slot| steps(&queues, slot))
            .max()
            .unwrap_or(0);
        assert!(longest <= 8, "{longest} steps");
    }
}

/// A queue may always hold two frames, and there is a chunk for each of them even where the limit
/// has room for six, whatever guests hold.
#[test]
fn sixteen_queues_of_a_wire_hold_two_frames_each_at_the_least_limit() {
    let queue = Some(QueueOptions {
        time: 1_000_000,
        bytes_max: 8 << 20,
    });
    let to_vm = LimitOptions {
        bits_per_sec: Some(1_000_000),
        queue,
        ..LimitOptions::default()
    };
    let (mut queues, limits) = (
        LimitQueues::new(8),
        Arc::new(VmLimits::new(LimitOptions::default(), to_vm)),
    );
    let (mut of_guest, mut of_wire) = ([7; 1514], [7; 3498]);
    let (mut of_guest, mut of_wire) = (burst(&mut of_guest), burst(&mut of_wire));
    let n_local = (2..8).flat_map(|from| (1..=16).map(move |who| (from, who)));
    let n_local = n_local
        .filter(|&(from, who)| queues.push(&limits, flow(from, who, true), &mut of_guest, 0, 0))
        .count();
    assert!(
        (60..96).contains(&n_local),
        "all that guests may have is {n_local} frames"
    );
    for n in 0..2 {
        for who in 1..=16 {
            assert!(
                queues.push(&limits, flow(0, who, false), &mut of_wire, 0, 0),
                "frame {n} of queue {who}"
            );
        }
    }
}
