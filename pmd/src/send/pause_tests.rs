//! Receivers that are paused, since a core waited for their pages, and those who send to them.

use std::sync::Arc;

use flowtable::{DropReason, Ingress, Network, Networks, PortId, SourcePolicy};

use crate::control::{Cores, CoresOptions, PortUp};
use crate::poll::Core;
use crate::port::mem::MemPort;
use crate::port::{RxQueue, TxQueue};
use crate::time::Nanos;

const STEP: Nanos = 10_000;
const SECOND: Nanos = 1_000_000_000;

/// A, B and C, which is paused until then.
struct Three {
    cores: Cores,
    core: Core,
    ports: [MemPort; 3],
    now: Nanos,
}

impl Three {
    fn new(paused_until: Nanos) -> Self {
        let members: Vec<PortId> = vec![0, 1, 2];
        let network = Network {
            members,
            frame_max: 1514,
            ..Network::default()
        };
        let networks = Arc::new(Networks {
            networks: vec![network],
            ..Networks::default()
        });
        let options = CoresOptions {
            n_cores: 1,
            n_ports: 3,
            n_flows: 256,
            n_macs: 256,
            networks,
            seeds: [1, 2],
        };
        let (cores, mut pollers) = Cores::new(&options).unwrap();
        let ports = [(); 3].map(|()| MemPort::new(1024, true));
        for (port, ends) in (0..).zip(&ports) {
            let source = SourcePolicy::Any(u32::MAX);
            let ingress = Ingress {
                port,
                network: 0,
                trunk: None,
                source,
                generation: 1,
            };
            let mut txq = TxQueue::mem(ends);
            if port == 2 {
                txq.next_sender.pause(paused_until, 0);
            }
            cores.up(PortUp {
                ingress,
                rxqs: vec![RxQueue::mem(port, ends)],
                txqs: vec![txq],
            });
        }
        let mut three = Self {
            cores,
            core: pollers.remove(0),
            ports,
            now: 0,
        };
        // They make themselves known.
        (0..3).for_each(|port| three.send(port, 0xff, 1));
        (0..100).for_each(|_| three.step());
        three
            .ports
            .iter()
            .for_each(|port| while port.receive().is_some() {});
        three
    }

    fn send(&self, from: u8, to: u8, n: usize) {
        let to = if to == 0xff {
            [0xff; 6]
        } else {
            [2, 0, 0, 0, 0, to]
        };
        let frame = [&to[..], &[2, 0, 0, 0, 0, from, 0x88, 0xb5], &[0; 46]].concat();
        (0..n).for_each(|_| self.ports[usize::from(from)].send(&frame));
    }

    fn step(&mut self) {
        self.now += STEP;
        self.core.poll_once(self.now);
    }
}

#[test]
fn ring_full_for_a_receiver_that_is_paused_for_long_stands_still_for_no_longer_than_a_stalled_one_does()
 {
    for (pause, lost) in [(5 * SECOND, 600), (SECOND / 2, 0)] {
        let mut three = Three::new(pause);
        three.send(0, 2, 600);
        three.send(0, 1, 1);
        let begin = three.now;
        while three.ports[1].receive().is_none() {
            three.step();
            assert!(
                three.now - begin < SECOND * 11 / 10,
                "paused for {pause} ns"
            );
        }
        let drops = three.cores.counters(0).drops;
        assert!(
            drops[DropReason::ReceiverStalled.index()] >= lost,
            "{drops:?}"
        );
    }
}

#[test]
fn pause_that_is_nearly_over_holds_and_loses_nothing() {
    let mut three = Three::new(SECOND * 3 / 4);
    // Of the flood one copy was.
    let before = three.cores.counters(0).n_dropped();
    three.send(0, 2, 600);
    (0..100_000).for_each(|_| three.step());
    assert_eq!(three.cores.counters(0).n_dropped(), before);
    assert!((0..600).all(|_| three.ports[2].receive().is_some()));
}
