//! Limits on what a VM gets: what is over them waits, in its sender's ring or in a queue of the
//! switch's, for a bounded time.

mod bounds;
mod down;
mod local;
mod shares;
mod tcp;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;

use flowtable::{DropReason, PortId};
use pmd::limit::{LimitOptions, QueueOptions, VmLimits};
use pmd::port::mem::MemPort;
use rig::{ALL, MS, NO_LIMIT, Rig, SECOND, STEP, frame, id_of, mac, networks};

/// What waits for a VM, does so for so long.
const QUEUE: Option<QueueOptions> = Some(QueueOptions {
    time: 20 * MS,
    bytes_max: 8 << 20,
});

fn bits(bits_per_sec: u64) -> LimitOptions {
    LimitOptions {
        queue: QUEUE,
        ..rig::bits(bits_per_sec)
    }
}

fn packets(packets_per_sec: u64) -> LimitOptions {
    LimitOptions {
        queue: QUEUE,
        ..rig::packets(packets_per_sec)
    }
}

/// Ports in plain memory, all in one network and known to each other: wires, whose frames can't
/// wait, and guests, whose can. The limits are on what comes to a port.
struct World {
    rig: Rig,
    ports: Vec<MemPort>,
    /// By frame: when it was sent.
    sent_at: HashMap<u64, u64>,
    next_id: u64,
}

impl World {
    /// For each port: whether its frames can wait, and the limit on what it gets.
    fn new(n_cores: usize, ports: &[(bool, LimitOptions)]) -> Self {
        let members: Vec<PortId> = (0..ports.len() as PortId).collect();
        let mut rig = Rig::with_room(n_cores, ports.len(), networks(&[&members]), 1 << 12);
        let mut ends = Vec::new();
        for (port, &(can_hold, to_vm)) in (0..).zip(ports) {
            rig.limit(&[port], NO_LIMIT, to_vm);
            let end = MemPort::new(usize::MAX, can_hold);
            rig.plug_mem(port, Some(0), &end);
            ends.push(end);
        }
        let mut world = Self {
            rig,
            ports: ends,
            sent_at: HashMap::new(),
            next_id: 1,
        };
        for port in 0..ports.len() as u16 {
            world.ports[usize::from(port)].send(&frame(ALL, mac(port), 0, 60));
            world.rig.now += SECOND;
            world.rig.settle();
        }
        world.drain();
        // What may pass at once is saved up.
        world.rig.now += 1000 * SECOND;
        world
    }

    fn drain(&self) {
        self.ports
            .iter()
            .for_each(|port| while port.receive().is_some() {});
    }

    fn drain_but(&self, port: usize) {
        let others = self.ports.iter().enumerate().filter(|(at, _)| *at != port);
        others.for_each(|(_, end)| while end.receive().is_some() {});
    }

    fn send(&mut self, from: u16, to: u16, len: usize) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.sent_at.insert(id, self.rig.now);
        self.ports[usize::from(from)].send(&frame(mac(to), mac(from), id, len));
        id
    }

    fn send_many(&mut self, from: u16, to: u16, len: usize, n: usize) {
        for _ in 0..n {
            self.send(from, to, len);
        }
    }

    /// Frames that have come to a port, and how long each took.
    fn receive(&mut self, port: u16) -> Vec<(u64, u64, Vec<u8>)> {
        let mut got = Vec::new();
        while let Some(bytes) = self.ports[usize::from(port)].receive() {
            let id = id_of(&bytes);
            got.push((
                id,
                self.rig.now - self.sent_at.remove(&id).unwrap_or(self.rig.now),
                bytes,
            ));
        }
        got
    }

    fn drops(&self, port: PortId, reason: DropReason) -> u64 {
        self.rig.drops(port, reason)
    }

    /// Everything is counted, and nothing waits any more.
    fn assert_at_rest(&mut self) {
        self.rig.settle();
        self.rig.assert_counted();
        let held: u64 = (0..self.ports.len() as PortId)
            .map(|port| self.rig.counters(port).held)
            .sum();
        assert_eq!(held, 0, "frames are held at rest");
    }
}
