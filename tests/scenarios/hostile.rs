//! A guest that breaks every rule it can, beside a pair of guests that must not notice.

use flowtable::{DropReason, SourcePolicy};
use guest::Options;
use guest::hostile::{Attack, FAULTS, Fault, Grade, odd_frames};
use guest::options::Indirect;
use rig::{ALL, ANY, Rig, frame, id_of, mac, networks, options};

const OFFENDER: u16 = 0;
const VICTIM: u16 = 1;
/// Turns that each attack is given.
const TURNS: u64 = 300;

/// The offender on port 0, whom it sends to on port 1, and the canaries on 2 and 3.
fn rig(offender: &Options) -> Rig {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1, 2, 3]]));
    rig.plug(0, ANY, offender.clone());
    rig.plug_all(3, &options());
    rig.introduce(0..4);
    rig
}

/// Lets the switch run, with canaries flying; gives what the victim got.
fn run_with_canaries(rig: &mut Rig, what: &str) -> Vec<Vec<u8>> {
    let (mut next, mut got) = (0, Vec::new());
    for id in 0..TURNS {
        assert!(
            rig.guests[2].send(0, &frame(mac(3), mac(2), id, 60)),
            "{what}: the canary's buffers don't come back"
        );
        rig.step();
        // What the offender makes of its own memory may be flooded.
        for bytes in rig
            .receive_all(3)
            .into_iter()
            .filter(|bytes| bytes[6..12] == mac(2))
        {
            assert_eq!(id_of(&bytes), next, "{what}: a canary was lost");
            next += 1;
        }
        rig.guests[2].reclaim_tx(0);
        got.extend(rig.receive_all(VICTIM));
    }
    assert_eq!(next, TURNS, "{what}: canaries were lost");
    got
}

fn offenders() -> Vec<(&'static str, Options)> {
    let small = Options {
        rx_ring: 16,
        tx_ring: 16,
        ..options()
    };
    vec![
        ("no tables", options()),
        (
            "tables",
            Options {
                indirect: Indirect::Always,
                event_idx: true,
                ..options()
            },
        ),
        (
            "legacy",
            Options {
                version_1: false,
                mergeable: false,
                rx_shape: vec![2048],
                ..options()
            },
        ),
        ("small rings", small.clone()),
        (
            "small rings, tables",
            Options {
                indirect: Indirect::Always,
                event_idx: true,
                ..small
            },
        ),
    ]
}

/// Runs one case; whether it applied to this offender.
fn attack(fault: &Fault, kind: &str, offender: &Options) -> bool {
    let what = format!("{} {} ({kind})", fault.row, fault.name);
    let mut rig = rig(offender);
    // Cases about receive buffers want a queue without any.
    let on_receive = { is_on_receive(fault, offender) };
    if on_receive {
        rig.down(OFFENDER);
        rig.guests[0].reset_vring(0);
        rig.up(OFFENDER, 0, ANY);
        rig.step();
    }
    let bases: Vec<u16> = (0..2)
        .map(|vring| rig.guests[0].vring_base(vring))
        .collect();
    let before = rig.counters(OFFENDER);
    let good = frame(mac(VICTIM), mac(OFFENDER), 7, 64);
    let mut attack = Attack::new(&mut rig.guests[0], 0, &good);
    if !attack.run(fault) {
        return false;
    }
    let (vring, n_chains, flipper) = (attack.vring(), attack.n_chains(), attack.take_flipper());
    drop(attack);
    if vring == 0 {
        for id in 0..4 {
            rig.guests[1].send(0, &frame(mac(OFFENDER), mac(VICTIM), id, 64));
        }
    }
    let got = run_with_canaries(&mut rig, &what);
    drop(flipper);
    rig.settle();
    let used = rig.guests[0].vring_base(vring).wrapping_sub(bases[vring]);
    let after = rig.counters(OFFENDER);
    match fault.grade {
        Grade::Works if vring == 1 => {
            assert!(!got.is_empty(), "{what}: nothing was delivered");
            assert!(
                got.iter().all(|bytes| bytes[..14] == good[..14]),
                "{what}: something else was delivered"
            );
        }
        Grade::DropChain if vring == 1 => {
            assert!(
                got.is_empty(),
                "{what}: {} frames were delivered",
                got.len()
            );
            assert!(
                after.n_dropped() > before.n_dropped(),
                "{what}: not counted"
            );
        }
        Grade::StopQueue => {
            assert!(
                !rig.cores.stopped(OFFENDER).is_empty(),
                "{what}: the queue was not stopped"
            );
            assert!(got.is_empty(), "{what}: delivered");
        }
        _ => {}
    }
    if fault.grade != Grade::StopQueue && vring == 1 && !fault.name.starts_with("used index") {
        assert_eq!(usize::from(used), n_chains, "{what}: chains that came back");
    }
    let n_faults = after.faults - before.faults;
    assert!(
        n_faults <= n_chains as u64 + 1,
        "{what}: {n_faults} faults counted for {n_chains} chains"
    );
    assert_law_9(&rig, &what);
    recover(&mut rig, &what);
    true
}

