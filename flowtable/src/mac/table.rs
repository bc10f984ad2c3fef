//! The MAC table: which address is behind which port, for all networks and all cores.
//!
//! A fixed number of slots in buckets of eight, two candidate buckets per address. Every core looks
//! up without waiting or writing, and learns with one compare-and-swap; control ages and removes. A
//! slot's *word* holds port, flags and a sequence number that rises with every change, and works as
//! a sequence lock over the slot's key: a reader that sees the same valid word before and after the
//! key has read one consistent entry. A decision keeps (slot, sequence) of its entries and checks
//! [`MacTable::holds`] later, so a move makes stale only what depends on it.
//!
//! A decision may depend on the absence of an address: each bucket has one more word, after those
//! of all slots, whose sequence rises when an address is entered that has this as its first bucket
//! ([`MacTable::absent`]).
//!
//! If there is no free slot for an address of a higher [`Kind`], the entry of the lowest kind that
//! was silent for longest is evicted: addresses from a wire can't fill a bucket for good.
//!
//! [`MacTable::epoch`] changes whenever anything in its networks does. It only saves work: while it
//! is unchanged, entries need no check.

use crate::ids::{NetworkId, PortId};
use crate::mac::budget::Budget;
use crate::mac::dispute::{Claim, Dispute};
use crate::mac::entry::{
    AWAY, EntryRef, Found, Kind, Row, STATIC, STICKY, VALID, found_at, key_of, kind_of, mac_of,
    network_of, next_sequence, next_word, port_of, sequence_of, slot_number,
};
use crate::mac::owner::Owners;
use crate::mac::reserve::Reserves;
use crate::memory::cache_line::{Apart, Words, prefetch};
use crate::memory::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::wire::header::spread;

/// Slots of a bucket. (Loom, which tries every interleaving, needs small ones.)
pub(super) const BUCKET: usize = if cfg!(loom) { 2 } else { 8 };
/// Stripes of the learn lock; see [`MacTable::learn`].
const STRIPES: usize = if cfg!(loom) { 1 } else { 64 };
/// Networks with an epoch of their own.
const EPOCHS: usize = if cfg!(loom) { 1 } else { 64 };
/// Attempts to read an entry that is being changed.
const LOOKS: usize = 3;
/// New addresses and moves that one port may cause in a second. (For a port with a bound on its
/// addresses, the bound is the budget for new ones.)
const LEARNS_PER_SECOND: u32 = 1 << 17;
const MOVES_PER_SECOND: u32 = 1 << 10;

/// The table. See the module's text for who may do what.
#[derive(Debug)]
pub struct MacTable {
    pub(super) keys: Words,
    /// By slot; then one for each bucket.
    pub(super) words: Words,
    pub(super) seen: Box<[AtomicU32]>,
    /// By slot; see [`Dispute`].
    pub(super) disputes: Words,
    pub(super) owners: Owners,
    pub(super) per_port: Box<[AtomicU32]>,
    pub(super) reserves: Reserves,
    pub(super) budgets: Box<[Apart<Budgets>]>,
    /// By network, modulo [`EPOCHS`].
    pub(super) epochs: [Apart<AtomicU32>; EPOCHS],
    pub(super) learning: Box<[AtomicBool]>,
    pub(super) seeds: [u64; 2],
    pub(super) bucket_mask: u32,
}

/// See [`MacTable::known`].
#[derive(Clone, Copy)]
pub(crate) struct Known<'a>(&'a [AtomicU64]);

impl Known<'_> {
    /// As [`MacTable::holds`].
    #[inline(always)]
    pub(crate) fn holds(self, entry: EntryRef) -> bool {
        match self.0.get(entry.slot as usize) {
            // Acquire: a reader that sees a change here sees all that came before it.
            Some(word) => sequence_of(word.load(Ordering::Acquire)) == entry.sequence,
            None => entry == EntryRef::NONE,
        }
    }

    /// Prefetches what [`Known::holds`] reads.
    #[inline(always)]
    pub(crate) fn prefetch(self, entry: EntryRef) {
        if let Some(word) = self.0.get(entry.slot as usize) {
            prefetch(word);
        }
    }
}

/// What a port may change in a second.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    pub(super) learns: Budget,
    pub(super) moves: Budget,
}

