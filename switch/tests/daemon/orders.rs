//! What real front-ends say and in which order, each in its own way, to a daemon that has to serve
//! all of them.
//!
//! The orders are those of the front-ends' sources: QEMU (`hw/virtio/vhost-user.c`,
//! `hw/net/vhost_net.c`, `net/vhost-user.c`), DPDK (`drivers/net/virtio/virtio_user`),
//! cloud-hypervisor (`virtio-devices/src/vhost_user`), crosvm
//! (`devices/src/virtio/vhost_user_frontend`). QEMU's are also as recorded between version 7.2 and
//! weir.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use guest::options::feature;
use guest::raw::{self, Message, request};
use guest::{Backing, GuestDriver, Options, Socket};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::rig::{Daemon, PATIENCE, frame, topology};

/// Acknowledgements.
const REPLY_ACK: u64 = 8;
/// Memory region by region.
const MEM_SLOTS: u64 = 0x8000;
/// Queue pairs.
const MQ: u64 = 1;

/// What tells front-ends apart.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    /// Protocol features that it takes.
    protocol: u64,
    /// Everything about the device is said once for each queue pair, not just what is about its
    /// queues.
    by_pair: bool,
    /// Memory regions too, one message each, as they come and go.
    regions_by_pair: bool,
    /// Rings are enabled before they are set up as well as after.
    enables_first: bool,
    /// Which messages ask for an acknowledgement.
    asks: Asks,
    /// How its rings are stopped.
    stops: Stops,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// Those about memory.
    Memory,
    /// Those, and the enabling of rings.
    MemoryAndEnable,
    /// All.
    Everything,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    /// GET_VRING_BASE, pair by pair.
    Base,
    /// All rings disabled, then GET_VRING_BASE of each.
    DisableAndBase,
    /// All rings disabled, then RESET_OWNER.
    DisableAndResetOwner,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "QEMU 7.2",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: true,
        regions_by_pair: true,
        enables_first: true,
        asks: Asks::Memory,
        stops: Stops::Base,
    },
    Kind {
        name: "QEMU 8.0, memory once",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: true,
        regions_by_pair: false,
        enables_first: true,
        asks: Asks::Memory,
        stops: Stops::Base,
    },
    Kind {
        name: "QEMU 9 and 10",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: true,
        regions_by_pair: false,
        enables_first: true,
        asks: Asks::MemoryAndEnable,
        stops: Stops::Base,
    },
    Kind {
        name: "QEMU 4.2, memory as one table",
        protocol: MQ | REPLY_ACK,
        by_pair: true,
        regions_by_pair: false,
        enables_first: true,
        asks: Asks::Memory,
        stops: Stops::Base,
    },
    Kind {
        name: "DPDK virtio-user",
        protocol: MQ | REPLY_ACK,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Memory,
        stops: Stops::DisableAndBase,
    },
    Kind {
        name: "cloud-hypervisor",
        protocol: MQ | REPLY_ACK | MEM_SLOTS,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Everything,
        stops: Stops::DisableAndBase,
    },
    Kind {
        name: "cloud-hypervisor of old",
        protocol: MQ | REPLY_ACK,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Everything,
        stops: Stops::DisableAndResetOwner,
    },
    Kind {
        name: "crosvm",
        protocol: MQ,
        by_pair: false,
        regions_by_pair: false,
        enables_first: false,
        asks: Asks::Nothing,
        stops: Stops::DisableAndBase,
    },
];

/// A region as messages name it, and its file.
#[derive(Debug)]
struct Region {
    words: [u64; 4],
    file: File,
}

impl Region {
    fn new(gpa: u64, uva: u64, len: u64) -> Self {
        let file = memfd_create("dimm", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len).unwrap();
        Self {
            words: [gpa, len, uva, 0],
            file: file.into(),
        }
    }
}

/// A front-end of some kind and the driver behind it.
struct FrontEnd {
    kind: Kind,
    stream: UnixStream,
    driver: GuestDriver,
    features: u64,
    regions: Vec<Region>,
    /// What was shared so far, as the front-end keeps it in mind: for each queue pair, or for all.
    shared: Vec<Vec<[u64; 4]>>,
}

