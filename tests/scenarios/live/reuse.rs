//! Ids that are used again: nothing of the former owner's reaches the next, or is known of it.

use flowtable::{DropReason, Ingress, PortId, SourcePolicy};
use pmd::limit::LimitOptions;
use pmd::limit::QueueOptions;
use pmd::port::mem::MemPort;
use pmd::stats::Counters;
use rig::{ALL, Dice, MS, NO_LIMIT, Rig, frame, id_of, mac, seeds};

use super::{add, remove, with_members};

const N_IDS: usize = 6;
const N_NETWORKS: usize = 3;
/// In place of the life that a frame is for: all.
const EVERYBODY: u64 = 0xff_ffff;

/// One owner of an id.
struct Life {
    id: PortId,
    network: u16,
    mac: [u8; 6],
    ends: MemPort,
    can_hold: bool,
}

/// A switch whose ids go from one owner to the next, each in another network than the one before.
struct World {
    rig: Rig,
    dice: Dice,
    lives: Vec<Life>,
    /// By id: its owner.
    owners: Vec<usize>,
    n_frames: u64,
    /// Counted of owners that are gone.
    n_forwarded: u64,
    n_sent: u64,
    n_queued: u64,
    n_port_down: u64,
    n_received: u64,
}

impl World {
    fn new(n_cores: usize, seed: u64) -> Self {
        let members = vec![Vec::new(); N_NETWORKS];
        let mut world = Self {
            rig: Rig::with_room(n_cores, N_IDS, with_members(&members), 1 << 10),
            dice: Dice::new(seed),
            lives: Vec::new(),
            owners: Vec::new(),
            n_frames: 0,
            n_forwarded: 0,
            n_sent: 0,
            n_queued: 0,
            n_port_down: 0,
            n_received: 0,
        };
        for id in 0..N_IDS {
            world.owners.push(usize::MAX);
            world.be_born(id as PortId, (id % N_NETWORKS) as u16, None);
        }
        world
    }

    fn set_networks(&mut self) {
        let mut members = vec![Vec::new(); N_NETWORKS];
        for &life in self.owners.iter().filter(|&&life| life != usize::MAX) {
            let life = &self.lives[life];
            members[usize::from(life.network)].push(life.id);
        }
        self.rig.cores.set_networks(&with_members(&members));
    }

    fn be_born(&mut self, id: PortId, network: u16, former_mac: Option<[u8; 6]>) {
        let n = self.lives.len();
        let own = mac(n as u16 + 1);
        let mac = former_mac
            .filter(|_| self.dice.below(3) == 0)
            .unwrap_or(own);
        let can_hold = self.dice.below(3) > 0;
        let ends = MemPort::new(if self.dice.below(3) == 0 { 8 } else { 1 << 20 }, can_hold);
        let source = match self.dice.below(4) {
            0 => SourcePolicy::Fixed(mac),
            1 => SourcePolicy::Sticky,
            2 => SourcePolicy::Learn(3),
            _ => SourcePolicy::Any(100),
        };
        if self.dice.below(2) == 0 {
            let queue = Some(QueueOptions {
                time: 20 * MS,
                bytes_max: 1 << 18,
            });
            let to_vm = LimitOptions {
                bits_per_sec: Some(20_000_000),
                burst_bytes: Some(3000),
                queue: queue.filter(|_| self.dice.below(4) > 0),
                ..NO_LIMIT
            };
            self.rig.limit(&[id], NO_LIMIT, to_vm);
        }
        self.lives.push(Life {
            id,
            network,
            mac,
            ends: ends.clone(),
            can_hold,
        });
        self.owners[usize::from(id)] = n;
        let ingress = Ingress {
            source,
            ..rig::ingress(id, network, source)
        };
        // Members first, so that it misses no flood; or last, so that it is up before.
        let is_member_first = self.dice.below(2) == 0;
        if is_member_first {
            self.set_networks();
        }
        add(&mut self.rig, ingress, &ends);
        self.assert_is_new(id, mac);
        if !is_member_first {
            // What floods meanwhile does not reach it, least of all in the former owner's network.
            if n >= N_IDS {
                self.send_some(10);
                (0..3).for_each(|_| self.turn());
            }
            self.set_networks();
        }
    }

    /// What can be read of an id is that of a port that has done nothing.
    fn assert_is_new(&self, id: PortId, mac: [u8; 6]) {
        let cores = &self.rig.cores;
        assert_eq!(cores.counters(id), Counters::default(), "id {id}");
        assert!(cores.stopped(id).is_empty() && cores.page_waits(id) == 0);
        assert_eq!(cores.long_calls(id), (0, false));
        assert!(cores.flows().by_port.iter().all(|&(port, _)| port != id));
        assert!(cores.macs().pins().iter().all(|&(port, _, _)| port != id));
        assert_eq!(
            cores.macs().moves(id),
            flowtable::mac::owner::Moves::default()
        );
        let rows = cores.macs().rows();
        let mut own = rows.iter().filter(|row| row.port == id);
        assert!(own.all(|row| row.mac == mac), "id {id}: {rows:?}");
    }

