//! The device's half of the rings, as simple as can be: takes one chain at a time, knows every
//! feature of the driver's half, and makes mistakes when told to. It exists so that the driver is
//! tested by something, and for back-ends in this crate's tests; it is no switch.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::driver::GuestDriver;
use crate::header::HEADER_BYTES;
use crate::memory::{GuestMemory, to_usize};
use crate::options::{Indirect, feature};
use crate::ring::{Desc, INDIRECT, NEXT, NO_NOTIFY, Part, RingAddresses, WRITE, crossed};

/// One virtqueue, from the device's side.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRing {
    /// Entries.
    pub size: u16,
    /// Guest-physical addresses.
    pub at: RingAddresses,
    /// Next entry of the avail ring.
    pub next_avail: u16,
    /// Next entry of the used ring.
    pub next_used: u16,
    /// Used index at the last notification.
    pub signalled: u16,
}

/// A naive device on a guest's memory.
#[derive(Debug)]
pub struct NaiveDevice {
    memory: Arc<GuestMemory>,
    features: u64,
    header_bytes: usize,
    /// By virtqueue index.
    pub rings: Vec<DeviceRing>,
}

impl NaiveDevice {
    /// The other side of `driver`, from index 0 on.
    pub fn new(driver: &GuestDriver) -> Self {
        let options = driver.options();
        let ring = |v| DeviceRing {
            size: driver.vring_size(v),
            at: driver.vring_gpa(v),
            next_avail: 0,
            next_used: 0,
            signalled: 0,
        };
        let rings = (0..driver.n_vrings()).map(ring).collect();
        debug_assert!(
            options.indirect == Indirect::Off || options.features() & feature::INDIRECT_DESC != 0
        );
        Self::from_parts(driver.memory().clone(), options.features(), rings)
    }

    /// A device on memory that was mapped from files.
    pub fn from_parts(memory: Arc<GuestMemory>, features: u64, rings: Vec<DeviceRing>) -> Self {
        let long = features & (feature::VERSION_1 | feature::MRG_RXBUF) != 0;
        Self {
            memory,
            features,
            header_bytes: if long { HEADER_BYTES } else { HEADER_BYTES - 2 },
            rings,
        }
    }

    /// Takes the next frame that the guest sends on a queue pair, and returns its chain as used.
    pub fn receive(&mut self, pair: usize) -> Option<Vec<u8>> {
        let (head, parts) = self.take(2 * pair + 1)?;
        let mut bytes = Vec::new();
        for part in parts.iter().filter(|p| !p.writable) {
            bytes.extend(self.memory.read_vec(part.gpa, part.len as usize));
        }
        self.put_used(2 * pair + 1, head, 0);
        self.publish(2 * pair + 1);
        Some(bytes.split_off(self.header_bytes.min(bytes.len())))
    }

    /// Writes a frame into the guest's next receive buffers. False if there aren't enough: then
    /// nothing was taken.
    pub fn deliver(&mut self, pair: usize, frame: &[u8]) -> bool {
        let (vring, before) = (2 * pair, self.rings[2 * pair]);
        let mergeable = self.features & feature::MRG_RXBUF != 0;
        let mut bytes = vec![0; self.header_bytes];
        bytes.extend_from_slice(frame);
        let mut chains = Vec::new();
        let mut room = 0;
        while room < bytes.len() {
            let chain = if chains.is_empty() || mergeable {
                self.take(vring)
            } else {
                None
            };
            let Some((head, parts)) = chain else {
                self.rings[vring] = before;
                return false;
            };
            room += parts
                .iter()
                .filter(|p| p.writable)
                .map(|p| p.len as usize)
                .sum::<usize>();
            chains.push((head, parts));
        }
        if self.header_bytes == HEADER_BYTES {
            let n = u16::try_from(chains.len()).expect("at most a ring of buffers");
            bytes[10..12].copy_from_slice(&n.to_le_bytes());
        }
        let mut rest = bytes.as_slice();
        for (head, parts) in chains {
            let before = rest.len();
            for part in parts {
                let (now, later) = rest.split_at(rest.len().min(part.len as usize));
                self.memory.write(part.gpa, now);
                rest = later;
            }
            self.put_used(
                vring,
                head,
                u32::try_from(before - rest.len()).expect("a frame"),
            );
        }
        self.publish(vring);
        true
    }

