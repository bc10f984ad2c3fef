//! One transmit queue of a device, reached by several cores.

use super::*;

/// Frames of both guests that are on the wire, in order and each once, beside those before.
fn note_sent(peer: &XskPeer, n_got: &mut [u64; 2]) {
    while let Some(got) = peer.receive() {
        let port = usize::from(got[12..16] != TAG);
        let plain = if port == 0 {
            [&got[..12], &got[16..]].concat()
        } else {
            got
        };
        assert_eq!(id_of(&plain), n_got[port], "of guest {port}");
        n_got[port] += 1;
    }
}

#[test]
fn two_cores_send_by_a_queue_whose_own_core_sleeps() {
    const N: u64 = 600;
    for seed in seeds(0..4) {
        let mut dice = Dice::new(seed);
        let mut rig = guests_on(3, &options());
        // Few to send with, so that cores meet at the end of them.
        let peer = device(&mut rig, None, false, [N_TX, N_RX]);
        introduce(&mut rig, &peer);
        peer.hold_completions();
        let (mut n_offered, mut n_got) = ([0; 2], [0; 2]);
        // Which guests send for a while; a core whose guest doesn't sleeps as soon as it has
        // nothing to see to.
        let (mut sends, mut is_busy) = ([true; 2], [true; 2]);
        for step in 0.. {
            assert!(step < 50_000, "{n_got:?} of {n_offered:?} went out");
            if dice.below(40) == 0 {
                sends = [[true, false], [false, true], [true, true]][dice.below(3)];
            }
            for port in 0..2 {
                if !sends[port] || n_offered[port] == N {
                    continue;
                }
                let frame = frame(
                    mac(10),
                    mac(port as u16),
                    n_offered[port],
                    60 + dice.below(1400),
                );
                n_offered[port] += u64::from(rig.guests[port].send(0, &frame));
                is_busy[port] = true;
            }
            let awake: Vec<_> = (0..2)
                .filter(|&core| is_busy[core] && dice.below(3) > 0)
                .collect();
            for (&core, turn) in awake.iter().zip(rig.step_together(&awake)) {
                is_busy[core] = turn.n_frames + turn.n_unsent + turn.n_held > 0;
            }
            peer.stall(n_offered != [N; 2] && dice.below(4) == 0);
            peer.complete(dice.below(20), |n| dice.below(n));
            note_sent(&peer, &mut n_got);
            if n_got == [N; 2] {
                break;
            }
        }
        // What is out comes back to whoever sends next: all frames there are can be used at once.
        peer.complete(usize::MAX, |n| dice.below(n));
        peer.stall(true);
        for port in 0..2 {
            for id in N..N + 64 {
                assert!(rig.guests[port].send(0, &frame(mac(10), mac(port as u16), id, 60)));
            }
        }
        let in_ring =
            |rig: &Rig| (0..2).map(|port| rig.counters(port).rx_frames).sum::<u64>() - 2 * (N + 1);
        (0..20).for_each(|_| drop(rig.step_together(&[0, 1])));
        assert_eq!(in_ring(&rig), u64::from(N_RX));
        peer.stall(false);
        for _ in 0..200 {
            rig.step_together(&[0, 1]);
            peer.complete(usize::MAX, |n| dice.below(n));
            note_sent(&peer, &mut n_got);
        }
        assert_eq!(n_got, [N + 64; 2]);
        assert_eq!(
            (0..3)
                .map(|port| rig.counters(port).n_dropped())
                .sum::<u64>(),
            0
        );
        rig.assert_balanced();
        assert_ledger_is_at_rest(&mut rig);
    }
}