fn is_on_receive(fault: &Fault, offender: &Options) -> bool {
    let mut driver = guest::GuestDriver::new(offender.clone()).expect("memory");
    let mut attack = Attack::new(&mut driver, 0, &[2; 64]);
    attack.run(fault) && attack.vring() == 0
}

fn assert_law_9(rig: &Rig, what: &str) {
    for port in 0..4 {
        let counters = rig.counters(port);
        assert!(counters.is_balanced(), "{what}: port {port}: {counters:?}");
    }
    for port in 1..4 {
        rig.guests[port].assert_intact();
    }
}

/// The offender's driver starts over, as after a reset, and is served again.
fn recover(rig: &mut Rig, what: &str) {
    rig.down(OFFENDER);
    (0..2).for_each(|vring| rig.guests[0].reset_vring(vring));
    rig.guests[0].post_rx(0);
    rig.up(OFFENDER, 0, ANY);
    rig.step();
    rig.receive_all(VICTIM);
    let bytes = frame(mac(VICTIM), mac(OFFENDER), 9, 200);
    assert!(rig.guests[0].send(0, &bytes), "{what}");
    rig.guests[1].send(0, &frame(mac(OFFENDER), mac(VICTIM), 10, 200));
    rig.settle();
    assert_eq!(rig.receive_all(VICTIM), [bytes], "{what}: not served again");
    let got = rig.receive_all(OFFENDER);
    assert_eq!(
        id_of(got.last().expect(what)),
        10,
        "{what}: receives nothing any more"
    );
    assert!(rig.cores.stopped(OFFENDER).is_empty(), "{what}");
}

#[test]
fn every_fault_gets_its_answer_and_nobody_else_notices() {
    let mut n_cases = 0;
    for fault in FAULTS {
        let n = offenders()
            .iter()
            .filter(|(kind, offender)| attack(fault, kind, offender))
            .count();
        assert!(n > 0, "{} {} applies to no offender", fault.row, fault.name);
        n_cases += n;
    }
    assert!(n_cases > FAULTS.len() * 2, "{n_cases}");
}

#[test]
fn available_index_that_goes_back_stops_the_queue_wherever_it_lands() {
    // Of 16 buffers two are used and twelve read ahead when the index goes back to before those.
    for back in [3, 7, 13, 15] {
        let mut rig = rig(&Options {
            rx_ring: 16,
            ..options()
        });
        for to in [OFFENDER, OFFENDER]
            .into_iter()
            .chain(std::iter::repeat_n(3, 12))
        {
            rig.guests[1].send(0, &frame(mac(to), mac(VICTIM), 1, 60));
        }
        rig.settle();
        rig.receive_all(3);
        let avail = rig.guests[0].vring_gpa(0).avail + 2;
        let memory = rig.guests[0].memory().clone();
        memory.store_u16(avail, memory.load_u16(avail).wrapping_sub(back));
        for id in 0..20 {
            rig.guests[1].send(0, &frame(mac(OFFENDER), mac(VICTIM), id, 60));
        }
        rig.settle();
        let stopped = rig.cores.stopped(OFFENDER);
        assert_eq!(
            stopped.first().map(|(queue, _)| *queue),
            Some(0),
            "{back} back: {stopped:?}"
        );
        assert!(rig.drops(VICTIM, DropReason::PortDown) > 0);
        run_with_canaries(&mut rig, "an index that goes back");
    }
}