impl FrontEnd {
    /// Connects and negotiates, with so many queue pairs.
    fn connect(daemon: &Daemon, socket: &str, kind: Kind, n_pairs: u16) -> Self {
        let stream = Socket::Connect(daemon.path(socket)).open(PATIENCE).unwrap();
        let mut options = Options {
            n_queue_pairs: n_pairs,
            rx_ring: 64,
            tx_ring: 64,
            ..Options::default()
        };
        options.layout.backing = Backing::Memfd;
        let mut driver = GuestDriver::new(options).unwrap();
        (0..usize::from(n_pairs)).for_each(|pair| _ = driver.post_rx(pair));
        let file = driver.memory().file().unwrap();
        let region = |region: &guest::memory::Region| {
            let spec = region.spec();
            Region {
                words: [spec.gpa, spec.len, spec.uva, spec.file_offset],
                file: file.try_clone().unwrap(),
            }
        };
        let regions = driver.memory().regions().iter().map(region).collect();
        let features = driver.options().features() | feature::PROTOCOL_FEATURES;
        let n_shared = if kind.regions_by_pair {
            usize::from(n_pairs)
        } else {
            1
        };
        let mut this = Self {
            kind,
            stream,
            driver,
            features,
            regions,
            shared: vec![Vec::new(); n_shared],
        };
        this.negotiate();
        this
    }