impl MacTable {
    /// Room for `capacity` addresses (twice as many slots) of at most `n_ports` ports. `seeds` key
    /// the hash, so that guests can't aim at a bucket.
    pub fn new(capacity: usize, n_ports: usize, seeds: [u64; 2]) -> Self {
        let n_buckets = (capacity.max(BUCKET) * 2 / BUCKET)
            .next_power_of_two()
            .min(1 << 24);
        let n_slots = n_buckets * BUCKET;
        Self {
            keys: Words::new(n_slots),
            words: Words::new(n_slots + n_buckets),
            seen: (0..n_slots).map(|_| AtomicU32::new(0)).collect(),
            disputes: Words::new(n_slots),
            owners: Owners::new(n_ports),
            per_port: (0..n_ports).map(|_| AtomicU32::new(0)).collect(),
            reserves: Reserves::new(),
            budgets: (0..n_ports).map(|_| Apart::default()).collect(),
            epochs: std::array::from_fn(|_| Apart(AtomicU32::new(1))),
            learning: (0..STRIPES).map(|_| AtomicBool::new(false)).collect(),
            seeds: seeds.map(spread),
            bucket_mask: u32::try_from(n_buckets - 1).unwrap_or(u32::MAX),
        }
    }

    /// Addresses that there is room for, half of its slots: with no more than these hardly any is
    /// refused for want of a slot.
    pub fn capacity(&self) -> usize {
        self.keys.len() / 2
    }

    /// Changes whenever anything of the network does. Read it *before* the entries that are cached
    /// with it.
    #[inline(always)]
    pub fn epoch(&self, network: NetworkId) -> u32 {
        // Acquire, pairs with the Release in `changed`: a reader that sees the new epoch sees the
        // change.
        self.epochs[usize::from(network) % EPOCHS]
            .0
            .load(Ordering::Acquire)
    }

    /// `key`: of the address that came, moved or went.
    pub(super) fn changed(&self, key: u64) {
        self.epochs[usize::from(network_of(key)) % EPOCHS]
            .0
            .fetch_add(1, Ordering::Release);
    }

    /// Both candidate buckets, as the first slot of each, and the learn stripe.
    #[expect(clippy::cast_possible_truncation, reason = "takes a hash apart")]
    pub(super) fn places(&self, key: u64) -> ([usize; 2], usize) {
        let wide = u128::from(key ^ self.seeds[0]) * u128::from(self.seeds[1] | 1);
        let hash = (wide ^ wide >> 64) as u64;
        let bucket = |bits: u64| (bits as u32 & self.bucket_mask) as usize * BUCKET;
        (
            [bucket(hash), bucket(hash >> 32)],
            (hash >> 58) as usize % STRIPES,
        )
    }

    /// The valid word at `slot` if it belongs to `key`.
    #[inline(always)]
    pub(super) fn word_if(&self, slot: usize, key: u64) -> Option<u64> {
        if self.keys[slot].load(Ordering::Relaxed) != key {
            return None;
        }
        // An entry that is being changed is valid before and after; if it changes repeatedly, give
        // up.
        (0..LOOKS).find_map(|_| self.stable_word(slot, key))
    }

    /// Word, key, word again, as a sequence lock.
    #[inline(always)]
    fn stable_word(&self, slot: usize, key: u64) -> Option<u64> {
        // Acquire, pairs with the Release of the writer's last store: if the word is valid, its key
        // is stored.
        let word = self.words[slot].load(Ordering::Acquire);
        let same = self.keys[slot].load(Ordering::Relaxed) == key;
        // The fence keeps the second load of the word after the load of the key.
        fence(Ordering::Acquire);
        (same && word & VALID != 0 && self.words[slot].load(Ordering::Relaxed) == word)
            .then_some(word)
    }

    /// Looks an address up. Writes nothing.
    #[inline]
    pub fn find(&self, network: NetworkId, mac: [u8; 6]) -> Option<Found> {
        let key = key_of(network, mac);
        let (buckets, _) = self.places(key);
        self.find_slot(key, buckets)
            .map(|(slot, word)| found_at(slot, word))
    }

    /// What a decision depends on that an address is in no entry: valid until it may have been
    /// entered.
    ///
    /// # Errors
    /// The entry, if the address was entered meanwhile.
    pub fn absent(&self, network: NetworkId, mac: [u8; 6]) -> Result<EntryRef, Found> {
        let (buckets, _) = self.places(key_of(network, mac));
        let at = self.arrivals(buckets[0]);
        // Acquire, pairs with the Release in `learn_alone`: a reader that sees an arrival sees the
        // address. Loaded before the look-up, so that an address which it misses changes the word
        // afterwards.
        let sequence = sequence_of(self.words[at].load(Ordering::Acquire));
        match self.find(network, mac) {
            Some(found) => Err(found),
            None => Ok(EntryRef {
                slot: slot_number(at),
                sequence,
            }),
        }
    }

