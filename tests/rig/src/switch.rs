//! The switch itself: its cores, its clock, its guests.

use std::sync::Arc;

use flowtable::{DropReason, Networks, PortId, SourcePolicy};
use guest::{GuestDriver, Options};
use pmd::control::{CoresOptions, PortDown};
use pmd::poll::Turn;
use pmd::shm::GuestMemory;
use pmd::stats::Counters;
use pmd::time::Nanos;
use pmd::{Core, Cores};

use crate::frames::{ALL, frame, id_of, mac};
use crate::networks::networks;
use crate::ports::{ANY, ingress, memory_of, options, port_in, port_with};

/// Virtual time that one step takes.
pub const STEP: Nanos = 10_000;

/// The switch, its clock and its guests.
pub struct Rig {
    /// Control's side.
    pub cores: Cores,
    pub(crate) pollers: Vec<Core>,
    /// Virtual time.
    pub now: Nanos,
    /// By port.
    pub guests: Vec<GuestDriver>,
    n_ports: usize,
}

impl Rig {
    /// A switch with `n_cores` cores and no port up yet; ids below `n_ports`.
    pub fn new(n_cores: usize, n_ports: usize, networks: Arc<Networks>) -> Self {
        Self::with_room(n_cores, n_ports, networks, 1 << 12)
    }

    /// The same with room for so many flows and addresses: a small switch is made sooner.
    pub fn with_room(
        n_cores: usize,
        n_ports: usize,
        networks: Arc<Networks>,
        n_flows: usize,
    ) -> Self {
        let options = CoresOptions {
            n_cores,
            n_ports,
            n_flows,
            n_macs: n_flows,
            networks,
            seeds: [1, 2],
        };
        let (cores, mut pollers) = Cores::new(&options).expect("eventfds");
        pollers.iter_mut().for_each(Core::make_room);
        Self {
            cores,
            pollers,
            now: 0,
            guests: Vec::new(),
            n_ports,
        }
    }

    /// Has page faults of the cores, which run on this thread, bounded as in a running switch.
    pub fn bound_page_faults(&mut self) {
        self.pollers.iter_mut().for_each(Core::bound_page_faults);
    }

    /// One core, one network of `n` guests with any addresses.
    pub fn simple(n: usize, options: &Options) -> Self {
        let members: Vec<PortId> = (0..n as PortId).collect();
        let mut rig = Self::new(1, n, networks(&[&members]));
        rig.plug_all(n, options);
        rig
    }

    /// Plugs `n` guests with any addresses into the first network.
    pub fn plug_all(&mut self, n: usize, options: &Options) {
        for _ in 0..n {
            self.plug(0, ANY, options.clone());
        }
    }

    /// Plugs guests with any addresses into the first network, whose receive rings are so long.
    pub fn plug_rx_rings(&mut self, rx_rings: impl IntoIterator<Item = u16>) {
        for rx_ring in rx_rings {
            let options = Options {
                rx_ring,
                ..options()
            };
            self.plug(0, ANY, options);
        }
    }

    /// Plugs a guest into the next port, all receive buffers posted.
    pub fn plug(&mut self, network: u16, source: SourcePolicy, options: Options) -> PortId {
        let port = self.guests.len() as PortId;
        let mut guest = GuestDriver::new(options).expect("memory");
        (0..usize::from(guest.options().n_queue_pairs)).for_each(|pair| {
            guest.post_rx(pair);
        });
        self.guests.push(guest);
        self.up(port, network, source);
        self.step();
        port
    }

    /// Brings a plugged guest's port up, as its front-end would.
    pub fn up(&mut self, port: PortId, network: u16, source: SourcePolicy) {
        let memory = Arc::new(memory_of(&self.guests[usize::from(port)]));
        self.up_in(port, network, source, &memory);
    }

    /// The same with this mapping of its memory.
    pub fn up_in(
        &mut self,
        port: PortId,
        network: u16,
        source: SourcePolicy,
        memory: &Arc<GuestMemory>,
    ) {
        let guest = &self.guests[usize::from(port)];
        let up = port_in(memory, guest, ingress(port, network, source));
        self.cores.up(up);
    }

    /// Takes a guest's port down and brings it up again as its front-end would that has disabled
    /// its transmit queues, or not.
    pub fn set_disabled(
        &mut self,
        port: PortId,
        network: u16,
        source: SourcePolicy,
        are_disabled: bool,
    ) {
        self.down(port);
        let guest = &self.guests[usize::from(port)];
        let memory = Arc::new(memory_of(guest));
        let ingress = ingress(port, network, source);
        self.cores.up(port_with(&memory, guest, ingress, |queue| {
            queue.discards = are_disabled;
        }));
        self.step();
    }

    /// Takes a port down, turning the cores meanwhile.
    pub fn down(&mut self, port: PortId) -> PortDown {
        self.cores.start_down(port);
        for _ in 0..1000 {
            self.step();
            if let Some(down) = self.cores.try_finish_down(port) {
                return down;
            }
        }
        panic!("port {port} did not go down");
    }

