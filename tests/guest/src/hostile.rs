//! A guest that misbehaves: named cases, each a chain, an index or a header that breaks the rules,
//! and what the switch should answer. Works on a [`GuestDriver`] in memory as well as behind a
//! socket. Row names (S1, Q4, N2, ...) are those of the threat table that the tests follow.
//!
//! ```
//! use guest::hostile::{Attack, FAULTS};
//! use guest::{GuestDriver, Options};
//!
//! for fault in FAULTS {
//!     let mut driver = GuestDriver::new(Options::default()).unwrap();
//!     // A frame that the switch would deliver.
//!     let frame = [0x02; 64];
//!     let mut attack = Attack::new(&mut driver, 0, &frame);
//!     if attack.run(fault) {
//!         // Let the switch run, then compare with `fault.grade`, `attack.n_chains()` and
//!         // `driver.vring_base(attack.vring())`.
//!     }
//! }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::driver::GuestDriver;
use crate::memory::GuestMemory;
use crate::options::Indirect;
use crate::ring::{Desc, INDIRECT, NEXT, NO_NOTIFY, WRITE};

mod cases;
mod frames;
mod inject;

pub use cases::FAULTS;
pub use frames::odd_frames;

/// What the switch should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// It's odd, and valid: every chain comes back, and the frame is delivered.
    Works,
    /// Every chain comes back, and nothing is delivered; the drops are counted.
    DropChain,
    /// Every chain comes back; whether something is delivered is the switch's choice.
    Harmless,
    /// The queue isn't served any more until it is set up again. Nothing is delivered from the
    /// fault on.
    StopQueue,
}

/// A named way to misbehave.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Row of the threat table.
    pub row: &'static str,
    /// The case in words.
    pub name: &'static str,
    /// What the switch should answer.
    pub grade: Grade,
    /// Does it; false if it doesn't apply to this guest (no indirect descriptors, ring too small,
    /// ...).
    inject: fn(&mut Attack<'_>) -> bool,
}

/// One case under way on one queue pair.
#[derive(Debug)]
pub struct Attack<'a> {
    driver: &'a mut GuestDriver,
    pair: usize,
    vring: usize,
    /// Header of zeros and frame lie here, tables behind.
    at: u64,
    frame: Vec<u8>,
    n_chains: usize,
    spoilt: bool,
    flipper: Option<Flipper>,
}

impl<'a> Attack<'a> {
    /// Prepares an attack from `pair`, with a `frame` that would be delivered if all were well.
    /// Cases about receive buffers want a pair whose receive buffers aren't posted; they do nothing
    /// before a frame comes for this guest.
    pub fn new(driver: &'a mut GuestDriver, pair: usize, frame: &[u8]) -> Self {
        let at = driver.scratch().next_multiple_of(16);
        let bytes = [vec![0; driver.options().header_bytes()], frame.to_vec()].concat();
        assert!(
            bytes.len() as u64 <= TABLES_AT,
            "a frame of {} bytes",
            frame.len()
        );
        driver.memory().write(at, &bytes);
        let (vring, frame) = (2 * pair + 1, frame.to_vec());
        Self {
            driver,
            pair,
            vring,
            at,
            frame,
            n_chains: 0,
            spoilt: false,
            flipper: None,
        }
    }

    /// Misbehaves. False if the case doesn't apply to this guest: nothing was done then.
    pub fn run(&mut self, fault: &Fault) -> bool {
        (fault.inject)(self)
    }

    /// The virtqueue that is attacked: transmit, but for cases about receive buffers.
    pub fn vring(&self) -> usize {
        self.vring
    }

    /// Chains that the switch should return, by its used index, unless it stops the queue.
    pub fn n_chains(&self) -> usize {
        self.n_chains
    }

    /// Whether the driver's own bookkeeping doesn't hold any more: only `reset_vring` helps, with
    /// the queue set up again.
    pub fn is_spoilt(&self) -> bool {
        self.spoilt
    }

    /// The thread that keeps changing memory, if the case has one; it ends when dropped.
    pub fn take_flipper(&mut self) -> Option<Flipper> {
        self.flipper.take()
    }

    fn size(&self) -> u16 {
        self.driver.vring_size(self.vring)
    }

    /// Header and frame.
    fn whole(&self) -> u32 {
        u32::try_from(self.driver.options().header_bytes() + self.frame.len()).expect("a frame")
    }

    fn has_tables(&self) -> bool {
        self.driver.options().indirect != Indirect::Off
    }

    /// A chain of `n` descriptors of which `make` knows the ids.
    fn raw(&mut self, n: usize, make: impl FnOnce(&[u16]) -> Vec<Desc>) -> bool {
        let ring = self.driver.ring(self.vring);
        let done = ring.add_raw(n, make);
        ring.publish();
        self.n_chains += usize::from(done);
        done
    }

    /// A chain of descriptors linked in order, of (address, length, flags).
    fn chain(&mut self, parts: &[(u64, u32, u16)]) -> bool {
        self.raw(parts.len(), |ids| linked(parts, |i| ids[i]))
    }

    /// A table at the place for tables, and a chain of one descriptor that points to it.
    fn table(&mut self, entries: &[Desc], len: u32, flags: u16) -> bool {
        if !self.has_tables() {
            return false;
        }
        let table = self.at + TABLES_AT;
        self.write_table(table, entries);
        self.raw(1, |_| {
            vec![Desc {
                addr: table,
                len,
                flags: INDIRECT | flags,
                next: 0,
            }]
        })
    }

