//! Many senders to one receiver.

use super::*;

#[test]
fn many_senders_blocked_at_once_cost_a_hundredth_of_the_time_to_look_ahead() {
    const N: u16 = 66;
    let mut rig = rig(N, 1024);
    let senders = || (0..N).filter(|&port| port != B && port != C);
    let begin = rig.cores.core_counters()[0];
    let started = rig.now;
    for from in senders() {
        let guest = &mut rig.guests[usize::from(from)];
        (0..1023).for_each(|_| assert!(guest.send(0, &frame(mac(B), mac(from), 0, 60))));
        assert!(guest.send(0, &frame(mac(C), mac(from), 7, 60)));
    }
    let mut n_out = 0;
    while n_out < 64 {
        rig.step();
        n_out += rig.receive_all(C).len();
        assert!(rig.now - started < IN_TIME, "{n_out} of 64 within 10 ms");
    }
    let after = rig.cores.core_counters()[0];
    let scanned = after.scanned_frames - begin.scanned_frames;
    assert!(
        (1..=64 * 1024).contains(&scanned),
        "{scanned} frames were looked at ahead: each once at most"
    );
    println!(
        "64 senders: all out after {} us; {scanned} frames looked at ahead, {} cycles each",
        (rig.now - started) / 1000,
        (after.scan_cycles - begin.scan_cycles) / scanned
    );
    // From now on they do nothing else, for six tenths of a second.
    let (begin, started) = (after.scanned_frames, rig.now);
    for _ in 0..60_000 {
        for from in senders() {
            let guest = &mut rig.guests[usize::from(from)];
            if guest.reclaim_tx(0) > 0 {
                while guest.send(0, &frame(mac(B), mac(from), 0, 60)) {}
            }
        }
        // One that is slow, lest it count as stalled.
        if rig.now.is_multiple_of(10_000_000) {
            rig.receive_all(B);
        }
        rig.step();
    }
    let (scanned, passed) = (
        rig.cores.core_counters()[0].scanned_frames - begin,
        rig.now - started,
    );
    assert!(
        scanned * 60 < passed / 100 + 10_000_000,
        "{scanned} frames in {} ms",
        passed / 1_000_000
    );
    rig.assert_counted();
}

/// All but `B` and `C` fill their rings with frames to `B`.
fn fill(rig: &mut Rig, ids: &mut [u64]) {
    for from in (0..ids.len()).filter(|&from| from != usize::from(B) && from != usize::from(C)) {
        let guest = &mut rig.guests[from];
        guest.reclaim_tx(0);
        while guest.send(0, &frame(mac(B), mac(from as u16), ids[from], 60)) {
            ids[from] += 1;
        }
    }
}

#[test]
fn many_senders_to_one_that_takes_little_are_not_looked_at_each_turn_and_get_equal_parts() {
    const N: usize = 66;
    let mut rig = rig(N as u16, 256);
    let (mut ids, mut next) = ([0; N], [0; N]);
    fill(&mut rig, &mut ids);
    (0..1_000).for_each(|_| _ = rig.step());
    let decided = |rig: &Rig| {
        let flows = rig.cores.flows();
        flows.front_hits + flows.hits + flows.misses
    };
    let (before, n_steps) = (decided(&rig), 160_000);
    let scanned = |rig: &Rig| rig.cores.core_counters()[0].scanned_frames;
    let scanned_before = scanned(&rig);
    for step in 0..n_steps {
        // Turns are as short as those in which nothing happens, so that many come between two
        // looks.
        rig.now -= 5_000;
        // One buffer each two milliseconds; and a tenth of a second without any.
        if step % 400 == 0 && !(80_000..100_000).contains(&step) {
            if let Some(got) = rig.guests[usize::from(B)].recv(0) {
                let from = usize::from(got[11]);
                assert_eq!(id_of(&got), next[from], "from {from}");
                next[from] += 1;
            }
            rig.guests[usize::from(B)].post_rx(0);
            let used = rig.counters(B).tx_frames;
            rig.step();
            if step > 0 {
                assert_eq!(rig.counters(B).tx_frames, used + 1, "step {step}: at once");
            }
            fill(&mut rig, &mut ids);
        } else {
            rig.step();
        }
    }
    let decided = decided(&rig) - before;
    let each_turn = 64 * 32 * n_steps;
    assert!(
        decided > 0 && decided * 100 < each_turn,
        "{decided} frames were decided, {each_turn} in every turn"
    );
    let scanned = scanned(&rig) - scanned_before;
    assert!(
        scanned < 64 * 256 * 2,
        "{scanned} frames were looked at ahead, each more than once"
    );
    // The first one had what was free at the beginning.
    let got = (3..N).map(|from| next[from]);
    let (least, most) = got.fold((u64::MAX, 0), |(least, most), n| {
        (least.min(n), most.max(n))
    });
    assert!(
        least >= 4 && most <= least + 2,
        "from {least} to {most} each"
    );
    assert!((0..N as u16).all(|port| rig.counters(port).n_dropped() == 0));
    rig.assert_counted();
}
