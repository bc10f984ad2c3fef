//! Limits: what is over them waits, or is dropped, and nobody else notices.

mod to_vm;

use std::net::Ipv4Addr;
use std::sync::Arc;

use flowtable::{DropReason, PortId};
use guest::Options;
use guest::flows::{Flows, Vary};
use guest::header::{NEEDS_CSUM, NetHeader};
use guest::lean::LeanTx;
use guest::stack::Mac;
use pmd::limit::{LimitOptions, VmLimits};
use pmd::port::mem::MemPort;
use rig::{
    ALL, ANY, Dice, NO_LIMIT, Rig, SECOND, STEP, bits, frame, mac, networks, options, packets,
    seeds,
};

/// The time over which a limit shall be nearly exact.
const WINDOW: u64 = 10_000_000;

/// VMs that send as fast as their queues are emptied, to a wire that takes everything.
struct Flood {
    rig: Rig,
    wire: MemPort,
    /// By port.
    txs: Vec<Vec<LeanTx>>,
    /// Frames taken of each queue.
    n_sent: Vec<Vec<u64>>,
    n_arrived: u64,
}

impl Flood {
    /// One port for each of `vms`: whose it is, its queue pairs, the bytes of its frames.
    fn new(n_cores: usize, limits: &[LimitOptions], vms: &[(usize, u16, usize)]) -> Self {
        let n = vms.len() as PortId;
        let members: Vec<PortId> = (0..=n).collect();
        let mut rig = Rig::with_room(n_cores, vms.len() + 1, networks(&[&members]), 1 << 12);
        for (vm, &limit) in limits.iter().enumerate() {
            let ports: Vec<_> = (0..n)
                .filter(|&port| vms[usize::from(port)].0 == vm)
                .collect();
            rig.limit(&ports, limit, NO_LIMIT);
        }
        let (mut txs, mut n_sent) = (Vec::new(), Vec::new());
        for &(_, n_queue_pairs, len) in vms {
            let of_one = Options {
                n_queue_pairs,
                checked: false,
                rx_ring: 4,
                tx_ring: 64,
                tx_frame_bytes: len.max(64),
                ..options()
            };
            let port = rig.plug(0, ANY, of_one);
            let host = |n: u16| (Mac(mac(n)), Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8));
            let flows = Flows::new(host(port), host(n), len, 1, Vary::Ip);
            let guest = &mut rig.guests[usize::from(port)];
            let take = |pair| {
                LeanTx::new(
                    guest.take_over(2 * usize::from(pair) + 1),
                    12,
                    flows.clone(),
                )
            };
            txs.push((0..n_queue_pairs).map(take).collect());
            n_sent.push(vec![0; usize::from(n_queue_pairs)]);
        }
        let wire = MemPort::new(usize::MAX, false);
        rig.plug_mem(n, Some(0), &wire);
        wire.send(&frame(ALL, mac(n), 0, 60));
        rig.step();
        Self {
            rig,
            wire,
            txs,
            n_sent,
            n_arrived: 0,
        }
    }

    fn run(&mut self, time: u64) {
        for _ in 0..time / STEP {
            for (txs, n_sent) in self.txs.iter_mut().zip(&mut self.n_sent) {
                for (tx, n_sent) in txs.iter_mut().zip(n_sent) {
                    *n_sent += u64::from(tx.poll());
                    tx.offer(tx.room());
                }
            }
            self.rig.step();
            while self.wire.receive().is_some() {
                self.n_arrived += 1;
            }
        }
    }

    /// Nothing was dropped, and everything taken arrived.
    fn assert_nothing_lost(&self) {
        let ports = 0..self.txs.len() as PortId;
        let counters: Vec<_> = ports.map(|port| self.rig.counters(port)).collect();
        assert_eq!(counters.iter().map(|c| c.n_dropped()).sum::<u64>(), 0);
        assert_eq!(
            counters.iter().map(|c| c.rx_frames).sum::<u64>(),
            self.n_arrived
        );
        self.rig.assert_counted();
    }
}

