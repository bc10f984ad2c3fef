//! Receive queues that move from core to core, and cores that come and go, while frames flow: every
//! flow stays in order, nothing is lost or sent twice.

mod cores;
mod held;
mod interleavings;
mod load;
mod order;
mod threads;

use std::collections::HashMap;

use flowtable::PortId;
use guest::Options;
use pmd::port::afxdp::{AfXdpQueue, XskMode, XskOptions};
use pmd::port::mem::MemPort;
use pmd::port::{RxQueue, TxQueue};
use pmd::ring::xsk::peer::XskPeer;
use pmd::sys::bpf::Attach;
use rig::{ALL, ANY, Dice, NO_LIMIT, Rig, frame, id_of, mac, networks, options};

/// A device of two queues, with as many frames each way.
const DEVICE: PortId = 2;
const N_QUEUE: u32 = 64;
/// A port in memory behind the switch, whose frames can wait; then one whose frames can't.
const GUEST_IN_MEMORY: PortId = 3;
const WIRE: PortId = 4;
const N_PORTS: usize = 5;

/// Two guests with two queue pairs each, a device of two queues, and two ports in memory, in one
/// network and known to each other.
struct World {
    rig: Rig,
    peers: Vec<XskPeer>,
    ends: [MemPort; 2],
    /// By flow: the number of its next frame; and of the next that arrives.
    next: HashMap<Flow, u64>,
    arrived: HashMap<Flow, u64>,
}

/// Who sends, by which of its queues, to whom.
type Flow = (PortId, usize, PortId);

/// Puts flow and number of a frame into what it is known by.
fn id((from, queue, to): Flow, number: u64) -> u64 {
    u64::from(from) << 56 | (queue as u64) << 48 | u64::from(to) << 40 | number
}

fn flow_of(id: u64) -> (Flow, u64) {
    let flow = (
        (id >> 56) as u16,
        (id >> 48 & 255) as usize,
        (id >> 40 & 255) as u16,
    );
    (flow, id & ((1 << 40) - 1))
}

impl World {
    fn new(n_cores: usize) -> Self {
        Self::with_limit(n_cores, NO_LIMIT)
    }

    /// With this limit on what the port in memory gets whose frames can wait.
    fn with_limit(n_cores: usize, to_vm: pmd::limit::LimitOptions) -> Self {
        let members: Vec<PortId> = (0..N_PORTS as PortId).collect();
        let mut rig = Rig::with_room(n_cores, N_PORTS, networks(&[&members]), 1 << 10);
        let options = Options {
            n_queue_pairs: 2,
            ..options()
        };
        rig.plug(0, ANY, options.clone());
        rig.plug(0, ANY, options);
        let mut peers = Vec::new();
        let (mut rxqs, mut txqs) = (Vec::new(), Vec::new());
        for queue in 0..2 {
            let options = XskOptions {
                device: "up0".into(),
                queue,
                mode: XskMode::Copy,
                attach: Attach::Native,
                is_veth: false,
                n_rx: N_QUEUE,
                n_tx: N_QUEUE,
            };
            let (AfXdpQueue { rx, tx, .. }, peer) = AfXdpQueue::in_memory(&options);
            rxqs.push(RxQueue::afxdp(DEVICE, rx));
            txqs.push(TxQueue::afxdp(tx));
            peers.push(peer);
        }
        rig.plug_queues(DEVICE, Some(0), rxqs, txqs);
        let ends = [
            MemPort::new(usize::MAX, true),
            MemPort::new(usize::MAX, false),
        ];
        rig.limit(&[GUEST_IN_MEMORY], NO_LIMIT, to_vm);
        for (port, end) in (GUEST_IN_MEMORY..).zip(&ends) {
            rig.plug_mem(port, Some(0), end);
        }
        let mut world = Self {
            rig,
            peers,
            ends,
            next: HashMap::new(),
            arrived: HashMap::new(),
        };
        for port in 0..N_PORTS as PortId {
            assert!(world.give(port, 0, &frame(ALL, mac(port), 0, 60)));
            world.rig.now += rig::SECOND;
            world.rig.settle();
        }
        world.fetch();
        // What a limit lets pass at once is saved up.
        world.rig.now += 1000 * rig::SECOND;
        world
    }

    /// A port sends a frame by one of its queues; false: there is no room.
    fn give(&mut self, port: PortId, queue: usize, bytes: &[u8]) -> bool {
        match port {
            DEVICE => self.peers[queue].deliver(bytes),
            GUEST_IN_MEMORY | WIRE => {
                self.ends[usize::from(port - GUEST_IN_MEMORY)].send(bytes);
                true
            }
            guest => {
                let guest = &mut self.rig.guests[usize::from(guest)];
                guest.reclaim_tx(queue);
                guest.send(queue, bytes)
            }
        }
    }

    /// Sends the next frame of a flow, if there is room for it.
    fn send(&mut self, flow: Flow, len: usize) -> bool {
        let (from, queue, to) = flow;
        let number = self.next.get(&flow).copied().unwrap_or(0);
        let is_sent = self.give(
            from,
            queue,
            &frame(mac(to), mac(from), id(flow, number), len),
        );
        if is_sent {
            self.next.insert(flow, number + 1);
        }
        is_sent
    }

    /// A flow of any two ports by any queue.
    fn any_flow(dice: &mut Dice) -> Flow {
        let from = dice.below(N_PORTS);
        let to = (from + 1 + dice.below(N_PORTS - 1)) % N_PORTS;
        let n_queues = if from < GUEST_IN_MEMORY.into() { 2 } else { 1 };
        (from as PortId, dice.below(n_queues), to as PortId)
    }

    /// All that has arrived anywhere, device last, its queues in any order.
    fn fetch(&mut self) -> Vec<(PortId, u64)> {
        let mut got = Vec::new();
        for port in 0..2 {
            got.extend(self.rig.receive_ids(port).into_iter().map(|id| (port, id)));
        }
        for (port, end) in (GUEST_IN_MEMORY..).zip(&self.ends) {
            got.extend(std::iter::from_fn(|| end.receive()).map(|bytes| (port, id_of(&bytes))));
        }
        for peer in &self.peers {
            let all = std::iter::from_fn(|| peer.receive());
            got.extend(all.map(|bytes| (DEVICE, id_of(&bytes))));
        }
        got
    }

    /// Takes what has arrived: no frame before another of its flow, none twice. `is_whole`: and
    /// none is missing before it.
    fn check(&mut self, is_whole: bool) {
        for (port, id) in self.fetch() {
            let (flow, number) = flow_of(id);
            assert_eq!(flow.2, port, "{flow:?} came to port {port}");
            let next = self.arrived.entry(flow).or_default();
            assert!(
                if is_whole {
                    number == *next
                } else {
                    number >= *next
                },
                "{flow:?}: frame {number} came, not {next}"
            );
            *next = number + 1;
        }
    }

    /// Comes to rest: all frames have arrived that were not dropped, and are counted. Gives how
    /// many were.
    fn finish(&mut self, is_whole: bool) -> u64 {
        self.peers.iter().for_each(|peer| peer.stall(false));
        self.rig.until(|rig| rig.cores.try_finish_moves());
        for _ in 0..200 {
            self.rig.settle();
            self.check(is_whole);
        }
        self.rig.assert_balanced();
        let n_dropped = (0..N_PORTS as PortId)
            .map(|port| self.rig.counters(port).n_dropped())
            .sum();
        if is_whole {
            assert_eq!(self.arrived, self.next);
        }
        n_dropped
    }
}
