//! Whole switches with traffic of all kinds, from seeds, against a model of who may get what.

use std::collections::HashMap;

use flowtable::{DropReason, SourcePolicy};
use guest::Options;
use guest::options::Indirect;
use rig::{ALL, ANY, Dice, Rig, frame, id_of, mac, networks, options, seeds};

/// What was sent: who sent it, and to which station (`None`: to all).
struct Sent {
    from: u16,
    to: Option<u16>,
}

struct World {
    rig: Rig,
    dice: Dice,
    network_of: Vec<u16>,
    /// Whether each guest's receive ring holds the longest frame that is sent here.
    all_fit: bool,
    sent: HashMap<u64, Sent>,
    copies: HashMap<(u64, u16), usize>,
    last: HashMap<(u16, u16, Option<u16>), u64>,
}

fn any_options(dice: &mut Dice, n_queue_pairs: u16) -> Options {
    let sizes = [16, 32, 64, 256];
    let mergeable = dice.below(3) > 0;
    Options {
        n_queue_pairs,
        rx_ring: sizes[dice.below(4)],
        tx_ring: sizes[dice.below(4)],
        mergeable,
        version_1: dice.below(4) > 0,
        event_idx: dice.below(2) == 0,
        indirect: [Indirect::Off, Indirect::Always, Indirect::Alternate][dice.below(3)],
        fifo: dice.below(2) == 0,
        tx_header_apart: dice.below(3) == 0,
        tx_parts: 1 + dice.below(4),
        rx_shape: if mergeable {
            vec![[2048, 700, 256][dice.below(3)]]
        } else {
            vec![9100]
        },
        ..options()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (n_cores, n_ports, n_networks) =
            (1 + dice.below(4), 2 + dice.below(12), 1 + dice.below(3));
        let network_of: Vec<u16> = (0..n_ports)
            .map(|_| dice.below(n_networks) as u16)
            .collect();
        let members: Vec<Vec<u16>> = (0..n_networks as u16)
            .map(|n| {
                (0..n_ports as u16)
                    .filter(|&p| network_of[usize::from(p)] == n)
                    .collect()
            })
            .collect();
        let members: Vec<&[u16]> = members.iter().map(Vec::as_slice).collect();
        let mut rig = Rig::new(n_cores, n_ports, networks(&members));
        let mut all_fit = true;
        for &network in &network_of {
            let n_queue_pairs = 1 + dice.below(3) as u16;
            let options = any_options(&mut dice, n_queue_pairs);
            all_fit &= u32::from(options.rx_ring) * options.rx_shape[0] >= 5012;
            rig.plug(network, ANY, options);
        }
        Self {
            rig,
            dice,
            network_of,
            all_fit,
            sent: HashMap::new(),
            copies: HashMap::new(),
            last: HashMap::new(),
        }
    }

    fn send_some(&mut self) {
        let n_ports = self.network_of.len();
        for _ in 0..self.dice.below(60) {
            let from = self.dice.below(n_ports) as u16;
            let to = (self.dice.below(10) > 0)
                .then(|| self.dice.below(n_ports) as u16)
                .filter(|&to| to != from);
            let id = self.sent.len() as u64 + 1;
            let len = [60, 64, 100, 129, 600, 1514, 5000][self.dice.below(7)];
            let bytes = frame(to.map_or(ALL, mac), mac(from), id, len);
            // A flow keeps to one of its sender's queues, as guests do it.
            let guest = &mut self.rig.guests[usize::from(from)];
            let pair = usize::from(to.unwrap_or(0)) % usize::from(guest.options().n_queue_pairs);
            if guest.send(pair, &bytes) {
                self.sent.insert(id, Sent { from, to });
            }
        }
    }

    fn receive_some(&mut self, all: bool) {
        for port in 0..self.network_of.len() as u16 {
            if !all && self.dice.below(3) == 0 {
                continue;
            }
            for bytes in self.rig.receive_all(port) {
                self.check(port, id_of(&bytes));
            }
        }
    }

    /// The right network, not back to its sender, to nobody else if known, once, and in order.
    fn check(&mut self, port: u16, id: u64) {
        let sent = &self.sent[&id];
        let (at, from) = (usize::from(port), usize::from(sent.from));
        assert_eq!(
            self.network_of[at], self.network_of[from],
            "frame {id} left its network"
        );
        assert_ne!(at, from, "frame {id} came back");
        *self.copies.entry((id, port)).or_default() += 1;
        let last = self.last.insert((sent.from, port, sent.to), id);
        assert!(
            last.is_none_or(|last| last < id),
            "frame {id} overtook {last:?}"
        );
    }

    fn assert_all_accounted(&mut self) {
        for _ in 0..400 {
            self.rig.settle();
            self.receive_some(true);
        }
        self.rig.assert_balanced();
        let too_big = |port| self.rig.drops(port, DropReason::TooBig);
        assert!(
            !self.all_fit || (0..self.network_of.len() as u16).all(|port| too_big(port) == 0),
            "too big for whom?"
        );
        assert!(self.copies.values().all(|&n| n == 1), "a frame came twice");
        let n_ports = self.network_of.len() as u16;
        let all: Vec<_> = (0..n_ports).map(|port| self.rig.counters(port)).collect();
        assert_eq!(
            all.iter().map(|c| c.rx_frames).sum::<u64>(),
            self.sent.len() as u64,
            "not all was taken"
        );
        assert_eq!(
            all.iter().map(|c| c.tx_frames).sum::<u64>(),
            self.copies.len() as u64
        );
    }
}