/// Each VM gets its rate: within half a percent and a frame over `n_windows` windows, within two
/// percent or a frame in each.
fn assert_rates(flood: &mut Flood, rates: &[(f64, f64)], n_windows: u32, what: &str) {
    let taken = |flood: &Flood| -> Vec<f64> {
        (0..rates.len() as PortId)
            .map(|port| flood.rig.counters(port).rx_bytes as f64)
            .collect()
    };
    // What was saved up is used up, whatever there was.
    flood.run(WINDOW);
    let start = taken(flood);
    let mut before = start.clone();
    for _ in 0..n_windows {
        flood.run(WINDOW);
        let now = taken(flood);
        for (vm, &(per_second, len)) in rates.iter().enumerate() {
            let (got, exact) = (now[vm] - before[vm], per_second / 100.0);
            assert!(
                (got - exact).abs() <= (0.02 * exact).max(len) + 1.0,
                "{what}, VM {vm}: {got} in 10 ms, not {exact}"
            );
        }
        before = now;
    }
    for (vm, &(per_second, len)) in rates.iter().enumerate() {
        let (got, exact) = (
            before[vm] - start[vm],
            per_second / 100.0 * f64::from(n_windows),
        );
        assert!(
            (got - exact).abs() <= 0.005 * exact + len + 1.0,
            "{what}, VM {vm}: {got} in all, not {exact}"
        );
    }
    flood.assert_nothing_lost();
}