    /// The owner of an id goes, and another one comes, in another network.
    fn replace(&mut self, id: PortId) {
        let former = self.owners[usize::from(id)];
        self.rig.cores.start_down(id);
        let mut n_turns = 0;
        while self.rig.cores.try_finish_down(id).is_none() {
            self.send_some(3);
            self.turn();
            n_turns += 1;
            assert!(n_turns < 1000);
        }
        let counters = self.rig.counters(id);
        assert!(counters.is_balanced() && counters.held == 0, "{counters:?}");
        self.n_forwarded += counters.forwarded;
        self.n_sent += counters.tx_frames;
        self.n_queued += counters.queued;
        self.n_port_down += counters.drops[DropReason::PortDown.index()];
        self.receive(former);
        self.owners[usize::from(id)] = usize::MAX;
        // Without being told, the cores take it out of its network.
        if self.dice.below(2) == 0 {
            self.set_networks();
        }
        let n_before = self.lives[former].ends.n_waiting();
        let (dice, lives, owners) = (&mut self.dice, &self.lives, &self.owners);
        let n_frames = &mut self.n_frames;
        remove(&mut self.rig, id, |_| {
            send_some(dice, lives, owners, n_frames, 2);
        });
        assert_eq!(self.rig.counters(id), Counters::default());
        assert_eq!(self.lives[former].ends.n_waiting(), n_before, "it sent on");
        assert!(
            self.lives[former].ends.receive().is_none(),
            "it gets frames"
        );
        let network = self.lives[former].network as usize;
        let next = (network + 1 + self.dice.below(N_NETWORKS - 1)) % N_NETWORKS;
        let former_mac = self.lives[former].mac;
        self.be_born(id, next as u16, Some(former_mac));
    }

    fn send_some(&mut self, n: usize) {
        send_some(
            &mut self.dice,
            &self.lives,
            &self.owners,
            &mut self.n_frames,
            n,
        );
    }

    fn turn(&mut self) {
        if self.dice.below(20) == 0 {
            self.rig.step_together(&[0, 1]);
        } else {
            self.rig.step();
        }
    }

    /// All that arrived at a life is of its own network.
    fn receive(&mut self, life: usize) {
        let Life {
            network, ends, id, ..
        } = &self.lives[life];
        while let Some(bytes) = ends.receive() {
            let frame_id = id_of(&bytes);
            let (from, to) = ((frame_id >> 40) as usize, frame_id >> 16 & EVERYBODY);
            assert_eq!(
                self.lives[from].network, *network,
                "life {life} of id {id} got a frame of life {from} for {to}"
            );
            self.n_received += 1;
        }
    }

    fn receive_some(&mut self) {
        for life in self.owners.clone() {
            // Some are slow, so that frames wait for them.
            if self.dice.below(3) > 0 {
                self.receive(life);
            }
        }
    }

    fn assert_addresses_are_their_owners(&self) {
        for row in self.rig.cores.macs().rows() {
            let life = &self.lives[self.owners[usize::from(row.port)]];
            assert_eq!((row.network, row.mac), (life.network, life.mac), "{row:?}");
        }
    }

    fn run(&mut self, n_steps: usize) {
        for step in 0..n_steps {
            let n = 1 + self.dice.below(12);
            self.send_some(n);
            self.turn();
            self.receive_some();
            if self.dice.below(4) == 0 {
                let id = self.dice.below(N_IDS) as PortId;
                self.replace(id);
            }
            if step % 64 == 0 {
                self.assert_addresses_are_their_owners();
            }
        }
    }

    fn finish(mut self) -> (u64, u64, u64, usize) {
        for _ in 0..100_000 {
            for life in self.owners.clone() {
                self.receive(life);
            }
            let n_held: u64 = (0..N_IDS as PortId)
                .map(|id| self.rig.counters(id).held)
                .sum();
            if self.rig.step() == 0 && n_held == 0 {
                break;
            }
        }
        let all: Vec<Counters> = (0..N_IDS as PortId)
            .map(|id| self.rig.counters(id))
            .collect();
        assert!(all.iter().all(Counters::is_balanced), "{all:?}");
        let sum = |of: fn(&Counters) -> u64| all.iter().map(of).sum::<u64>();
        assert_eq!(
            self.n_forwarded + sum(|c| c.forwarded),
            self.n_sent + sum(|c| c.tx_frames)
        );
        (
            self.n_received,
            self.n_queued,
            self.n_port_down,
            self.lives.len(),
        )
    }
}

/// Owners of ids send to lives of now and of before, and to all.
fn send_some(dice: &mut Dice, lives: &[Life], owners: &[usize], n_frames: &mut u64, n: usize) {
    for _ in 0..n {
        let from = owners[dice.below(owners.len())];
        let Some(sender) = lives
            .get(from)
            .filter(|sender| sender.ends.n_waiting() < 200)
        else {
            continue;
        };
        let recent = lives.len().saturating_sub(12);
        let to = recent + dice.below(lives.len() - recent);
        let (dst, to) = if dice.below(5) == 0 {
            (ALL, EVERYBODY)
        } else {
            (lives[to].mac, to as u64)
        };
        let len = if sender.can_hold {
            60 + dice.below(1400)
        } else {
            100
        };
        *n_frames += 1;
        let id = (from as u64) << 40 | to << 16 | (*n_frames & 0xffff);
        sender.ends.send(&frame(dst, sender.mac, id, len));
    }
}

/// Ten thousand steps of sending, and a port replaced at every fourth, on one core and on two:
/// nothing of a former owner's reaches the next one, nor is there anything to be read of it.
#[test]
fn nothing_of_a_former_owner_reaches_the_next() {
    let (n_seeds, n_steps) = if cfg!(miri) { (1, 20) } else { (4, 2500) };
    for seed in seeds(0..n_seeds) {
        let mut world = World::new(2, seed);
        world.run(n_steps);
        let (n_received, n_queued, n_port_down, n_lives) = world.finish();
        assert!(
            cfg!(miri)
                || n_received > 5_000 && n_queued > 100 && n_port_down > 100 && n_lives > 400,
            "{n_received} received, {n_queued} queued, {n_port_down} dropped, {n_lives} lives"
        );
    }
}
