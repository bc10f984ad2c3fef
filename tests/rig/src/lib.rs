//! A whole switch in one thread: cores that are stepped by hand on virtual time, and software
//! guests on its ports. No root, no socket, no sleep; everything comes from a seed.
#![deny(unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use flowtable::{Ingress, Network, Networks, PortId, SourcePolicy};
use guest::options::{Backing, Layout};
use guest::ring::Desc;
use guest::{GuestDriver, Options};
use pmd::fleet::{FleetOptions, PortDown, PortUp};
use pmd::poll::Turn;
use pmd::port::mem::MemPort;
use pmd::port::vhost::Features;
use pmd::port::{RxQueue, TxQueue};
use pmd::ring::QueueSpec;
use pmd::shm::own::OwnRegion;
use pmd::shm::{GuestMemory, RegionSpec};
use pmd::stats::Counters;
use pmd::time::Nanos;
use pmd::{Core, Fleet};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Virtual time that one step takes.
pub const STEP: Nanos = 10_000;

/// The switch, its clock and its guests.
pub struct Rig {
    /// Control's side.
    pub fleet: Fleet,
    cores: Vec<Core>,
    /// Virtual time.
    pub now: Nanos,
    /// By port.
    pub guests: Vec<GuestDriver>,
    n_ports: usize,
}

/// Networks by their members; MTU 9,000; tags pass.
pub fn networks(members: &[&[PortId]]) -> Arc<Networks> {
    let network = |members: &&[PortId]| Network {
        members: members.to_vec(),
        frame_max: 9014,
        passes_tags: true,
        ..Network::default()
    };
    Arc::new(Networks {
        networks: members.iter().map(network).collect(),
        ..Networks::default()
    })
}