    /// Again, as after a crash of the back-end: the driver and its rings are as they were.
    fn reconnect(&mut self, daemon: &Daemon, socket: &str) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        self.stream = Socket::Connect(daemon.path(socket)).open(PATIENCE).unwrap();
        self.shared.iter_mut().for_each(Vec::clear);
        self.negotiate();
    }

    fn n_pairs(&self) -> usize {
        self.driver.n_vrings() / 2
    }

    /// Pairs for which the device is spoken about, each on its own.
    fn device_pairs(&self) -> usize {
        if self.kind.by_pair { self.n_pairs() } else { 1 }
    }

    fn negotiate(&mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for pair in 0..self.device_pairs() {
            if !self.kind.by_pair {
                self.say(Message::new(request::SET_OWNER, &[]));
            }
            let offered = raw::ask_u64(&self.stream, request::GET_FEATURES).unwrap();
            assert_eq!(
                self.features & !offered,
                0,
                "{} wants more than is offered",
                self.kind.name
            );
            let protocol = raw::ask_u64(&self.stream, request::GET_PROTOCOL_FEATURES).unwrap();
            assert_eq!(self.kind.protocol & !protocol, 0);
            self.say(Message::with_u64(
                request::SET_PROTOCOL_FEATURES,
                self.kind.protocol,
            ));
            if pair == 0 {
                assert!(
                    raw::ask_u64(&self.stream, request::GET_QUEUE_NUM).unwrap()
                        >= self.n_pairs() as u64
                );
            }
            if self.kind.protocol & MEM_SLOTS != 0 {
                assert!(raw::ask_u64(&self.stream, request::GET_MAX_MEM_SLOTS).unwrap() >= 8);
            }
            if self.kind.by_pair {
                if pair == 0 {
                    self.say(Message::new(request::SET_OWNER, &[]));
                }
                raw::ask_u64(&self.stream, request::GET_FEATURES).unwrap();
                for queue in 2 * pair..2 * pair + 2 {
                    self.say(Message::with_u64(
                        request::SET_VRING_CALL,
                        queue as u64 | 0x100,
                    ));
                    self.say(Message::with_u64(
                        request::SET_VRING_ERR,
                        queue as u64 | 0x100,
                    ));
                }
            }
        }
        if self.kind.enables_first {
            // The first pair alone, over and over.
            for _ in 0..3 {
                (0..self.driver.n_vrings()).for_each(|queue| self.enable(queue, queue < 2));
            }
        }
    }

    /// The driver is ready: features, memory, rings; all pairs are enabled in the end.
    fn start(&mut self) {
        for pair in 0..self.device_pairs() {
            if self.kind.enables_first && pair == 0 {
                (0..2).for_each(|queue| self.enable(queue, true));
            }
            self.say(Message::with_u64(request::SET_FEATURES, self.features));
            self.share_for(pair);
            let queues = if self.kind.by_pair {
                2 * pair..2 * pair + 2
            } else {
                0..self.driver.n_vrings()
            };
            queues.for_each(|queue| self.set_up(queue));
        }
        (0..self.driver.n_vrings()).for_each(|queue| self.enable(queue, true));
    }

    fn set_up(&mut self, queue: usize) {
        let (at, index) = (self.driver.vring_uva(queue), u32::try_from(queue).unwrap());
        self.say(Message::vring(
            request::SET_VRING_NUM,
            index,
            self.driver.vring_size(queue).into(),
        ));
        self.say(Message::vring(
            request::SET_VRING_BASE,
            index,
            self.driver.vring_base(queue).into(),
        ));
        self.say(Message::vring_addr(index, at.desc, at.used, at.avail));
        self.say(Message::with_u64(
            request::SET_VRING_KICK,
            queue as u64 | 0x100,
        ));
        self.say(Message::with_u64(
            request::SET_VRING_CALL,
            queue as u64 | 0x100,
        ));
    }

    fn enable(&mut self, queue: usize, on: bool) {
        self.say(Message::vring(
            request::SET_VRING_ENABLE,
            u32::try_from(queue).unwrap(),
            on.into(),
        ));
    }

    fn stop(&mut self) {
        let n = self.driver.n_vrings();
        if self.kind.stops != Stops::Base {
            (0..n).for_each(|queue| self.enable(queue, false));
        }
        if self.kind.stops == Stops::DisableAndResetOwner {
            self.say(Message::new(4, &[]));
            return;
        }
        for queue in 0..n {
            Message::vring(request::GET_VRING_BASE, u32::try_from(queue).unwrap(), 0)
                .send(&self.stream)
                .unwrap();
            let (answered, body) = raw::read_reply(&self.stream).unwrap();
            assert_eq!(answered, request::GET_VRING_BASE);
            assert_eq!(
                body[4..6],
                self.driver.vring_base(queue).to_le_bytes(),
                "{} queue {queue}",
                self.kind.name
            );
        }
    }

    /// The memory has changed: everybody who keeps it in mind says so, one after the other.
    fn share(&mut self) {
        (0..self.device_pairs()).for_each(|pair| self.share_for(pair));
    }

    fn share_for(&mut self, pair: usize) {
        if pair >= self.shared.len() {
            return;
        }
        if self.kind.protocol & MEM_SLOTS == 0 {
            let table: Vec<_> = self
                .regions
                .iter()
                .map(|region| (region.words, region.file.as_raw_fd()))
                .collect();
            self.say(Message::mem_table(
                u32::try_from(table.len()).unwrap(),
                &table,
            ));
            return;
        }
        let wanted: Vec<_> = self.regions.iter().map(|region| region.words).collect();
        for words in std::mem::take(&mut self.shared[pair]).into_iter().rev() {
            if wanted.contains(&words) {
                self.shared[pair].insert(0, words);
            } else {
                // With a file that means nothing, and without its offset, as QEMU sends it.
                let fd = self.driver.memory().file().unwrap().as_raw_fd();
                self.say(Message::mem_region(
                    request::REM_MEM_REG,
                    [words[0], words[1], words[2], 0],
                    Some(fd),
                ));
            }
        }
        for at in 0..self.regions.len() {
            let (words, fd) = (self.regions[at].words, self.regions[at].file.as_raw_fd());
            if !self.shared[pair].contains(&words) {
                self.add(words, fd);
                self.shared[pair].push(words);
            }
        }
    }

    fn add(&mut self, words: [u64; 4], fd: RawFd) {
        self.say(Message::mem_region(request::ADD_MEM_REG, words, Some(fd)));
    }

    /// Sends, and sees that it is acknowledged where this kind of front-end asks for that.
    fn say(&mut self, message: Message) {
        let is_memory = matches!(
            message.request,
            request::SET_MEM_TABLE | request::ADD_MEM_REG | request::REM_MEM_REG
        );
        let is_enable = message.request == request::SET_VRING_ENABLE;
        let asks = self.kind.protocol & REPLY_ACK != 0
            && match self.kind.asks {
                Asks::Memory => is_memory,
                Asks::MemoryAndEnable => is_memory || is_enable,
                // The crate's front-end asks once the protocol features are agreed upon.
                Asks::Everything => !matches!(
                    message.request,
                    request::SET_OWNER | request::SET_PROTOCOL_FEATURES
                ),
                Asks::Nothing => false,
            };
        let number = message.request;
        message.need_reply(asks).send(&self.stream).unwrap();
        if asks {
            let (answered, body) = raw::read_reply(&self.stream).unwrap();
            assert_eq!(
                (answered, body),
                (number, vec![0; 8]),
                "{}: refused",
                self.kind.name
            );
        }
    }
}

