//! The driver's half of one split virtqueue (VIRTIO 1.2, 2.7): makes chains available, takes used
//! ones back, and checks that the device keeps the rules: a chain comes back once, at most as many
//! as were given, in ring order if that is required, and descriptors and avail ring stay as they
//! were written. A broken rule is a panic that says which and where.

mod entries;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::memory::{GuestMemory, to_usize};
use crate::options::Indirect;
use entries::Chain;
pub use entries::{
    Desc, INDIRECT, NEXT, NO_NOTIFY, Part, RAW_TOKEN, RingAddresses, RingConfig, Used, WRITE,
};

/// The driver's half of a virtqueue. Not for several threads; the device on the other side is.
#[derive(Debug)]
pub struct DriverRing {
    config: RingConfig,
    memory: Arc<GuestMemory>,
    free: VecDeque<u16>,
    in_flight: Vec<Option<Chain>>,
    order: VecDeque<u16>,
    descs: Vec<Desc>,
    heads: Vec<u16>,
    avail_idx: u16,
    published_idx: u16,
    kicked_idx: u16,
    last_used: u16,
    call_seen: u16,
    avail_flags: u16,
    n_added: u64,
    /// Used entry of an in-order batch that isn't taken to its end yet.
    batch: Option<(u32, u32)>,
}

impl DriverRing {
    /// Bytes of the three parts of a ring of `size` entries, event words included.
    pub fn part_bytes(size: u16) -> [u64; 3] {
        let n = u64::from(size);
        [16 * n, 6 + 2 * n, 6 + 8 * n]
    }

    /// A ring with nothing in it; zeroes its memory.
    pub fn new(memory: Arc<GuestMemory>, config: RingConfig) -> Self {
        let n = usize::from(config.size);
        let mut ring = Self {
            config,
            memory,
            free: VecDeque::with_capacity(n),
            in_flight: (0..n).map(|_| None).collect(),
            order: VecDeque::with_capacity(n),
            descs: vec![Desc::default(); n],
            heads: vec![0; n],
            avail_idx: 0,
            published_idx: 0,
            kicked_idx: 0,
            last_used: 0,
            call_seen: 0,
            avail_flags: 0,
            n_added: 0,
            batch: None,
        };
        ring.reset();
        ring
    }

    /// As at the start: nothing in flight, memory zeroed. Returns the tokens of chains that were in
    /// flight, oldest first. Only while the device doesn't use the ring.
    pub fn reset(&mut self) -> Vec<u32> {
        let lost = self
            .order
            .drain(..)
            .filter_map(|h| self.in_flight[usize::from(h)].take())
            .map(|c| c.token)
            .collect();
        let at = self.config.at;
        for (gpa, len) in [at.desc, at.avail, at.used]
            .into_iter()
            .zip(Self::part_bytes(self.config.size))
        {
            self.memory.write(gpa, &vec![0; to_usize(len)]);
        }
        self.free = (0..self.config.size).collect();
        self.descs.fill(Desc::default());
        self.heads.fill(0);
        (self.avail_idx, self.published_idx, self.kicked_idx) = (0, 0, 0);
        (self.last_used, self.call_seen, self.avail_flags) = (0, 0, 0);
        self.batch = None;
        lost
    }

    /// Starts both indexes at `idx`, on an empty ring: what a driver with a long life looks like.
    /// Only after `reset`.
    pub fn start_at(&mut self, idx: u16) {
        assert!(
            self.order.is_empty() && self.avail_idx == 0,
            "ring is in use"
        );
        (self.avail_idx, self.published_idx, self.kicked_idx) = (idx, idx, idx);
        (self.last_used, self.call_seen) = (idx, idx);
        self.memory.store_u16(self.config.at.avail + 2, idx);
        self.memory.store_u16(self.config.at.used + 2, idx);
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.config.size
    }

    /// Guest-physical addresses of its parts.
    pub fn addresses(&self) -> RingAddresses {
        self.config.at
    }