    /// Index of the word that counts arrivals in the bucket with this first slot.
    pub(super) fn arrivals(&self, bucket: usize) -> usize {
        self.keys.len() + bucket / BUCKET
    }

    pub(super) fn find_slot(&self, key: u64, buckets: [usize; 2]) -> Option<(usize, u64)> {
        buckets
            .iter()
            .flat_map(|&b| b..b + BUCKET)
            .find_map(|slot| self.word_if(slot, key).map(|word| (slot, word)))
    }

    /// Whether an entry is unchanged. Its sequence alone tells: it rises with every change and with
    /// removal.
    #[inline(always)]
    pub fn holds(&self, entry: EntryRef) -> bool {
        self.known().holds(entry)
    }

    /// Addresses and lengths of the memory that is read often, for the caller to put it into large
    /// pages.
    pub fn spans(&self) -> [(usize, usize); 2] {
        [self.keys.span(), self.words.span()]
    }

    /// The part that [`MacTable::holds`] reads, for frequent checks.
    #[inline(always)]
    pub(crate) fn known(&self) -> Known<'_> {
        Known(&self.words)
    }

    /// Whether the port may learn one more address in this second, over all cores.
    pub fn may_learn(&self, port: PortId, now: u32) -> bool {
        self.budgets
            .get(usize::from(port))
            .is_some_and(|port| port.0.learns.take(now, LEARNS_PER_SECOND))
    }

    /// What a network may learn beyond what its uplink's port may.
    pub(crate) fn reserves(&self) -> &Reserves {
        &self.reserves
    }

    /// Whether the port may take one more address over from another one in this second.
    pub fn may_move(&self, port: PortId, now: u32) -> bool {
        self.budgets
            .get(usize::from(port))
            .is_some_and(|port| port.0.moves.take(now, MOVES_PER_SECOND))
    }

    /// Marks the address of `entry` as in use. Called at most once a second and flow.
    pub fn touch(&self, entry: EntryRef, now: u32) {
        if let Some(seen) = self.seen.get(entry.slot as usize)
            && seen.load(Ordering::Relaxed) != now
        {
            seen.store(now, Ordering::Relaxed);
        }
    }

    /// Addresses of the port in the table.
    pub fn n_addresses(&self, port: PortId) -> u32 {
        self.per_port
            .get(usize::from(port))
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The address was seen behind another port: rewrites that one entry. False: another core
    /// changed it meanwhile, it may not move, or `port` has as many addresses as it may.
    pub fn move_to(
        &self,
        found: Found,
        port: PortId,
        kind: Kind,
        address_max: u32,
        now: u32,
    ) -> bool {
        found.movable && self.take_over(found, port, kind, false, address_max, now)
    }

    /// The same for any address, if `port` has a right to it. `is_away`: it still belongs to its
    /// owner.
    pub(crate) fn take_over(
        &self,
        found: Found,
        port: PortId,
        kind: Kind,
        is_away: bool,
        address_max: u32,
        now: u32,
    ) -> bool {
        let slot = found.entry.slot as usize;
        let (Some(word), Some(to), Some(from)) = (
            self.words.get(slot),
            self.per_port.get(usize::from(port)),
            self.per_port.get(usize::from(found.port)),
        ) else {
            return false;
        };
        let before = word.load(Ordering::Acquire);
        if before & VALID == 0 || sequence_of(before) != found.entry.sequence {
            return false;
        }
        if to.fetch_add(1, Ordering::Relaxed) >= address_max {
            to.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let after = next_word(before, port, kind) | if is_away { AWAY } else { 0 };
        let moved = word
            .compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if moved {
            from.fetch_sub(1, Ordering::Relaxed);
            self.seen[slot].store(now, Ordering::Relaxed);
            // The key can't be another one's: removing an entry changes its word.
            let key = self.keys[slot].load(Ordering::Relaxed);
            self.changed(key);
            match (kind_of(before) == Kind::Learned, kind == Kind::Learned) {
                (false, true) => self.reserves.entered(network_of(key)),
                (true, false) => self.reserves.left(network_of(key)),
                _ => {}
            }
            if !is_away {
                // Ends the claims against the former holder; this one had no chance to answer any.
                self.heard(found.entry);
            }
        } else {
            to.fetch_sub(1, Ordering::Relaxed);
        }
        moved
    }

    /// Makes decisions that depend on the entry stale. False: it had changed meanwhile.
    pub(super) fn bump(&self, slot: usize, before: u64) -> bool {
        let after = before & !u64::from(u32::MAX) | next_sequence(before);
        let bumped = self.words[slot]
            .compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if bumped {
            self.changed(self.keys[slot].load(Ordering::Relaxed));
        }
        bumped
    }

    /// Port `by` sends from an address that is on the other side of the wire. Returns whether that
    /// proves its claim; see [`crate::mac::dispute`]. `tick`: 2^20 ns of the switch's clock.
    /// `is_firm`: the holder can't have sent the frame, so its own frames don't end the claim.
    pub fn claim(&self, found: Found, by: PortId, tick: u32, is_firm: bool) -> bool {
        let slot = found.entry.slot as usize;
        let (Some(dispute), Some(word)) = (self.disputes.get(slot), self.words.get(slot)) else {
            return false;
        };
        let before = dispute.load(Ordering::Relaxed);
        let (after, is_first, is_proven) = match Dispute(before).claim(by, tick, is_firm) {
            Claim::Ignored => return false,
            Claim::Counts { after, is_first } => (after, is_first, false),
            Claim::Proven { after } => (after, false, true),
        };
        // If it fails, another core's claim counts. Relaxed: the bump publishes it.
        if dispute
            .compare_exchange(before, after.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        let before = word.load(Ordering::Acquire);
        if is_first && before & VALID != 0 && sequence_of(before) == found.entry.sequence {
            // Pairs with the Acquire of a reader that sees the entry changed: it loads the dispute
            // later.
            self.bump(slot, before);
        }
        is_proven
    }

    /// The port that has the address sent from it.
    pub fn heard(&self, entry: EntryRef) {
        let Some(dispute) = self.disputes.get(entry.slot as usize) else {
            return;
        };
        let now = Dispute(dispute.load(Ordering::Relaxed));
        if now.n_claims() > 0 {
            dispute.store(now.heard().0, Ordering::Relaxed);
        }
    }

    /// Removes the addresses learned from `port`; its own one stays, from the topology or sticky.
    /// For a guest that disconnected.
    pub fn forget_port(&self, port: PortId) -> usize {
        self.remove_where(|word, _| port_of(word) == port && word & (STATIC | STICKY) == 0)
    }

    /// Removes learned addresses that have not sent for longer than `age_max` seconds.
    pub fn age(&self, now: u32, age_max: u32) -> usize {
        self.owners.set_now(now);
        self.remove_where(|word, seen| {
            word & (STATIC | STICKY) == 0 && now.saturating_sub(seen) > age_max
        })
    }

    fn remove_where(&self, gone: impl Fn(u64, u32) -> bool) -> usize {
        let mut n_removed = 0;
        for slot in 0..self.keys.len() {
            let word = self.words[slot].load(Ordering::Acquire);
            if word & VALID != 0 && gone(word, self.seen[slot].load(Ordering::Relaxed)) {
                n_removed += usize::from(self.remove(slot, word));
            }
        }
        n_removed
    }

    pub(super) fn remove(&self, slot: usize, word: u64) -> bool {
        if self.invalidate(slot, word).is_none() {
            return false;
        }
        // Release: a reader that sees the key gone sees the word invalid.
        self.keys[slot].store(0, Ordering::Release);
        true
    }

    /// Invalidates an entry; the caller owns the slot then. None: another core changed it.
    pub(super) fn invalidate(&self, slot: usize, word: u64) -> Option<()> {
        self.words[slot]
            .compare_exchange(
                word,
                next_sequence(word),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .ok()?;
        let key = self.keys[slot].load(Ordering::Relaxed);
        self.changed(key);
        if kind_of(word) == Kind::Learned {
            self.reserves.left(network_of(key));
        }
        if let Some(count) = self.per_port.get(usize::from(port_of(word))) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        Some(())
    }

    /// Every address, for a report. Each row is consistent, but they are not of one moment.
    pub fn rows(&self) -> Vec<Row> {
        (0..self.keys.len())
            .filter_map(|slot| {
                let key = self.keys[slot].load(Ordering::Acquire);
                let word = self.word_if(slot, key)?;
                (key != 0).then(|| Row {
                    mac: mac_of(key),
                    network: network_of(key),
                    port: port_of(word),
                    kind: kind_of(word),
                    away_from: (word & AWAY != 0).then(|| self.owner(slot, word)),
                    is_disputed: Dispute(self.disputes[slot].load(Ordering::Relaxed)).n_claims()
                        > 0,
                    seen: self.seen[slot].load(Ordering::Relaxed),
                })
            })
            .collect()
    }
}

#[cfg(all(test, not(loom)))]
#[path = "table_tests.rs"]
mod tests;