/// A frame by each pair of `from` arrives whole, by whatever pair of the other.
fn exchange(from: (u8, &mut GuestDriver), to: (u8, &mut GuestDriver), seed: &mut u64, what: &str) {
    for pair in 0..from.1.n_vrings() / 2 {
        *seed += 1;
        let sent = frame(from.0, to.0, 700, *seed);
        assert!(from.1.send(pair, &sent), "{what}: no room in pair {pair}");
        let begin = Instant::now();
        loop {
            from.1.reclaim_tx(pair);
            let got = (0..to.1.n_vrings() / 2).find_map(|pair| {
                let got = to.1.recv(pair);
                to.1.post_rx(pair);
                got
            });
            match got {
                Some(got) if got == sent => break,
                Some(_) => {}
                None => assert!(
                    begin.elapsed() < PATIENCE,
                    "{what}: pair {pair} carries nothing"
                ),
            }
            std::thread::yield_now();
        }
    }
}

fn until_all_run(daemon: &mut Daemon, port: &str, front_end: &FrontEnd) {
    let n = front_end.driver.n_vrings();
    daemon.until("every queue runs", |daemon| {
        let port = daemon.port(port);
        port["queues"]
            .as_array()
            .is_some_and(|all| all.iter().take(n).filter(|q| q["state"] == "runs").count() == n)
    });
}

/// Everything that a front-end lives through, beside one that stays as it is.
fn live(kind: Kind, n_pairs: u16) {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let mut a = FrontEnd::connect(&daemon, "a.sock", kind, n_pairs);
    let mut b = FrontEnd::connect(&daemon, "b.sock", KINDS[2], 2);
    a.start();
    b.start();
    daemon.until_state("b/net0", "up");
    let mut seed = 0;
    let mut both_ways = |daemon: &mut Daemon, a: &mut FrontEnd, b: &mut FrontEnd, what: &str| {
        let what = format!("{}, {n_pairs} pairs, {what}", kind.name);
        daemon.until_state("a/net0", "up");
        // Each queue that is still to be started takes its port down for a moment.
        until_all_run(daemon, "a/net0", a);
        until_all_run(daemon, "b/net0", b);
        // What had been on its way while the port was down may be lost; what is sent from here on
        // may not.
        exchange((1, &mut a.driver), (2, &mut b.driver), &mut seed, &what);
        exchange((2, &mut b.driver), (1, &mut a.driver), &mut seed, &what);
        let port = daemon.port("a/net0");
        assert!(
            port["connection"]["refusal"].is_null(),
            "{what}: {}\n{}",
            port["connection"],
            daemon.log()
        );
        assert_eq!(
            port["connection"]["memory_regions"],
            a.regions.len(),
            "{what}"
        );
        assert!(
            port["queues"]
                .as_array()
                .unwrap()
                .iter()
                .take(a.driver.n_vrings())
                .all(|q| q["state"] == "runs")
        );
    };
    both_ways(&mut daemon, &mut a, &mut b, "started");
    // A module of memory is plugged in, gives way to a longer one at the same place, and that to
    // two others.
    let (gpa, uva, len) = (0x7000_0000_0000, 0x7100_0000_0000, 1 << 20);
    a.regions.push(Region::new(gpa, uva, len));
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "plugged");
    a.regions.pop();
    a.regions.push(Region::new(gpa, uva, 2 * len));
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "replaced by a longer one");
    a.regions.pop();
    a.regions.push(Region::new(gpa + len, uva + len, len));
    a.regions.push(Region::new(gpa, uva, len / 2));
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "replaced by two");
    a.regions.truncate(a.regions.len() - 2);
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "unplugged");
    // What the rings lie in goes, and comes back.
    let all = std::mem::take(&mut a.regions);
    if kind.protocol & MEM_SLOTS != 0 {
        a.share();
    }
    a.regions = all;
    a.share();
    both_ways(&mut daemon, &mut a, &mut b, "all memory exchanged");
    a.stop();
    daemon.until_state("a/net0", "connected");
    a.start();
    both_ways(&mut daemon, &mut a, &mut b, "stopped and started");
    a.reconnect(&daemon, "a.sock");
    a.start();
    both_ways(&mut daemon, &mut a, &mut b, "connected again");
    a.driver.assert_intact();
    b.driver.assert_intact();
    assert_eq!(
        daemon.dropped("a/net0", "queue-disabled"),
        0,
        "{}",
        kind.name
    );
}