    /// Chains that the device has.
    pub fn n_in_flight(&self) -> usize {
        self.order.len()
    }

    /// Descriptors that are free.
    pub fn n_free(&self) -> usize {
        self.free.len()
    }

    /// `avail.idx` as next published.
    pub fn avail_idx(&self) -> u16 {
        self.avail_idx
    }

    /// Puts a chain of `parts` into the ring, not yet visible (see [`publish`](Self::publish)).
    /// False if there is no room.
    pub fn add(&mut self, parts: &[Part], token: u32) -> bool {
        assert!(!parts.is_empty() && token != RAW_TOKEN);
        let entry = |p: &Part| Desc {
            addr: p.gpa,
            len: p.len,
            flags: if p.writable { WRITE } else { 0 },
            next: 0,
        };
        let writable_bytes = parts
            .iter()
            .filter(|p| p.writable)
            .map(|p| u64::from(p.len))
            .sum();
        if self.wants_table(parts.len()) {
            if self.free.is_empty() {
                return false;
            }
            let table = self.write_table(parts.iter().map(entry));
            self.add_descs(1, writable_bytes, token, |_| vec![table])
        } else {
            self.add_descs(parts.len(), writable_bytes, token, |ids| {
                let mut descs: Vec<Desc> = parts.iter().map(entry).collect();
                for (desc, &next) in descs.iter_mut().zip(&ids[1..]) {
                    (desc.flags, desc.next) = (desc.flags | NEXT, next);
                }
                descs
            })
        }
    }

    /// Takes `n` free descriptors and writes whatever `make` says for their ids; the first is the
    /// head. When the head comes back, with any length, all `n` are free again. False if there is
    /// no room. For chains that break the rules.
    pub fn add_raw(&mut self, n: usize, make: impl FnOnce(&[u16]) -> Vec<Desc>) -> bool {
        self.add_descs(n, u64::from(u32::MAX), RAW_TOKEN, make)
    }

    /// Shows the device all chains added so far.
    pub fn publish(&mut self) {
        self.published_idx = self.avail_idx;
        // Release in `store_u16`: descriptors and entries are visible before the index; pairs with
        // the device's acquire.
        self.memory
            .store_u16(self.config.at.avail + 2, self.avail_idx);
    }

    /// Whether the device wants a kick for what was published since the last time this was asked.
    pub fn kick_due(&mut self) -> bool {
        // Between writing avail.idx and reading the device's wish: pairs with the device's fence
        // between writing its wish and reading avail.idx a last time (VIRTIO 1.2, 2.7.13.4.1).
        fence(Ordering::SeqCst);
        let (old, new) = (self.kicked_idx, self.published_idx);
        self.kicked_idx = new;
        if self.config.event_idx {
            crossed(self.memory.load_u16(self.avail_event_gpa()), new, old)
        } else {
            new != old && self.memory.load_u16(self.config.at.used) & NO_NOTIFY == 0
        }
    }

    /// Asks to be called at the next used chain, or not at all. True if chains are already waiting,
    /// so that no call may come.
    pub fn ask_calls(&mut self, on: bool) -> bool {
        if self.config.event_idx {
            // Not at all: the farthest index away, which 32768 entries just don't reach.
            let event = if on {
                self.last_used
            } else {
                self.last_used.wrapping_sub(1)
            };
            self.memory.store_u16(self.used_event_gpa(), event);
        } else {
            self.avail_flags = if on { 0 } else { NO_NOTIFY };
            self.memory
                .store_u16(self.config.at.avail, self.avail_flags);
        }
        // Between writing the wish and reading used.idx: pairs with the device's fence between
        // writing used.idx and reading the wish.
        fence(Ordering::SeqCst);
        self.call_seen = self.memory.load_u16(self.config.at.used + 2);
        self.call_seen != self.last_used
    }

