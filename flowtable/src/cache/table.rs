//! Flow table: cached decisions, one entry a flow, shared by all cores.
//!
//! A bucket is a cache line of slots, and a slot holds an entry's number and 32 bits of its key's
//! hash, so that a look-up touches two lines: a bucket and the entry. A key has two candidate
//! buckets. Readers write nothing and never wait. A core enters a flow with one compare-and-swap on
//! a slot, after filling the entry (`slab.rs` tells how readers and writers of one entry are kept
//! apart).
//!
//! The capacity is fixed. If there is no room for a flow, or its port may have no more entries
//! (`quota.rs`), an entry of its two buckets is evicted: an outdated one, else the port's own
//! oldest, else the oldest of a port over its share. If there is none, the decision is not cached.
//!
//! Two cores that enter one flow at the same time may enter it twice. Both entries are right, and
//! the one that is found less will age and be evicted.

use crate::cache::key::Key;
use crate::cache::quota::Quota;
use crate::cache::slab::Slab;
use crate::ids::PortId;
use crate::mac::table::{Known, MacTable};
use crate::memory::cache_line::{Apart, Lines, WORDS};
use crate::memory::sync::{AtomicU32, AtomicU64, Ordering};
use crate::wire::header::spread;

pub use crate::cache::slab::{Decision, Hit};

/// Slots of a bucket that are used. (Loom, which tries every interleaving, needs small ones.)
const BUCKET: usize = if cfg!(loom) { 2 } else { WORDS };
/// Seconds without a frame after which a flow's entry may be evicted.
pub const SILENT_MAX: u32 = 60;
/// [`FlowTable::sweep`] checks one part in this many at a time.
const SWEEP_PART: usize = 64;

/// Result of entering a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It got a free entry.
    Free,
    /// It got the entry of an outdated or silent flow.
    OverStale,
    /// It got its own port's oldest entry.
    OverOwn,
    /// It got the oldest entry of a port over its share.
    OverGreedy,
    /// It is not cached: no entry could be evicted, or another core was at the same place.
    No,
}

/// The table.
#[derive(Debug)]
pub struct FlowTable {
    buckets: Lines,
    pub(super) slab: Slab,
    quota: Quota,
    seeds: [u64; 8],
    bucket_mask: u32,
    /// Where the next sweep begins.
    swept: Apart<AtomicU32>,
}

/// A slot's content: half of the hash, and the entry's number plus one. Zero: free.
#[inline(always)]
pub(super) fn slot(hash: u64, entry: u32) -> u64 {
    hash & !0xffff_ffff | (u64::from(entry) + 1)
}

/// The entry of a slot that is not free.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
fn entry_of(slot: u64) -> u32 {
    (slot as u32).wrapping_sub(1)
}

impl FlowTable {
    /// How many ports there can be.
    pub(crate) fn n_ports(&self) -> usize {
        self.quota.n_ports()
    }

    /// Room for `capacity` flows of at most `n_ports` ports. `seeds` key the hash, so that guests
    /// can't aim at a bucket.
    pub fn new(capacity: usize, n_ports: usize, seeds: [u64; 2]) -> Self {
        let capacity = u32::try_from(capacity.max(1))
            .unwrap_or(u32::MAX)
            .min(1 << 28);
        let n_buckets = (capacity as usize * 2).div_ceil(BUCKET).next_power_of_two();
        Self {
            buckets: Lines::new(n_buckets),
            slab: Slab::new(capacity),
            quota: Quota::new(capacity, n_ports),
            seeds: std::array::from_fn(|n| spread(seeds[n % 2] ^ (n as u64) << 56)),
            bucket_mask: u32::try_from(n_buckets - 1).unwrap_or(u32::MAX),
            swept: Apart(AtomicU32::new(0)),
        }
    }

    /// The key's hash. Its lower half selects the buckets; its upper half, never zero, is kept in
    /// the slot.
    #[inline(always)]
    pub fn hash(&self, key: &Key) -> u64 {
        let [a, b, c, d, e, f, g] = key.0;
        let s = &self.seeds;
        let mut hash = self.hash_of([a, b]);
        if c != 0 {
            hash ^= fold(c ^ s[2], d ^ s[3]);
            if key.is_long() {
                hash ^= fold(e ^ s[4], f ^ s[5]) ^ fold(g ^ s[6], s[7]);
            }
        }
        hash | u64::from(hash >> 32 == 0) << 32
    }

    /// The hash of a key of only these words.
    #[inline(always)]
    pub(crate) fn hash_of(&self, [first, second]: [u64; 2]) -> u64 {
        fold(first ^ self.seeds[0], second ^ self.seeds[1])
    }