#[test]
fn available_index_that_is_too_far_ahead_when_a_queue_starts_stops_it() {
    let mut rig = rig(&Options {
        rx_ring: 16,
        ..options()
    });
    rig.down(OFFENDER);
    let avail = rig.guests[0].vring_gpa(0).avail + 2;
    let memory = rig.guests[0].memory().clone();
    memory.store_u16(avail, memory.load_u16(avail).wrapping_add(1000));
    rig.up(OFFENDER, 0, ANY);
    rig.step();
    for id in 0..20 {
        rig.guests[1].send(0, &frame(mac(OFFENDER), mac(VICTIM), id, 60));
    }
    rig.settle();
    let stopped = rig.cores.stopped(OFFENDER);
    assert_eq!(stopped.first(), Some(&(0, pmd::GuestFault::AvailTooFar)));
    run_with_canaries(&mut rig, "an index too far ahead");
}

#[test]
fn misleading_frames_are_switched_by_their_addresses_to_one_queue() {
    let several = Options {
        n_queue_pairs: 4,
        ..options()
    };
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    (0..2).for_each(|_| {
        rig.plug(0, ANY, several.clone());
    });
    rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    rig.receive_all(0);
    for (name, bytes) in odd_frames(&frame(mac(1), mac(0), 0, 64)) {
        for _ in 0..3 {
            assert!(rig.guests[0].send(0, &bytes), "{name}");
        }
        rig.settle();
        let by_queue: Vec<usize> = (0..4)
            .map(|pair| {
                std::iter::from_fn(|| rig.guests[1].recv(pair))
                    .filter(|f| *f == bytes)
                    .count()
            })
            .collect();
        assert_eq!(by_queue.iter().max(), Some(&3), "{name}: {by_queue:?}");
        rig.receive_all(1);
        rig.guests[0].reclaim_tx(0);
    }
    rig.assert_balanced();
}

#[test]
fn scanner_of_addresses_hurts_itself_only() {
    let mut rig = rig(&options());
    for n in 0..20_000u32 {
        let [_, b, c, d] = n.to_be_bytes();
        rig.guests[0].send(0, &frame(mac(VICTIM), [2, 1, 1, b, c, d], u64::from(n), 60));
        if n % 16 == 0 {
            rig.step();
            rig.receive_all(VICTIM);
        }
    }
    rig.settle();
    rig.receive_all(VICTIM);
    run_with_canaries(&mut rig, "a scan of addresses");
    assert_eq!(rig.cores.macs().find(0, mac(2)).map(|f| f.port), Some(2));
    rig.assert_balanced();
}

#[test]
fn nobody_sends_from_a_neighbours_address() {
    let mut rig = Rig::new(1, 3, networks(&[&[0, 1, 2]]));
    rig.plug(0, ANY, options());
    rig.plug(0, SourcePolicy::Fixed(mac(1)), options());
    rig.plug(0, SourcePolicy::Sticky, options());
    for port in [1, 2] {
        rig.guests[usize::from(port)].send(0, &frame(ALL, mac(port), 0, 60));
        rig.settle();
    }
    let bad = [mac(1), mac(2), [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0; 6]];
    for src in bad {
        rig.guests[0].send(0, &frame(ALL, src, 1, 60));
    }
    rig.settle();
    let drops = rig.counters(0).drops;
    assert_eq!(
        (
            drops[DropReason::Spoofed.index()],
            drops[DropReason::BadSource.index()]
        ),
        (2, 3)
    );
    assert_eq!(
        [1, 2].map(|n| rig.cores.macs().find(0, mac(n)).map(|f| f.port)),
        [Some(1), Some(2)]
    );
    rig.assert_balanced();
}