    fn write_table(&self, gpa: u64, entries: &[Desc]) {
        let bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_bytes()).collect();
        self.driver.memory().write(gpa, &bytes);
    }

    /// The frame behind this header.
    fn with_header(&mut self, header: crate::NetHeader) -> bool {
        let n = self.driver.options().header_bytes();
        self.driver.memory().write(self.at, &header.to_bytes()[..n]);
        let (at, whole) = (self.at, self.whole());
        self.chain(&[(at, whole, 0)])
    }

    /// Another frame, behind a header of zeros.
    fn send(&mut self, frame: &[u8]) -> bool {
        let n = self.driver.options().header_bytes();
        self.driver.memory().write(self.at + n as u64, frame);
        let len = u32::try_from(n + frame.len()).expect("a frame");
        let at = self.at;
        self.chain(&[(at, len, 0)])
    }

    /// Shows `avail.idx` as `idx`, whatever is there.
    fn show_avail(&mut self, idx: u16) -> bool {
        let at = self.driver.vring_gpa(self.vring).avail;
        self.driver.memory().store_u16(at + 2, idx);
        self.spoilt = true;
        true
    }

    /// Puts `head` into the next avail slot, past all bookkeeping.
    fn offer_head(&mut self, head: u16) -> bool {
        let at = self.driver.vring_gpa(self.vring).avail;
        let memory = self.driver.memory();
        let idx = memory.load_u16(at + 2);
        memory.store_u16(at + 4 + 2 * u64::from(idx & (self.size() - 1)), head);
        self.show_avail(idx.wrapping_add(1))
    }

    /// Attacks the receive virtqueue instead.
    fn on_receive(&mut self) {
        self.vring = 2 * self.pair;
    }

    fn flip(&mut self, gpa: u64, values: [u8; 2]) {
        self.flipper = Some(Flipper::start(
            self.driver.memory().clone(),
            vec![(gpa, values)],
        ));
    }
}

/// Tables lie here, behind the frame.
const TABLES_AT: u64 = 32 << 10;

fn linked(parts: &[(u64, u32, u16)], id: impl Fn(usize) -> u16) -> Vec<Desc> {
    let last = parts.len() - 1;
    let desc = |(i, &(addr, len, flags)): (usize, &(u64, u32, u16))| {
        let (more, next) = if i < last { (NEXT, id(i + 1)) } else { (0, 0) };
        Desc {
            addr,
            len,
            flags: flags | more,
            next,
        }
    };
    parts.iter().enumerate().map(desc).collect()
}

/// A thread that changes bytes of guest memory back and forth as fast as it can, as another CPU of
/// the guest could.
#[derive(Debug)]
pub struct Flipper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flipper {
    /// Flips each of the bytes between two values until dropped.
    pub fn start(memory: Arc<GuestMemory>, bytes: Vec<(u64, [u8; 2])>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut n = 0;
            while !ended.load(Ordering::Relaxed) {
                for i in 0..2 {
                    bytes
                        .iter()
                        .for_each(|&(gpa, values)| memory.poke(gpa, values[i]));
                }
                n += 1;
            }
            n
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it; how often every byte was flipped.
    pub fn end(mut self) -> u64 {
        self.join()
    }

    fn join(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .map_or(0, |thread| thread.join().unwrap_or(0))
    }
}

impl Drop for Flipper {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    fn run(fault: &Fault, options: Options) -> bool {
        let mut driver = GuestDriver::new(options).unwrap();
        let mut attack = Attack::new(&mut driver, 0, &[2; 64]);
        let applies = attack.run(fault);
        let (vring, n, spoilt) = (attack.vring(), attack.n_chains(), attack.is_spoilt());
        drop(attack);
        if applies && !spoilt {
            assert_eq!(
                driver.ring(vring).n_in_flight(),
                n,
                "{}: {}",
                fault.row,
                fault.name
            );
        }
        driver.reset_vring(vring);
        driver.assert_intact();
        applies
    }

    #[test]
    fn every_fault_applies_to_some_guest_and_can_be_cleared_away() {
        for fault in FAULTS {
            let tables = Options {
                indirect: Indirect::Always,
                event_idx: true,
                ..Options::default()
            };
            let applies = [run(fault, Options::default()), run(fault, tables)];
            assert!(applies.contains(&true), "{}: {}", fault.row, fault.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = FAULTS.iter().map(|f| f.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAULTS.len());
    }

    #[test]
    fn valid_oddities_reach_the_naive_device() {
        let options = Options {
            indirect: Indirect::Always,
            event_idx: true,
            ..Options::default()
        };
        for fault in FAULTS.iter().filter(|f| f.grade == Grade::Works) {
            let mut driver = GuestDriver::new(options.clone()).unwrap();
            let mut device = crate::device::NaiveDevice::new(&driver);
            let mut attack = Attack::new(&mut driver, 0, &[2; 64]);
            if attack.run(fault) {
                for _ in 0..attack.n_chains() {
                    assert_eq!(
                        device.receive(0).unwrap(),
                        [2; 64],
                        "{}: {}",
                        fault.row,
                        fault.name
                    );
                }
            }
        }
    }

    #[test]
    fn flipper_flips_until_it_is_ended() {
        let driver = GuestDriver::new(Options::default()).unwrap();
        let gpa = driver.scratch();
        let flipper = Flipper::start(driver.memory().clone(), vec![(gpa, [1, 2])]);
        while driver.memory().read_vec(gpa, 1)[0] == 0 {
            std::hint::spin_loop();
        }
        assert!(flipper.end() > 0);
    }
}