    /// Writes `used_event` itself. The chains used so far don't count for
    /// [`call_due`](Self::call_due) any more.
    pub fn set_used_event(&mut self, event: u16) {
        self.memory.store_u16(self.used_event_gpa(), event);
        fence(Ordering::SeqCst);
        self.call_seen = self.memory.load_u16(self.config.at.used + 2);
    }

    /// Whether the device had to call for what it used since the last time this, or `ask_calls`,
    /// was asked: the check's side of the event index. Ask before changing the wish.
    pub fn call_due(&mut self) -> bool {
        let (old, new) = (
            self.call_seen,
            self.memory.load_u16(self.config.at.used + 2),
        );
        self.call_seen = new;
        if self.config.event_idx {
            crossed(self.memory.load_u16(self.used_event_gpa()), new, old)
        } else {
            new != old && self.memory.load_u16(self.config.at.avail) & NO_NOTIFY == 0
        }
    }

    /// Chains that the device has used and `pop` hasn't taken. Panics if it used more than it was
    /// given.
    pub fn n_used(&self) -> usize {
        let idx = self.memory.load_u16(self.config.at.used + 2);
        let n = usize::from(idx.wrapping_sub(self.last_used));
        let visible =
            self.order.len() - usize::from(self.avail_idx.wrapping_sub(self.published_idx));
        assert!(
            n <= visible,
            "used.idx {idx} is {n} past {}, but the device has {visible} chains",
            self.last_used
        );
        n
    }

    /// Takes the oldest used chain back and frees its descriptors.
    pub fn pop(&mut self) -> Option<Used> {
        if self.n_used() == 0 {
            return None;
        }
        let gpa = self.config.at.used + 4 + 8 * u64::from(self.last_used & (self.config.size - 1));
        let read = || (self.memory.read_u32(gpa), self.memory.read_u32(gpa + 4));
        let (id, len) = self.batch.take().unwrap_or_else(read);
        let oldest = *self.order.front().expect("n_used says there is one");
        let skipped = self.config.in_order && id != u32::from(oldest);
        let head = if skipped {
            self.check_skipped(id, len, oldest)
        } else {
            self.check_used(id, len, oldest)
        };
        self.last_used = self.last_used.wrapping_add(1);
        Some(self.release(head, if skipped { 0 } else { len }))
    }

    /// Panics if the device changed the descriptor table or the avail ring, which it may only read.
    pub fn assert_untouched(&self) {
        for (i, desc) in self.descs.iter().enumerate() {
            let mut bytes = [0; 16];
            self.memory
                .read(self.config.at.desc + 16 * i as u64, &mut bytes);
            assert_eq!(bytes, desc.to_bytes(), "descriptor {i} was changed");
        }
        for (i, &head) in self.heads.iter().enumerate() {
            assert_eq!(
                self.memory
                    .load_u16(self.config.at.avail + 4 + 2 * i as u64),
                head,
                "avail entry {i} was changed"
            );
        }
        assert_eq!(
            self.memory.load_u16(self.config.at.avail + 2),
            self.published_idx,
            "avail.idx was changed"
        );
    }

    fn used_event_gpa(&self) -> u64 {
        self.config.at.avail + 4 + 2 * u64::from(self.config.size)
    }

    fn avail_event_gpa(&self) -> u64 {
        self.config.at.used + 4 + 8 * u64::from(self.config.size)
    }

    fn wants_table(&self, n_parts: usize) -> bool {
        n_parts <= usize::from(self.config.indirect_entries)
            && match self.config.indirect {
                Indirect::Off => false,
                Indirect::Always => n_parts > 1,
                Indirect::Alternate => self.n_added % 2 == 1,
            }
    }