/// What guests are by default here: memory that can be shared (under Miri, which maps no files, the
/// heap), every check on.
pub fn options() -> Options {
    let backing = if cfg!(miri) {
        Backing::Heap
    } else {
        Backing::Memfd
    };
    Options {
        layout: Layout {
            backing,
            ..Layout::default()
        },
        tx_frame_bytes: 9018,
        ..Options::default()
    }
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
        let options = FleetOptions {
            n_cores,
            n_ports,
            n_flows,
            n_macs: n_flows,
            networks,
            seeds: [1, 2],
        };
        let (fleet, mut cores) = Fleet::new(&options).expect("eventfds");
        cores.iter_mut().for_each(Core::make_room);
        Self {
            fleet,
            cores,
            now: 0,
            guests: Vec::new(),
            n_ports,
        }
    }

    /// Has page faults of the cores, which run on this thread, bounded as in a running switch.
    pub fn bound_page_faults(&mut self) {
        self.cores.iter_mut().for_each(Core::bound_page_faults);
    }

    /// One core, one network of `n` guests with any addresses.
    pub fn simple(n: usize, options: &Options) -> Self {
        let members: Vec<PortId> = (0..n as PortId).collect();
        let mut rig = Self::new(1, n, networks(&[&members]));
        for _ in 0..n {
            rig.plug(0, SourcePolicy::Learn(u32::MAX), options.clone());
        }
        rig
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
        let up = port_in(
            memory,
            guest,
            Ingress {
                port,
                network,
                trunk: None,
                source,
                generation: 1,
            },
        );
        self.fleet.up(up);
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
        let ingress = Ingress {
            port,
            network,
            trunk: None,
            source,
            generation: 1,
        };
        let guest = &self.guests[usize::from(port)];
        self.fleet.up(port_with(
            &Arc::new(memory_of(guest)),
            guest,
            ingress,
            are_disabled,
        ));
        self.step();
    }

    /// Queues of any kind as a port, with any address; `network: None`: it is a trunk, the first
    /// there is.
    pub fn plug_queues(
        &mut self,
        port: PortId,
        network: Option<u16>,
        rxqs: Vec<RxQueue>,
        txqs: Vec<TxQueue>,
    ) {
        let trunk = network.is_none().then_some(0);
        let (network, source) = (network.unwrap_or(u16::MAX), SourcePolicy::Any(u32::MAX));
        self.fleet.up(PortUp {
            ingress: Ingress {
                port,
                network,
                trunk,
                source,
                generation: 1,
            },
            rxqs,
            txqs,
        });
        self.step();
    }

    /// A port in memory, such as a wire, as the next port.
    pub fn plug_mem(&mut self, port: PortId, network: u16, ends: &MemPort) {
        self.plug_queues(
            port,
            Some(network),
            vec![RxQueue::mem(port, ends)],
            vec![TxQueue::mem(ends)],
        );
    }

    /// Takes a port down, turning the cores meanwhile.
    pub fn down(&mut self, port: PortId) -> PortDown {
        self.fleet.start_down(port);
        for _ in 0..1000 {
            self.step();
            if let Some(down) = self.fleet.try_finish_down(port) {
                return down;
            }
        }
        panic!("port {port} did not go down");
    }

    /// One turn of every core; frames dealt with.
    pub fn step(&mut self) -> usize {
        self.now += STEP;
        let now = self.now;
        self.cores
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
            .cores
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
        let (before, rest) = self.cores.split_at_mut(core);
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

    /// A port's counters.
    pub fn counters(&self, port: PortId) -> Counters {
        self.fleet.counters(port)
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

/// A guest's queues, as its front-end would announce them.
pub fn port_of(guest: &GuestDriver, ingress: Ingress) -> PortUp {
    port_in(&Arc::new(memory_of(guest)), guest, ingress)
}

/// The same in this mapping of its memory.
pub fn port_in(memory: &Arc<GuestMemory>, guest: &GuestDriver, ingress: Ingress) -> PortUp {
    port_with(memory, guest, ingress, false)
}

/// The same; `discards`: its transmit queues have been disabled.
fn port_with(
    memory: &Arc<GuestMemory>,
    guest: &GuestDriver,
    ingress: Ingress,
    discards: bool,
) -> PortUp {
    let features = Features::from_bits(guest.options().features());
    let (mut rxqs, mut txqs) = (Vec::new(), Vec::new());
    for vring in 0..guest.n_vrings() {
        let at = guest.vring_uva(vring);
        let spec = QueueSpec {
            index: vring as u16,
            size: guest.vring_size(vring),
            desc: at.desc,
            avail: at.avail,
            used: at.used,
            base: None,
            call: None,
            kick: None,
            err: None,
            discards,
        };
        if vring % 2 == 0 {
            txqs.push(TxQueue::vhost(memory.clone(), &spec, features).expect("ring"));
        } else {
            rxqs.push(RxQueue::vhost(ingress.port, memory.clone(), &spec, features).expect("ring"));
        }
    }
    PortUp {
        ingress,
        rxqs,
        txqs,
    }
}

/// The guest's regions, mapped as the switch maps them; those on the heap as they are.
pub fn memory_of(guest: &GuestDriver) -> GuestMemory {
    let Some(regions) = regions_of(guest) else {
        return heap_of(guest);
    };
    GuestMemory::new(regions).expect("regions that can be mapped")
}

/// The guest's regions, as its front-end would announce them; none: they are on the heap.
pub fn regions_of(guest: &GuestDriver) -> Option<Vec<RegionSpec>> {
    let file = guest.memory().file()?;
    let regions = guest.memory().regions().iter().map(|region| {
        let spec = region.spec();
        RegionSpec {
            guest_addr: spec.gpa,
            user_addr: spec.uva,
            len: spec.len,
            file_offset: spec.file_offset,
            file: file.try_clone().expect("a file"),
        }
    });
    Some(regions.collect())
}

#[allow(unsafe_code)]
fn heap_of(guest: &GuestDriver) -> GuestMemory {
    let own = |region: &guest::memory::Region| {
        let spec = region.spec();
        OwnRegion {
            guest_addr: spec.gpa,
            user_addr: spec.uva,
            len: spec.len,
            host: region.host(),
        }
    };
    let regions: Vec<_> = guest.memory().regions().iter().map(own).collect();
    let owner: Arc<dyn Any + Send + Sync> = guest.memory().clone();
    // SAFETY: the regions live as long as the guest's memory, which `owner` is, and it makes no
    // reference to their bytes.
    unsafe { GuestMemory::of_this_process(&regions, &owner) }.expect("regions that are apart")
}

/// A station's address.
pub fn mac(n: u16) -> [u8; 6] {
    let [hi, lo] = n.to_be_bytes();
    [2, 0, 0, 0, hi, lo]
}

/// The broadcast address.
pub const ALL: [u8; 6] = [0xff; 6];

/// A frame of `len` bytes whose payload says which it is.
pub fn frame(dst: [u8; 6], src: [u8; 6], id: u64, len: usize) -> Vec<u8> {
    let mut bytes = [&dst[..], &src, &[0x88, 0xb5], &id.to_be_bytes()].concat();
    let seed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    bytes.extend(
        seed.iter()
            .cycle()
            .take(len.saturating_sub(bytes.len()))
            .enumerate()
            .map(|(i, b)| b ^ i as u8),
    );
    bytes.truncate(len);
    bytes
}

/// Which frame this is, after checking that every byte is as it was sent.
pub fn id_of(bytes: &[u8]) -> u64 {
    let id = u64::from_be_bytes(std::array::from_fn(|i| bytes[14 + i]));
    let (dst, src) = (
        std::array::from_fn(|i| bytes[i]),
        std::array::from_fn(|i| bytes[6 + i]),
    );
    assert_eq!(
        bytes,
        frame(dst, src, id, bytes.len()),
        "frame {id} was changed on its way"
    );
    id
}

/// Sends a frame in memory that no buffer of the driver's is in, so that it can be rewritten.
pub fn send_raw(guest: &mut GuestDriver, bytes: &[u8]) {
    let (addr, len) = (
        rewrite(guest, bytes),
        (guest.options().header_bytes() + bytes.len()) as u32,
    );
    assert!(guest.ring(1).add_raw(1, |_| vec![Desc {
        addr,
        len,
        flags: 0,
        next: 0
    }]));
    guest.publish(1);
}

/// Writes it there, whether it was sent already or not; gives where that is.
pub fn rewrite(guest: &GuestDriver, bytes: &[u8]) -> u64 {
    let (addr, header) = (guest.scratch(), vec![0; guest.options().header_bytes()]);
    guest.memory().write(addr, &[&header[..], bytes].concat());
    addr
}

/// Seeds of a scenario: all of them, or the one that the variable `SEED` names. Each is printed, so
/// that the output of a failed test ends with its own.
pub fn seeds(all: Range<u64>) -> impl Iterator<Item = u64> {
    let only = std::env::var("SEED").map(|seed| seed.parse().expect("SEED is a number"));
    let range = only.map_or(all, |seed: u64| seed..seed + 1);
    range.inspect(|seed| println!("SEED={seed}"))
}

/// Numbers from a seed (xorshift64*).
pub struct Dice(u64);

impl Dice {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}