#[test]
fn every_frame_of_any_traffic_is_delivered_rightly_or_counted() {
    for seed in seeds(0..60) {
        let mut world = World::new(seed);
        for _ in 0..60 {
            world.send_some();
            for _ in 0..world.dice.below(4) {
                world.rig.step();
            }
            world.receive_some(false);
        }
        world.assert_all_accounted();
    }
}

#[test]
fn many_ports_and_several_cores_flood_and_forward_in_balance() {
    for n_cores in 1..=4 {
        let n_ports = 200u16;
        let members: Vec<Vec<u16>> = (0..10).map(|n| (n * 20..n * 20 + 20).collect()).collect();
        let members: Vec<&[u16]> = members.iter().map(Vec::as_slice).collect();
        let mut rig = Rig::new(n_cores, usize::from(n_ports), networks(&members));
        for port in 0..n_ports {
            rig.plug(
                port / 20,
                SourcePolicy::Sticky,
                Options {
                    checked: false,
                    ..options()
                },
            );
        }
        for port in 0..n_ports {
            rig.guests[usize::from(port)].send(0, &frame(ALL, mac(port), 1, 60));
        }
        rig.settle();
        for port in 0..n_ports {
            assert_eq!(rig.receive_all(port).len(), 19);
            let to = port / 20 * 20 + (port + 7) % 20;
            rig.guests[usize::from(port)].send(0, &frame(mac(to), mac(port), 2, 60));
        }
        rig.settle();
        assert!((0..n_ports).all(|port| rig.receive_all(port).len() == 1));
        rig.assert_balanced();
    }
}

#[test]
fn network_of_as_many_ports_as_one_may_have_is_flooded_whole() {
    let members: Vec<u16> = (0..1024).collect();
    let mut rig = Rig::new(1, 1024, networks(&[&members]));
    for _ in 0..1024 {
        rig.plug(
            0,
            SourcePolicy::Sticky,
            Options {
                checked: false,
                rx_ring: 8,
                tx_ring: 8,
                ..options()
            },
        );
    }
    for id in 0..3 {
        assert!(rig.guests[7].send(0, &frame(ALL, mac(7), id, 60)));
    }
    rig.settle();
    for port in 0..1024 {
        assert_eq!(
            rig.receive_all(port).len(),
            if port == 7 { 0 } else { 3 },
            "port {port}"
        );
    }
    assert_eq!(rig.counters(7).copies, 3 * 1022);
    rig.assert_balanced();
}
