//! A front-end of some kind and the driver behind it.

use super::kinds::{Asks, MEM_SLOTS, REPLY_ACK, Stops};
use super::*;

/// A region as messages name it, and its file.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) words: [u64; 4],
    pub(super) file: File,
}

impl Region {
    pub(super) fn new(gpa: u64, uva: u64, len: u64) -> Self {
        let file = memfd_create("dimm", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len).unwrap();
        Self {
            words: [gpa, len, uva, 0],
            file: file.into(),
        }
    }
}

/// A front-end of some kind and the driver behind it.
pub(super) struct FrontEnd {
    pub(super) kind: Kind,
    pub(super) stream: UnixStream,
    pub(super) driver: GuestDriver,
    pub(super) features: u64,
    pub(super) regions: Vec<Region>,
    /// What was shared so far, as the front-end keeps it in mind: for each queue pair, or for all.
    pub(super) shared: Vec<Vec<[u64; 4]>>,
}

impl FrontEnd {
    /// Connects and negotiates, with so many queue pairs.
    pub(super) fn connect(daemon: &Daemon, socket: &str, kind: Kind, n_pairs: u16) -> Self {
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
    pub(super) fn reconnect(&mut self, daemon: &Daemon, socket: &str) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
        self.stream = Socket::Connect(daemon.path(socket)).open(PATIENCE).unwrap();
        self.shared.iter_mut().for_each(Vec::clear);
        self.negotiate();
    }

    pub(super) fn n_pairs(&self) -> usize {
        self.driver.n_vrings() / 2
    }

    /// Pairs for which the device is spoken about, each on its own.
    pub(super) fn device_pairs(&self) -> usize {
        if self.kind.by_pair { self.n_pairs() } else { 1 }
    }

    pub(super) fn negotiate(&mut self) {
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
    pub(super) fn start(&mut self) {
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

    pub(super) fn set_up(&mut self, queue: usize) {
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

    pub(super) fn enable(&mut self, queue: usize, on: bool) {
        self.say(Message::vring(
            request::SET_VRING_ENABLE,
            u32::try_from(queue).unwrap(),
            on.into(),
        ));
    }

    pub(super) fn stop(&mut self) {
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
    pub(super) fn share(&mut self) {
        (0..self.device_pairs()).for_each(|pair| self.share_for(pair));
    }

    pub(super) fn share_for(&mut self, pair: usize) {
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

    pub(super) fn add(&mut self, words: [u64; 4], fd: RawFd) {
        self.say(Message::mem_region(request::ADD_MEM_REG, words, Some(fd)));
    }

    /// Sends, and sees that it is acknowledged where this kind of front-end asks for that.
    pub(super) fn say(&mut self, message: Message) {
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