#[test]
fn front_end_of_every_kind_and_number_of_queues_lives_through_everything() {
    for &kind in KINDS {
        for n_pairs in [1, 2, 4, 8] {
            live(kind, n_pairs);
        }
    }
}

/// A queue pair that a guest gives up: what is left in its transmit ring is dropped, and so is what
/// comes after; what comes before a pair is first enabled waits for that.
#[test]
fn what_is_sent_by_a_disabled_queue_is_dropped_and_counted_and_not_delivered_late() {
    let mut daemon = Daemon::start(&topology(&["a", "b"], "weir"));
    let mut a = FrontEnd::connect(&daemon, "a.sock", KINDS[2], 2);
    let mut b = FrontEnd::connect(&daemon, "b.sock", KINDS[2], 1);
    let counter =
        |daemon: &Daemon, name: &str| daemon.port("a/net0")["counters"][name].as_u64().unwrap();
    let disabled = |daemon: &Daemon| daemon.dropped("a/net0", "queue-disabled");
    a.start();
    b.start();
    daemon.until_state("a/net0", "up");
    let mut seed = 0;
    exchange((2, &mut b.driver), (1, &mut a.driver), &mut seed, "hello");
    exchange((1, &mut a.driver), (2, &mut b.driver), &mut seed, "hello");
    let before = counter(&daemon, "rx_frames");
    a.enable(2, false);
    a.enable(3, false);
    (0..40).for_each(|n| assert!(a.driver.send(1, &frame(1, 2, 500, 1000 + n))));
    daemon.until("they are dropped", |daemon| disabled(daemon) == 40);
    assert_eq!(
        counter(&daemon, "rx_frames"),
        before + 40,
        "they count as received"
    );
    daemon.until("their buffers come back", |_| {
        (0..2).for_each(|pair| _ = a.driver.reclaim_tx(pair));
        a.driver.counters().tx_done == 42
    });
    a.enable(2, true);
    a.enable(3, true);
    exchange(
        (1, &mut a.driver),
        (2, &mut b.driver),
        &mut seed,
        "enabled again",
    );
    assert_eq!(disabled(&daemon), 40);
    // Started, and not enabled yet: as after a crash of the switch.
    a.reconnect(&daemon, "a.sock");
    a.kind.enables_first = false;
    let n_vrings = a.driver.n_vrings();
    a.say(Message::with_u64(request::SET_FEATURES, a.features));
    a.share();
    (0..n_vrings).for_each(|queue| a.set_up(queue));
    (2..4).for_each(|queue| a.enable(queue, false));
    let waiting: Vec<_> = (0..40).map(|n| frame(1, 2, 500, 2000 + n)).collect();
    waiting
        .iter()
        .for_each(|frame| assert!(a.driver.send(1, frame)));
    (0..2).for_each(|queue| a.enable(queue, true));
    exchange(
        (2, &mut b.driver),
        (1, &mut a.driver),
        &mut seed,
        "the first pair runs",
    );
    (2..4).for_each(|queue| a.enable(queue, true));
    for expected in &waiting {
        let begin = Instant::now();
        let got =
            std::iter::repeat_with(|| (b.driver.recv(0), b.driver.post_rx(0)).0).find_map(|got| {
                assert!(begin.elapsed() < PATIENCE, "what waited is not delivered");
                got
            });
        assert_eq!(got.as_ref(), Some(expected));
    }
    assert_eq!(
        disabled(&daemon),
        40,
        "of those that waited none was dropped"
    );
}