    /// Prefetches the key's first bucket.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        self.buckets.prefetch(self.places(hash)[0]);
    }

    /// Finds an entry that may be the key's, and prefetches it.
    #[inline(always)]
    pub fn candidate(&self, hash: u64, key: &Key) -> Option<u32> {
        let entry = self
            .places(hash)
            .into_iter()
            .find_map(|bucket| self.entry_in(bucket, hash))?;
        self.slab.prefetch(entry);
        if key.is_long() {
            self.slab.prefetch_rest(entry);
        }
        Some(entry)
    }

    /// The entry of [`FlowTable::candidate`], if it is the key's.
    #[inline(always)]
    pub fn get(&self, entry: u32, key: &Key) -> Option<Hit> {
        self.slab.get(entry, key)
    }

    /// Prefetches the MAC entries that an entry depends on, whatever its key is by now.
    #[inline(always)]
    pub(crate) fn prefetch_dependencies(&self, entry: u32, macs: Known<'_>) {
        self.slab
            .dependencies(entry)
            .into_iter()
            .for_each(|at| macs.prefetch(at));
    }

    /// The key's entry. Writes nothing.
    #[inline]
    pub fn find(&self, hash: u64, key: &Key) -> Option<Hit> {
        let slots = self
            .places(hash)
            .into_iter()
            .flat_map(|bucket| self.slots(bucket));
        // Acquire, pairs with the Release in `publish`: the entry is filled.
        slots
            .map(|slot| slot.load(Ordering::Acquire))
            .find_map(|word| {
                ((word ^ hash) >> 32 == 0)
                    .then(|| self.slab.get(entry_of(word), key))
                    .flatten()
            })
    }

    /// Marks a flow as in use.
    pub fn touch(&self, hit: &Hit, now: u32) {
        self.slab.touch(hit, now);
    }

    /// Replaces the decision of a flow that was found. False: another core was first.
    pub fn update(&self, hit: &Hit, decision: &Decision, now: u32) -> bool {
        self.slab.update(hit, decision, now)
    }

    /// Enters a flow that was not found. `generation`: the ingress port's; decisions of an earlier
    /// one are outdated.
    pub fn insert(
        &self,
        hash: u64,
        key: &Key,
        decision: &Decision,
        generation: u32,
        macs: &MacTable,
        now: u32,
    ) -> Entered {
        let port = key.port();
        self.quota.announce(port, generation);
        let places = self.places(hash);
        if places
            .iter()
            .any(|&bucket| self.entry_in(bucket, hash).is_some())
        {
            return Entered::No;
        }
        if self.quota.may_grow(port)
            && let Some(free) = self.free_slot(places)
            && let Some(entry) = self.slab.take()
        {
            return if self.publish(free, entry, hash, key, decision, now) {
                Entered::Free
            } else {
                Entered::No
            };
        }
        let Some((victim, word, entered)) = self.victim(places, port, macs, now) else {
            return Entered::No;
        };
        match self.vacate(victim, word) {
            Some(entry) if self.publish(victim, entry, hash, key, decision, now) => entered,
            _ => Entered::No,
        }
    }

    /// Fills an entry that the caller owns, and puts it into a free slot; frees it if that fails.
    fn publish(
        &self,
        slot_at: &AtomicU64,
        entry: u32,
        hash: u64,
        key: &Key,
        decision: &Decision,
        now: u32,
    ) -> bool {
        if self.slab.fill(entry, key, decision, now) {
            // Counted first, since it may be evicted as soon as it is published.
            self.quota.grew(key.port());
            // Release, pairs with the Acquire of readers: the entry is filled.
            if slot_at
                .compare_exchange(0, slot(hash, entry), Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                return true;
            }
            self.quota.shrank(key.port());
        }
        self.slab.give(entry);
        false
    }

    /// Takes an entry out of its slot; the caller owns it then.
    pub(super) fn vacate(&self, slot_at: &AtomicU64, word: u64) -> Option<u32> {
        // Acquire: after the stores that filled it.
        slot_at
            .compare_exchange(word, 0, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        let entry = entry_of(word);
        self.quota.shrank(self.slab.port(entry));
        Some(entry)
    }

    /// Which entry of the two buckets to evict: its slot and the slot's word.
    #[cold]
    fn victim(
        &self,
        places: [usize; 2],
        port: PortId,
        macs: &MacTable,
        now: u32,
    ) -> Option<(&AtomicU64, u64, Entered)> {
        let slots = || places.into_iter().flat_map(|bucket| self.slots(bucket));
        slots()
            .map(|slot| slot.load(Ordering::Relaxed))
            .filter(|&word| word != 0)
            .for_each(|word| self.slab.prefetch(entry_of(word)));
        let may_take_others = self.quota.may_grow(port);
        let (mut own, mut greedy) = (None, None);
        for slot in slots() {
            let word = slot.load(Ordering::Acquire);
            let Some((of, hit)) = (word != 0)
                .then(|| self.slab.peek(entry_of(word)))
                .flatten()
            else {
                continue;
            };
            let silent = now.saturating_sub(hit.seen);
            if self.is_stale(of, &hit, macs, silent) {
                return Some((slot, word, Entered::OverStale));
            }
            let oldest = match of {
                _ if of == port => &mut own,
                _ if may_take_others && self.quota.is_over(of, port) => &mut greedy,
                _ => continue,
            };
            if oldest.is_none_or(|(most, _, _)| silent > most) {
                *oldest = Some((silent, slot, word));
            }
        }
        let own = own.map(|(_, slot, word)| (slot, word, Entered::OverOwn));
        own.or(greedy.map(|(_, slot, word)| (slot, word, Entered::OverGreedy)))
    }

    fn is_stale(&self, port: PortId, hit: &Hit, macs: &MacTable, silent: u32) -> bool {
        let Decision {
            stamp, src, dst, ..
        } = hit.decision;
        silent > SILENT_MAX
            || self.quota.is_outdated(port, stamp)
            || !macs.holds(src)
            || !macs.holds(dst)
    }

    /// Frees outdated and silent entries in a part of the table; returns how many. Control calls it
    /// once a second, which covers the table in about a minute.
    pub fn sweep(&self, macs: &MacTable, now: u32) -> usize {
        let n_buckets = self.buckets.len();
        let part = n_buckets.div_ceil(SWEEP_PART);
        let begin = self.swept.0.load(Ordering::Relaxed) as usize;
        let mut n_freed = 0;
        for bucket in (begin..begin + part).map(|bucket| bucket % n_buckets) {
            for slot in self.slots(bucket) {
                let word = slot.load(Ordering::Acquire);
                let Some((of, hit)) = (word != 0)
                    .then(|| self.slab.peek(entry_of(word)))
                    .flatten()
                else {
                    continue;
                };
                if self.is_stale(of, &hit, macs, now.saturating_sub(hit.seen))
                    && let Some(entry) = self.vacate(slot, word)
                {
                    self.slab.give(entry);
                    n_freed += 1;
                }
            }
        }
        self.swept.0.store(
            u32::try_from((begin + part) % n_buckets).unwrap_or(0),
            Ordering::Relaxed,
        );
        n_freed
    }

    /// Flows that the table can hold.
    pub fn capacity(&self) -> u32 {
        self.slab.capacity()
    }

    /// Flows in the table.
    pub fn n_used(&self) -> u32 {
        self.quota.n_used()
    }

    /// Flows of one port in the table.
    pub fn n_used_by(&self, port: PortId) -> u32 {
        self.quota.n_used_by(port)
    }

    /// Flows that each port may have when three quarters are in use.
    pub fn share(&self) -> u32 {
        self.quota.share()
    }

    /// Addresses and lengths of its memory, for the caller to put it into large pages.
    pub fn spans(&self) -> [(usize, usize); 3] {
        let [entries, long] = self.slab.spans();
        [self.buckets.span(), entries, long]
    }

    /// Both candidate buckets.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "takes a hash apart")]
    pub(super) fn places(&self, hash: u64) -> [usize; 2] {
        let first = hash as u32 & self.bucket_mask;
        // From the other half of the hash, mixed, since its bits are in the slots of one bucket
        // already.
        let second =
            ((hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & self.bucket_mask;
        [first as usize, second as usize]
    }

    #[inline(always)]
    pub(super) fn slots(&self, bucket: usize) -> &[AtomicU64] {
        &self.buckets.line(bucket)[..BUCKET]
    }

    /// An entry of a bucket that has the hash. Checks all slots without branching, since its place
    /// can't be predicted.
    #[inline(always)]
    fn entry_in(&self, bucket: usize, hash: u64) -> Option<u32> {
        let half = hash & !0xffff_ffff;
        // The xor is least for a slot with the same half, less than for a free one. Acquire, pairs
        // with the Release in `publish`: the entry is filled.
        let left = self
            .slots(bucket)
            .iter()
            .map(|slot| slot.load(Ordering::Acquire) ^ half);
        let least = left.fold(u64::MAX, u64::min);
        (least >> 32 == 0).then(|| entry_of(least))
    }

    fn free_slot(&self, places: [usize; 2]) -> Option<&AtomicU64> {
        places
            .into_iter()
            .flat_map(|bucket| self.slots(bucket))
            .find(|slot| slot.load(Ordering::Relaxed) == 0)
    }
}

/// Both halves of a product.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide ^ wide >> 64) as u64
}

#[cfg(all(test, not(loom)))]
#[path = "table_tests.rs"]
mod tests;