    /// One turn of every core; frames dealt with.
    pub fn step(&mut self) -> usize {
        self.now += STEP;
        let now = self.now;
        self.pollers
            .iter_mut()
            .map(|core| core.poll_once(now).n_frames)
            .sum()
    }

    /// One turn of some cores, each on a thread of its own; the others sleep. Gives what each turn
    /// came to.
    pub fn step_together(&mut self, awake: &[usize]) -> Vec<Turn> {
        self.now += STEP;
        let now = self.now;
        let cores = self
            .pollers
            .iter_mut()
            .enumerate()
            .filter(|(idx, _)| awake.contains(idx));
        std::thread::scope(|scope| {
            let turns: Vec<_> = cores
                .map(|(_, core)| scope.spawn(move || core.poll_once(now)))
                .collect();
            turns
                .into_iter()
                .map(|turn| turn.join().expect("a turn"))
                .collect()
        })
    }

    /// One turn of `core` on a thread of its own, which something holds up in the midst of a burst,
    /// as `is_in` says; then `n_turns` of each other core; then `let_go` lets the first one go on.
    pub fn step_beside(
        &mut self,
        core: usize,
        is_in: impl Fn() -> bool,
        n_turns: u64,
        let_go: impl FnOnce(),
    ) {
        self.now += STEP;
        let now = self.now;
        self.now += n_turns * STEP;
        let (before, rest) = self.pollers.split_at_mut(core);
        let (held_up, after) = rest.split_first_mut().expect("such a core");
        std::thread::scope(|scope| {
            let turn = scope.spawn(move || held_up.poll_once(now));
            while !is_in() {
                assert!(!turn.is_finished(), "nothing held it up");
                std::thread::yield_now();
            }
            for n in 1..=n_turns {
                before
                    .iter_mut()
                    .chain(after.iter_mut())
                    .for_each(|core| _ = core.poll_once(now + n * STEP));
            }
            let_go();
            turn.join().expect("a turn");
        });
    }

    /// Turns until nothing moves any more.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..100_000 {
            quiet = if self.step() == 0 && self.n_held() == 0 {
                quiet + 1
            } else {
                0
            };
            if quiet == 3 {
                return;
            }
        }
        panic!("the switch never came to rest");
    }

    /// Frames that wait in the switch, at the limits of those they are for.
    fn n_held(&self) -> u64 {
        (0..self.n_ports as PortId)
            .map(|port| self.counters(port).held)
            .sum()
    }

    /// Fetches everything that arrived at a port, on all its queues, and offers the buffers again.
    pub fn receive_all(&mut self, port: PortId) -> Vec<Vec<u8>> {
        let guest = &mut self.guests[usize::from(port)];
        let mut frames = Vec::new();
        for pair in 0..usize::from(guest.options().n_queue_pairs) {
            while let Some(frame) = guest.recv(pair) {
                frames.push(frame);
            }
            guest.post_rx(pair);
            guest.reclaim_tx(pair);
        }
        frames
    }

    /// Which frames arrived at a port, in order, none of them changed.
    pub fn receive_ids(&mut self, port: PortId) -> Vec<u64> {
        let frames = self.receive_all(port);
        frames.iter().map(|frame| id_of(frame)).collect()
    }

    /// Fetches what arrived at the guests of these ports, and forgets it.
    pub fn drain(&mut self, ports: impl IntoIterator<Item = PortId>) {
        ports
            .into_iter()
            .for_each(|port| drop(self.receive_all(port)));
    }

    /// The guests of these ports say who they are, one after another, and forget what came of it.
    pub fn introduce(&mut self, ports: impl IntoIterator<Item = PortId> + Clone) {
        for port in ports.clone() {
            let hello = frame(ALL, mac(port), 0, 60);
            assert!(self.guests[usize::from(port)].send(0, &hello));
            self.settle();
            self.drain(ports.clone());
        }
    }

    /// Frames from a port that were dropped for this reason.
    pub fn drops(&self, port: PortId, reason: DropReason) -> u64 {
        self.counters(port).drops[reason.index()]
    }

    /// A port's counters.
    pub fn counters(&self, port: PortId) -> Counters {
        self.cores.counters(port)
    }

    /// Every frame that was ever taken is in one counter, and nothing in any guest's memory was
    /// changed that must not be.
    pub fn assert_balanced(&self) {
        self.assert_counted();
        for guest in &self.guests {
            guest.assert_intact();
        }
    }

    /// Every frame that was ever taken is in one counter.
    pub fn assert_counted(&self) {
        let all: Vec<Counters> = (0..self.n_ports as PortId)
            .map(|port| self.counters(port))
            .collect();
        for (port, counters) in all.iter().enumerate() {
            assert!(
                counters.is_balanced(),
                "port {port} is out of balance: {counters:?}"
            );
        }
        let sum = |of: fn(&Counters) -> u64| all.iter().map(of).sum::<u64>();
        assert_eq!(
            sum(|c| c.forwarded),
            sum(|c| c.tx_frames),
            "forwarded and sent differ"
        );
    }
}
