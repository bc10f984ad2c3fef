//! Limits on what a VM gets, without a queue.

use super::*;

/// A sender without limit, a VM that may get so much, and one that may get anything; all known to
/// each other.
fn receivers(n_cores: usize, to_vm: LimitOptions) -> Rig {
    let mut rig = Rig::new(n_cores, 3, networks(&[&[0, 1, 2]]));
    rig.limit(&[1], NO_LIMIT, to_vm);
    rig.plug_all(3, &options());
    for port in 0..3u16 {
        rig.guests[usize::from(port)].send(0, &frame(ALL, mac(port), 0, 60));
        rig.now += SECOND;
        rig.settle();
    }
    rig.drain(0..3);
    rig
}

#[test]
fn vm_gets_what_it_may_and_the_rest_is_dropped_by_name() {
    for (to_vm, bytes_per_sec) in [
        (bits(50_000_000), 6_250_000.0),
        (packets(5_000), 5_000_000.0),
    ] {
        let mut rig = receivers(2, to_vm);
        let (mut n_other, mut id) = (0, 0);
        let mut after_burst = 0;
        for step in 0..60_000 {
            if step == 10_000 {
                after_burst = rig.counters(1).tx_bytes;
            }
            // Three in four for the VM with the limit.
            for _ in 0..4 {
                let to = if id % 4 == 0 { 2 } else { 1 };
                assert!(rig.guests[0].send(0, &frame(mac(to), mac(0), id, 1000)));
                id += 1;
            }
            rig.step();
            n_other += rig.receive_all(2).len();
            rig.receive_all(1);
            rig.receive_all(0);
        }
        let (sender, got) = (rig.counters(0), rig.counters(1));
        assert_eq!(n_other as u64, id / 4, "the other's frames all came");
        let half_a_second = (got.tx_bytes - after_burst) as f64;
        assert!(
            (half_a_second - bytes_per_sec / 2.0).abs() <= 0.005 * half_a_second + 1000.0,
            "{half_a_second}"
        );
        let dropped = sender.drops[DropReason::Limit.index()];
        assert!(dropped > 50_000);
        assert_eq!(
            (sender.n_dropped(), got.missed, got.limited),
            (dropped, dropped, dropped)
        );
        rig.assert_balanced();
    }
}

/// The limit is asked once for a burst that it lets pass, and for each frame of one that it
/// doesn't: neither is charged twice, nor anything given to a queue that another has used up.
#[test]
fn queues_and_nics_of_a_vm_share_what_it_may_get() {
    const BURST: i64 = 60_000;
    const LEN: usize = 1001;
    let limits = VmLimits::new(
        NO_LIMIT,
        LimitOptions {
            burst_bytes: Some(BURST as u64),
            ..bits(10_000)
        },
    );
    let limits = Arc::new(limits);
    let mut rig = Rig::new(1, 3, networks(&[&[0, 1, 2]]));
    rig.cores.limit(&[1, 2], &limits);
    rig.plug(0, ANY, options());
    for port in 1..3 {
        rig.plug(
            0,
            ANY,
            Options {
                n_queue_pairs: 4,
                ..options()
            },
        );
        rig.guests[usize::from(port)].send(0, &frame(mac(9), mac(port), 0, 60));
    }
    rig.settle();
    rig.drain(0..3);
    rig.now += 100 * SECOND;
    let left = |rig: &Rig| {
        limits
            .to_report(rig.now)
            .and_then(|limit| limit.left_bytes)
            .unwrap()
    };
    assert_eq!(left(&rig), BURST);
    let mut expected = BURST;
    for id in 0..4 {
        // To both NICs in turn, each from another address, so to all their queues.
        let batch = (0..24).map(|n| frame(mac(1 + n % 2), mac(100 + n), id, LEN));
        batch.for_each(|frame| assert!(rig.guests[0].send(0, &frame)));
        rig.settle();
        let n_got = rig.receive_all(1).len() + rig.receive_all(2).len();
        // The one that crosses it still passes.
        let may = (expected.max(0) as u64).div_ceil(LEN as u64).min(24);
        assert_eq!(n_got as u64, may, "of {expected} bytes");
        expected -= (LEN * n_got) as i64;
        assert!(
            (left(&rig) - expected).abs() <= 1,
            "{} are left, not {expected}",
            left(&rig)
        );
    }
    assert_eq!(rig.drops(0, DropReason::Limit), 36);
    rig.assert_balanced();
}

/// Copies of one frame to all NICs of a VM are more than the frame, so a burst that is within the
/// limit may not be in copies.
#[test]
fn flood_to_all_nics_of_a_vm_stays_within_what_it_may_get() {
    const BURST: u64 = 65_536;
    const LEN: usize = 1514;
    for n_unicast in [0, 8] {
        let limits = VmLimits::new(
            NO_LIMIT,
            LimitOptions {
                burst_bytes: Some(BURST),
                ..bits(10_000)
            },
        );
        let limits = Arc::new(limits);
        let mut rig = Rig::new(1, 5, networks(&[&[0, 1, 2, 3, 4]]));
        rig.cores.limit(&[1, 2, 3, 4], &limits);
        rig.plug_all(5, &options());
        for port in 1..5 {
            rig.guests[usize::from(port)].send(0, &frame(mac(9), mac(port), 0, 60));
        }
        rig.settle();
        rig.drain(0..5);
        rig.now += 1000 * SECOND;
        for id in 0..32 {
            let to = if id < n_unicast {
                mac(1 + id as u16 % 4)
            } else {
                ALL
            };
            assert!(rig.guests[0].send(0, &frame(to, mac(0), id, LEN)));
        }
        rig.settle();
        let n_got: usize = (1..5).map(|port| rig.receive_all(port).len()).sum();
        assert_eq!(
            n_got as u64,
            BURST.div_ceil(LEN as u64),
            "{n_unicast} that were not for all"
        );
        let left = limits
            .to_report(rig.now)
            .and_then(|limit| limit.left_bytes)
            .unwrap();
        assert!(
            (left - (BURST as i64 - (LEN * n_got) as i64)).abs() <= 10,
            "{left} bytes are left"
        );
        rig.assert_balanced();
    }
}

#[test]
fn flood_is_charged_once_to_its_sender_and_to_every_receiver() {
    let mut rig = receivers(1, bits(8_000_000));
    rig.limit(&[0], bits(80_000_000), NO_LIMIT);
    rig.down(0);
    rig.up(0, 0, ANY);
    rig.step();
    let mut got = [0; 3];
    let mut id = 0;
    // The first twentieth of a second uses up what was saved.
    for step in 0..55_000 {
        while rig.guests[0].send(0, &frame(ALL, mac(0), id, 1000)) {
            id += 1;
        }
        rig.step();
        for port in 0..3 {
            let n = rig.receive_all(port).len();
            got[usize::from(port)] += if step < 5_000 { 0 } else { n };
        }
    }
    // Half a second of 10,000 and of 1,000 frames a second.
    assert!((got[2] as i64 - 5000).abs() <= 25, "{got:?}");
    assert!(
        (got[1] as i64 - 500).abs() <= 4 + 66,
        "{got:?}: what was saved is used up more slowly"
    );
    assert_eq!(rig.drops(0, DropReason::Limit), rig.counters(1).limited);
    rig.assert_balanced();
}