    /// Takes the next available chain: its head and its parts in order.
    pub fn take(&mut self, vring: usize) -> Option<(u16, Vec<Part>)> {
        let ring = &mut self.rings[vring];
        // Acquire in `load_u16`: pairs with the driver's publish.
        if self.memory.load_u16(ring.at.avail + 2) == ring.next_avail {
            return None;
        }
        let slot = ring.next_avail & (ring.size - 1);
        let head = self
            .memory
            .load_u16(ring.at.avail + 4 + 2 * u64::from(slot));
        ring.next_avail = ring.next_avail.wrapping_add(1);
        let (mut table, mut i, mut parts) = (ring.at.desc, head, Vec::new());
        loop {
            let desc = self.desc(table + 16 * u64::from(i));
            if desc.flags & INDIRECT != 0 {
                (table, i) = (desc.addr, 0);
                continue;
            }
            parts.push(Part {
                gpa: desc.addr,
                len: desc.len,
                writable: desc.flags & WRITE != 0,
            });
            assert!(parts.len() <= 32768, "chain {head} has no end");
            if desc.flags & NEXT == 0 {
                return Some((head, parts));
            }
            i = desc.next;
        }
    }

    /// Writes the next used entry, not yet visible.
    pub fn put_used(&mut self, vring: usize, head: u16, len: u32) {
        let ring = &mut self.rings[vring];
        let at = ring.at.used + 4 + 8 * u64::from(ring.next_used & (ring.size - 1));
        self.memory.write(at, &u32::from(head).to_le_bytes());
        self.memory.write(at + 4, &len.to_le_bytes());
        ring.next_used = ring.next_used.wrapping_add(1);
    }

    /// Shows the driver what was used.
    pub fn publish(&mut self, vring: usize) {
        let ring = self.rings[vring];
        self.memory.store_u16(ring.at.used + 2, ring.next_used);
    }

    /// Whether the driver wants a call for what was published since the last time this was asked.
    pub fn call_due(&mut self, vring: usize) -> bool {
        fence(Ordering::SeqCst);
        let ring = &mut self.rings[vring];
        let (old, new) = (ring.signalled, ring.next_used);
        ring.signalled = new;
        if self.features & feature::EVENT_IDX != 0 {
            crossed(
                self.memory
                    .load_u16(ring.at.avail + 4 + 2 * u64::from(ring.size)),
                new,
                old,
            )
        } else {
            new != old && self.memory.load_u16(ring.at.avail) & NO_NOTIFY == 0
        }
    }

    /// Asks for a kick at the next chain, or for none. True if chains wait already.
    pub fn ask_kicks(&mut self, vring: usize, on: bool) -> bool {
        let ring = self.rings[vring];
        if self.features & feature::EVENT_IDX != 0 {
            let event = if on {
                ring.next_avail
            } else {
                ring.next_avail.wrapping_sub(1)
            };
            self.memory
                .store_u16(ring.at.used + 4 + 8 * u64::from(ring.size), event);
        } else {
            self.memory
                .store_u16(ring.at.used, if on { 0 } else { NO_NOTIFY });
        }
        fence(Ordering::SeqCst);
        self.memory.load_u16(ring.at.avail + 2) != ring.next_avail
    }

    fn desc(&self, gpa: u64) -> Desc {
        let bytes = self.memory.read_vec(gpa, 16);
        let word = |from: usize, n: usize| {
            bytes[from..from + n]
                .iter()
                .rev()
                .fold(0, |w, &b| w << 8 | u64::from(b))
        };
        let short = |at| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let len = u32::try_from(word(8, 4)).expect("four bytes");
        debug_assert_eq!(to_usize(u64::from(len)), len as usize);
        Desc {
            addr: word(0, 8),
            len,
            flags: short(12),
            next: short(14),
        }
    }
}