#[test]
fn vms_that_flood_get_their_rates_and_lose_nothing() {
    for seed in seeds(0..12) {
        let mut dice = Dice::new(seed);
        let n_cores = 1 + dice.below(4);
        let n_vms = [1, 2, 8, 40][dice.below(4)];
        let (mut limits, mut vms, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        for vm in 0..n_vms {
            let len = [64, 65, 256, 1000, 1514, 4000, 9014][dice.below(7)];
            // What a ring of 64 gives up in a step is 3.2 million frames a second; here ten times
            // less, and all of them together no more than a test has time for.
            let most = (300_000.0 * len as f64 * 8.0 / n_vms as f64).log2();
            let rate = (13.3 + (most - 13.3) * dice.below(1000) as f64 / 1000.0).exp2() as u64;
            if dice.below(3) > 0 {
                limits.push(bits(rate));
                rates.push((rate as f64 / 8.0, len as f64));
            } else {
                let packets = rate.div_ceil(8 * len as u64);
                limits.push(LimitOptions {
                    packets_per_sec: Some(packets),
                    bits_per_sec: Some(4 * rate + 10_000),
                    ..NO_LIMIT
                });
                let by_bits = (4 * rate + 10_000) as f64 / 8.0;
                rates.push(((packets as f64 * len as f64).min(by_bits), len as f64));
            }
            vms.push((vm, 1, len));
        }
        let mut flood = Flood::new(n_cores, &limits, &vms);
        assert_rates(
            &mut flood,
            &rates,
            100,
            &format!("seed {seed}, {n_cores} cores: {limits:?} {vms:?}"),
        );
    }
}

#[test]
fn fast_vm_gets_its_rate_too() {
    let mut flood = Flood::new(1, &[bits(100_000_000_000)], &[(0, 2, 9014)]);
    assert_rates(&mut flood, &[(12.5e9, 9014.0)], 5, "100 Gbit/s");
}

#[test]
fn thousand_vms_get_their_rates() {
    for n_cores in [1, 4] {
        let rate = |vm: usize| 1_000_000 + 1000 * vm as u64;
        let limits: Vec<_> = (0..1000).map(|vm| bits(rate(vm))).collect();
        let vms: Vec<_> = (0..1000).map(|vm| (vm, 1, 512)).collect();
        let rates: Vec<_> = (0..1000).map(|vm| (rate(vm) as f64 / 8.0, 512.0)).collect();
        let mut flood = Flood::new(n_cores, &limits, &vms);
        assert_rates(&mut flood, &rates, 20, &format!("{n_cores} cores"));
    }
}

#[test]
fn queues_and_nics_of_a_vm_share_its_limit_evenly() {
    for n_cores in 1..=4 {
        // Two NICs, one of them with three queues; and a neighbour.
        let vms = [(0, 3, 1514), (0, 1, 1514), (1, 1, 1514)];
        let mut flood = Flood::new(n_cores, &[bits(50_000_000), bits(80_000_000)], &vms);
        flood.run(SECOND);
        let of_vm: Vec<u64> = flood.n_sent[..2].iter().flatten().copied().collect();
        let n_bytes = of_vm.iter().sum::<u64>() * 1514;
        assert!(n_bytes.abs_diff(6_250_000) < 60_000, "{n_bytes}");
        let (least, most) = (of_vm.iter().min().unwrap(), of_vm.iter().max().unwrap());
        assert!(least * 10 >= most * 9, "{n_cores} cores: {of_vm:?}");
        flood.assert_nothing_lost();
    }
}

#[test]
fn neighbour_of_a_flooder_over_its_limit_notices_nothing() {
    let mut rig = Rig::new(1, 4, networks(&[&[0, 1, 2, 3]]));
    let limits = Arc::new(VmLimits::new(bits(10_000_000), NO_LIMIT));
    rig.cores.limit(&[0], &limits);
    rig.plug_all(4, &options());
    rig.introduce(0..4);
    for id in 0..20_000 {
        while rig.guests[0].send(0, &frame(mac(1), mac(0), id, 1000)) {}
        assert!(rig.guests[2].send(0, &frame(mac(3), mac(2), id, 60)));
        rig.step();
        assert_eq!(rig.receive_all(3).len(), 1, "in the same turn");
        rig.receive_all(1);
        rig.receive_all(2);
        rig.guests[0].reclaim_tx(0);
    }
    let taken = rig.counters(0).rx_bytes;
    assert!(
        taken.abs_diff(10_000_000 / 8 / 5) < 4000,
        "{taken} bytes in 0.2 s"
    );
    assert!(
        limits.throttled_ns() > 180_000_000,
        "{} ns",
        limits.throttled_ns()
    );
    assert_eq!(rig.counters(0).n_dropped() + rig.counters(2).n_dropped(), 0);
    rig.assert_balanced();
}

/// Two VMs, of which the first may send a megabit a second.
fn sender_at_a_megabit() -> Rig {
    let mut rig = Rig::new(1, 2, networks(&[&[0, 1]]));
    rig.limit(&[0], bits(1_000_000), NO_LIMIT);
    rig.plug_all(2, &options());
    rig
}

#[test]
fn ring_of_a_vm_over_its_limit_is_not_even_looked_at() {
    let mut rig = sender_at_a_megabit();
    rig.now += SECOND;
    // 64 KiB at once, and eight frames of debt at most: the next millisecond brings nothing.
    for id in 0..60 {
        assert!(rig.guests[0].send(0, &frame(ALL, mac(0), id, 1514)));
    }
    for _ in 0..20 {
        rig.step();
    }
    let taken = rig.counters(0).rx_frames;
    assert_eq!(taken, 44);
    // An index that is impossible: whoever looks stops the queue.
    let at = rig.guests[0].vring_gpa(1).avail + 2;
    rig.guests[0].memory().store_u16(at, 60_000);
    for _ in 0..100 {
        rig.step();
        assert_eq!(rig.counters(0).faults, 0);
    }
    rig.now += SECOND;
    rig.step();
    assert_eq!(rig.counters(0).faults, 1);
}

#[test]
fn frames_that_are_refused_use_up_the_limit_of_their_sender() {
    let mut rig = sender_at_a_megabit();
    // One more than was negotiated in every second frame, and a frame that is none in the others.
    let wish = NetHeader {
        flags: NEEDS_CSUM,
        csum_start: 14,
        csum_offset: 16,
        ..NetHeader::default()
    };
    let mut id = 0;
    for _ in 0..SECOND / STEP {
        let guest = &mut rig.guests[0];
        while guest.send_with(0, wish, &frame(mac(1), mac(0), id, 1514)) && guest.send(0, &[0; 13])
        {
            id += 1;
        }
        rig.step();
        rig.guests[0].reclaim_tx(0);
    }
    // A second's worth of frames of 14 bytes, and 250 microseconds' that were saved or are owed.
    let (counters, exact) = (rig.counters(0), 1_000_000 / 8 / 14);
    assert!(
        counters.rx_frames.abs_diff(exact) <= exact / 100 + 64,
        "{} frames, not {exact}",
        counters.rx_frames
    );
    assert_eq!(
        (counters.rx_bytes, counters.n_dropped()),
        (0, counters.rx_frames)
    );
    assert!(
        counters.drops[DropReason::BadOffload.index()] > exact / 3,
        "{counters:?}"
    );
    rig.assert_balanced();
}

#[test]
fn standstill_of_an_hour_earns_one_burst() {
    let mut flood = Flood::new(1, &[bits(100_000_000)], &[(0, 1, 1514)]);
    flood.run(SECOND / 10);
    let before = flood.rig.counters(0).rx_bytes;
    flood.rig.now += 3600 * SECOND;
    flood.run(WINDOW);
    let taken = flood.rig.counters(0).rx_bytes - before;
    assert!(taken.abs_diff(65_536 + 125_000) <= 1514 + 1250, "{taken}");
    flood.assert_nothing_lost();
}

#[test]
fn bill_outlives_the_port() {
    let mut flood = Flood::new(2, &[bits(10_000_000)], &[(0, 1, 1000)]);
    for _ in 0..20 {
        flood.run(SECOND / 20);
        flood.rig.down(0);
        flood.rig.up(0, 0, ANY);
        flood.rig.step();
    }
    let taken = flood.rig.counters(0).rx_bytes as f64;
    let exact = flood.rig.now as f64 * 0.01 / 8.0;
    assert!(
        (taken - exact).abs() <= 0.01 * exact,
        "{taken}, not {exact}"
    );
}
