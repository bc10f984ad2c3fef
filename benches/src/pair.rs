//! Two guests, and a switch between them.

use std::net::IpAddr;
use std::sync::Arc;

use flowtable::rules::rule::{Cidr, Proto, Rule};
use flowtable::{Direction, Networks, Policy, Verdict};
use guest::Options;
use guest::flows::{Flows, Vary};
use guest::lean::{LeanRx, LeanTx};
use pmd::limit::LimitOptions;
use rig::{ANY, Rig, frame, mac, networks, options};

use crate::{BURST, Spent, host, lean_rx, lean_tx, step};

/// One network, and a rule for what its ports get.
fn ruled() -> Arc<Networks> {
    let cidr = Some(Cidr {
        addr: IpAddr::from([192, 0, 2, 0]),
        len: 24,
    });
    let numbers = vec![(53, 53)];
    let rule = Rule {
        direction: Direction::ToVm,
        verdict: Verdict::Deny,
        proto: Proto::Number(17),
        cidr,
        numbers,
    };
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
    /// Frames of `len` bytes of `n_flows` flows. `line_offset`: 52 as DPDK lays out its buffers, 0
    /// as Linux.
    pub fn new(len: usize, n_flows: u64, vary: Vary, line_offset: u32) -> Self {
        Self::of(
            len,
            n_flows,
            vary,
            line_offset,
            LimitOptions::default(),
            false,
        )
    }

    /// The same with a rule of the receiver's about port and address, which denies none of it and
    /// makes each address a flow.
    pub fn with_rules(len: usize, n_flows: u64, vary: Vary, line_offset: u32) -> Self {
        Self::of(
            len,
            n_flows,
            vary,
            line_offset,
            LimitOptions::default(),
            true,
        )
    }

    /// The same, each of the two being a VM with this limit in both directions.
    pub fn with_limits(
        len: usize,
        n_flows: u64,
        vary: Vary,
        line_offset: u32,
        limit: LimitOptions,
    ) -> Self {
        Self::of(len, n_flows, vary, line_offset, limit, false)
    }

    fn of(
        len: usize,
        n_flows: u64,
        vary: Vary,
        line_offset: u32,
        limit: LimitOptions,
        is_ruled: bool,
    ) -> Self {
        let options = Options {
            line_offset,
            checked: false,
            fifo: true,
            ..options()
        };
        // Of a table that is nearly full, a port gets no more than its share.
        let room = (n_flows as usize * 2).max(1 << 12);
        let networks = if is_ruled {
            ruled()
        } else {
            networks(&[&[0, 1]])
        };
        let mut rig = Rig::with_room(1, 2, networks, room);
        // Without large pages it is slower, as the daemon is.
        let _ = rig.cores.settle();
        for port in (0..2).filter(|_| limit != LimitOptions::default()) {
            rig.limit(&[port], limit, limit);
        }
        let policy = ANY;
        rig.plug(0, policy, options.clone());
        rig.plug(0, policy, options);
        rig.guests[1].send(0, &frame([0xff; 6], mac(1), 0, 60));
        rig.settle();
        rig.down(0);
        rig.down(1);
        let tx = lean_tx(
            &mut rig,
            0,
            Flows::new(host(0), host(1), len, n_flows, vary),
        );
        let rx = lean_rx(&mut rig, 1);
        rig.up(0, 0, policy);
        rig.up(1, 0, policy);
        rig.step();
        Self {
            rig,
            tx,
            rx,
            n_flows,
        }
    }

    /// Sends a frame of each flow, or a few more, so that all of them are remembered.
    pub fn meet_all(&mut self) {
        self.send(self.n_flows / u64::from(BURST) + 1);
    }

    /// Busy cycles of the switch for each of `n_bursts` bursts' frames, as it counts them itself.
    pub fn cycles_per_frame(&mut self, n_bursts: u32) -> f64 {
        self.send(u64::from(n_bursts)).per_frame()
    }

    /// Sends so many bursts, none of which may be lost; busy cycles of the switch.
    pub fn send(&mut self, n_bursts: u64) -> Spent {
        let (mut spent, mut n_got) = (Spent::default(), 0);
        for _ in 0..n_bursts {
            self.tx.poll();
            self.tx.offer(BURST);
            spent += step(&mut self.rig);
            let n = self.rx.poll();
            n_got += u64::from(n);
            self.rx.offer(n);
        }
        assert_eq!(
            [spent.n_frames, n_got],
            [n_bursts * u64::from(BURST); 2],
            "frames were lost"
        );
        spent
    }
}