/// Descriptors that the switch may read of one ring in a turn; a few more start the chain that is
/// one too many.
const DESCRIPTORS_A_TURN: usize = 1024 + 32;

/// A chain of empty descriptors round the whole ring, and as many heads as there are that lead into
/// it.
fn offer_loops(rig: &mut Rig, vring: usize, n_heads: usize, flags: u16) {
    let addr = rig.guests[0].scratch();
    let ring = rig.guests[0].ring(vring);
    let empty = |next| guest::ring::Desc {
        addr,
        len: 0,
        flags: flags | guest::ring::NEXT,
        next,
    };
    let n = usize::from(ring.size()) - n_heads;
    assert!(ring.add_raw(n, |ids| (0..n).map(|i| empty(ids[(i + 1) % n])).collect()));
    for _ in 0..n_heads {
        assert!(ring.add_raw(1, |_| vec![empty(500)]));
    }
    ring.publish();
}

#[test]
fn endless_chains_of_empty_descriptors_take_many_turns_and_none_takes_long() {
    let large = Options {
        rx_ring: 32768,
        tx_ring: 32768,
        checked: false,
        scratch_bytes: 4096,
        ..options()
    };
    for vring in [0, 1] {
        let mut rig = rig(&large);
        rig.down(OFFENDER);
        rig.guests[0].reset_vring(vring);
        rig.up(OFFENDER, 0, ANY);
        rig.step();
        offer_loops(
            &mut rig,
            vring,
            300,
            if vring == 0 { guest::ring::WRITE } else { 0 },
        );
        if vring == 0 {
            for id in 0..50 {
                assert!(rig.guests[1].send(0, &frame(mac(OFFENDER), mac(VICTIM), id, 60)));
            }
        }
        let (mut n_turns, mut used) = (0, 0);
        let mut most = 0;
        while used < 301 {
            rig.step();
            let now = rig.guests[0].vring_base(vring);
            most = most.max(now.wrapping_sub(used));
            used = now;
            n_turns += 1;
            assert!(n_turns < 100_000, "chains come back: {used}");
        }
        // Each chain is longer than a turn's descriptors, so that no turn can have walked two of
        // them.
        assert!(
            usize::from(most) * DESCRIPTORS_A_TURN <= 2 * DESCRIPTORS_A_TURN,
            "{most} chains in one turn"
        );
        assert!(
            rig.counters(OFFENDER).faults >= 300,
            "{}",
            rig.counters(OFFENDER).faults
        );
        run_with_canaries(&mut rig, "endless chains");
    }
}

#[test]
fn address_of_a_port_that_keeps_its_first_is_taken_back_from_who_was_quicker() {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.plug(0, SourcePolicy::Any(u32::MAX), options());
    rig.plug(0, SourcePolicy::Sticky, options());
    rig.guests[0].send(0, &frame(ALL, mac(1), 0, 60));
    rig.settle();
    rig.guests[1].send(0, &frame(ALL, mac(1), 1, 60));
    rig.settle();
    assert_eq!(
        rig.cores
            .macs()
            .find(0, mac(1))
            .map(|found| (found.port, found.movable)),
        Some((1, false))
    );
    rig.guests[0].send(0, &frame(ALL, mac(1), 2, 60));
    rig.guests[1].send(0, &frame(ALL, mac(5), 3, 60));
    rig.settle();
    let spoofed = [0, 1].map(|port| rig.drops(port, DropReason::Spoofed));
    assert_eq!(
        spoofed,
        [1, 1],
        "nobody takes it again, and it has no second one"
    );
}
