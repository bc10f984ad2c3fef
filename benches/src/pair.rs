//! What the benches share: two guests and a switch in one thread, so that no cache line travels and what is measured is
//! the switch's own work.
#![forbid(unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

pub mod cycles;

use flowtable::rules::policy::{Cidr, Proto, Rule};
use flowtable::{Direction, Networks, Policy, SourcePolicy, Verdict};
use guest::Options;
use guest::flows::{Flows, Vary};
use guest::lean::{LeanRx, LeanTx, rx_len};
use guest::stack::Mac;
use pmd::limits::{LimitOptions, VmLimits};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tests::{Rig, frame, mac, networks, options};

/// Frames offered at a time.
pub const BURST: u16 = 32;

/// One network, and a rule for what its ports get.
fn ruled() -> Arc<Networks> {
    let cidr = Some(Cidr { addr: IpAddr::from([192, 0, 2, 0]), len: 24 });
    let numbers = vec![(53, 53)];
    let rule = Rule { direction: Direction::ToVm, verdict: Verdict::Deny, proto: Proto::Number(17), cidr, numbers };
    let policy = Some(Arc::new(Policy::new(&[rule])));
    Arc::new(Networks::clone(&networks(&[&[0, 1]])).with_policies(vec![policy; 2], 1))
}

/// A switch with a sender on port 0 and a sink on port 1.
pub struct Pair {
    rig: Rig,
    tx: LeanTx,
    rx: LeanRx,
    n_flows: u64,
}

impl Pair {
    /// Frames of `len` bytes of `n_flows` flows. `line_offset`: 52 as DPDK lays out its buffers, 0 as Linux.
    pub fn new(len: usize, n_flows: u64, vary: Vary, line_offset: u32) -> Self {
        Self::of(len, n_flows, vary, line_offset, LimitOptions::default(), false)
    }

    /// The same with a rule of the receiver's about port and address, which denies none of it and makes each address a flow.
    pub fn with_rules(len: usize, n_flows: u64, vary: Vary, line_offset: u32) -> Self {
        Self::of(len, n_flows, vary, line_offset, LimitOptions::default(), true)
    }

    /// The same, each of the two being a VM with this limit in both directions.
    pub fn with_limits(len: usize, n_flows: u64, vary: Vary, line_offset: u32, limit: LimitOptions) -> Self {
        Self::of(len, n_flows, vary, line_offset, limit, false)
    }

    fn of(len: usize, n_flows: u64, vary: Vary, line_offset: u32, limit: LimitOptions, is_ruled: bool) -> Self {
        let options = Options { line_offset, checked: false, fifo: true, ..options() };
        // Of a table that is nearly full, a port gets no more than its share.
        let room = (n_flows as usize * 2).max(1 << 12);
        let networks = if is_ruled { ruled() } else { networks(&[&[0, 1]]) };
        let mut rig = Rig::with_room(1, 2, networks, room);
        // Without large pages it is slower, as the daemon is.
        let _ = rig.fleet.settle();
        for port in (0..2).filter(|_| limit != LimitOptions::default()) {
            rig.fleet.limit(&[port], &Arc::new(VmLimits::new(limit, limit)));
        }
        let policy = SourcePolicy::Learn(u32::MAX);
        rig.plug(0, policy, options.clone());
        rig.plug(0, policy, options.clone());
        rig.guests[1].send(0, &frame([0xff; 6], mac(1), 0, 60));
        rig.settle();
        rig.down(0);
        rig.down(1);
        let shape = options.rx_shape.clone();
        let host = |n: u16| (Mac(mac(n)), Ipv4Addr::new(10, 0, 0, n as u8));
        let tx = LeanTx::new(rig.guests[0].take_over(1), 12, Flows::new(host(0), host(1), len, n_flows, vary));
        let queue = rig.guests[1].take_over(0);
        let len = rx_len(&queue, &shape);
        let rx = LeanRx::new(queue, len, false, false);
        rig.up(0, 0, policy);
        rig.up(1, 0, policy);
        rig.step();
        Self { rig, tx, rx, n_flows }
    }

    /// Sends a frame of each flow, or a few more, so that all of them are remembered.
    pub fn meet_all(&mut self) {
        self.cycles_per_frame((self.n_flows / u64::from(BURST) + 1) as u32);
    }

    /// Busy cycles of the switch for each of `n_bursts` bursts' frames, as it counts them itself.
    pub fn cycles_per_frame(&mut self, n_bursts: u32) -> f64 {
        let before = self.rig.fleet.cores()[0];
        let (mut n_sent, mut n_got) = (0, 0);
        for _ in 0..n_bursts {
            self.tx.poll();
            self.tx.offer(BURST);
            n_sent += u32::from(BURST);
            // What guests write comes from another CPU's cache, not from this one's store buffer, which is slow where loads and
            // stores are of different sizes.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            self.rig.step();
            let n = self.rx.poll();
            n_got += u32::from(n);
            self.rx.offer(n);
        }
        assert_eq!(n_got, n_sent, "frames were lost");
        let after = self.rig.fleet.cores()[0];
        assert_eq!(after.rx_frames - before.rx_frames, u64::from(n_sent));
        (after.busy_cycles - before.busy_cycles) as f64 / f64::from(n_sent)
    }
}