    /// Writes the table that belongs to the descriptor that is taken next.
    fn write_table(&mut self, entries: impl ExactSizeIterator<Item = Desc>) -> Desc {
        let id = if self.config.fifo {
            self.free.front()
        } else {
            self.free.back()
        };
        let id = u64::from(*id.expect("the caller looked"));
        let addr = self.config.tables + id * 16 * u64::from(self.config.indirect_entries);
        let n = u32::try_from(entries.len()).expect("checked against indirect_entries");
        for (i, mut entry) in (0u16..).zip(entries) {
            if u32::from(i) + 1 < n {
                (entry.flags, entry.next) = (entry.flags | NEXT, i + 1);
            }
            self.memory
                .write(addr + 16 * u64::from(i), &entry.to_bytes());
        }
        Desc {
            addr,
            len: 16 * n,
            flags: INDIRECT,
            next: 0,
        }
    }

    fn add_descs(
        &mut self,
        n: usize,
        writable_bytes: u64,
        token: u32,
        make: impl FnOnce(&[u16]) -> Vec<Desc>,
    ) -> bool {
        if n > self.free.len() {
            return false;
        }
        let ids: Vec<u16> = (0..n)
            .map(|_| {
                if self.config.fifo {
                    self.free.pop_front()
                } else {
                    self.free.pop_back()
                }
                .expect("counted")
            })
            .collect();
        for (&id, desc) in ids.iter().zip(make(&ids)) {
            self.descs[usize::from(id)] = desc;
            self.memory
                .write(self.config.at.desc + 16 * u64::from(id), &desc.to_bytes());
        }
        let (head, slot) = (ids[0], self.avail_idx & (self.config.size - 1));
        self.heads[usize::from(slot)] = head;
        self.memory
            .store_u16(self.config.at.avail + 4 + 2 * u64::from(slot), head);
        self.in_flight[usize::from(head)] = Some(Chain {
            descs: ids,
            writable_bytes,
            token,
        });
        self.order.push_back(head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.n_added += 1;
        true
    }

    fn check_used(&self, id: u32, len: u32, oldest: u16) -> u16 {
        let size = self.config.size;
        let head = u16::try_from(id).ok().filter(|&h| h < size);
        let head = head.unwrap_or_else(|| panic!("used id {id} in a ring of {size}"));
        let chain = self.in_flight[usize::from(head)].as_ref();
        let chain = chain.unwrap_or_else(|| {
            panic!(
                "used id {id} at {} isn't in flight: returned twice?",
                self.last_used
            )
        });
        let most = chain.writable_bytes;
        assert!(
            u64::from(len) <= most,
            "used length {len} of chain {id}, which has {most} bytes to be written"
        );
        assert!(
            !self.config.require_order || head == oldest,
            "chain {id} came back before chain {oldest}, which is older"
        );
        head
    }

    /// `IN_ORDER` lets a device write one used entry for a batch: the last chain's, in the batch's
    /// first slot.
    fn check_skipped(&mut self, id: u32, len: u32, oldest: u16) -> u16 {
        let known = self
            .order
            .iter()
            .take(self.n_used())
            .any(|&h| u32::from(h) == id);
        assert!(
            known,
            "used id {id} is none of the chains that came back, the oldest being {oldest}"
        );
        let chain = self.in_flight[usize::from(oldest)]
            .as_ref()
            .expect("chains in order are in flight");
        assert!(
            chain.writable_bytes == 0 || chain.token == RAW_TOKEN,
            "chain {oldest} was skipped: its length is unknown"
        );
        self.batch = Some((id, len));
        oldest
    }

    fn release(&mut self, head: u16, len: u32) -> Used {
        let chain = self.in_flight[usize::from(head)].take().expect("checked");
        let at = self
            .order
            .iter()
            .position(|&h| h == head)
            .expect("in flight, so in order");
        self.order.remove(at);
        self.free.extend(chain.descs);
        Used {
            head,
            len,
            token: chain.token,
        }
    }
}

/// Whether moving an index from `old` to `new` passes `event` (VIRTIO 1.2, 2.7.10.1).
pub fn crossed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
