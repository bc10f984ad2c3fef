//! A limit on what a VM sends by a NIC that is a device.

use rig::{NO_LIMIT, STEP, bits, packets};

use super::*;

#[test]
fn nic_by_af_xdp_gets_its_rate_over_ten_milliseconds_and_over_a_second() {
    const WINDOW: u64 = 10_000_000;
    for (limit, len, per_second) in [
        (bits(100_000_000), 1514, 12.5e6),
        (bits(100_000_000), 60, 12.5e6),
        (bits(1_000_000), 1514, 0.125e6),
        (bits(1_000_000_000), 1514, 125e6),
        (packets(8_000), 1514, 8_000.0 * 1514.0),
    ] {
        let network = Network {
            members: vec![0, UPLINK],
            frame_max: 1514,
            ..Network::default()
        };
        let mut rig = Rig::new(
            1,
            3,
            Arc::new(Networks {
                networks: vec![network],
                ..Networks::default()
            }),
        );
        rig.limit(&[UPLINK], limit, NO_LIMIT);
        let wire = MemPort::new(usize::MAX, false);
        rig.plug_mem(0, Some(0), &wire);
        let peer = device(&mut rig, Some(0), false, [512, 64]);
        wire.send(&frame(ALL, mac(0), 0, 60));
        rig.step();
        let sent = frame(mac(0), mac(10), 1, len);
        // More than it may have; what finds no memory is the kernel's to drop.
        let run = |rig: &mut Rig| {
            let before = rig.counters(UPLINK).rx_bytes;
            for _ in 0..WINDOW / STEP {
                for _ in 0..60 {
                    peer.deliver(&sent);
                }
                rig.step();
                while wire.receive().is_some() {}
            }
            (rig.counters(UPLINK).rx_bytes - before) as f64
        };
        // What was saved up.
        run(&mut rig);
        let (mut sum, exact) = (0.0, per_second / 100.0);
        for _ in 0..100 {
            let got = run(&mut rig);
            assert!(
                (got - exact).abs() <= (0.02 * exact).max(len as f64) + 1.0,
                "{got} in 10 ms, not {exact}: {limit:?}"
            );
            sum += got;
        }
        assert!(
            (sum - per_second).abs() <= 0.005 * per_second + len as f64,
            "{sum} in a second, not {per_second}"
        );
        assert_eq!(
            rig.counters(UPLINK).n_dropped(),
            0,
            "the limit drops nothing"
        );
        rig.assert_balanced();
    }
}
