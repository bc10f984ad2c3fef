//! The MAC table: which address is behind which port, for all networks and all cores.
//!
//! One fixed block of slots in buckets of eight, two candidate buckets an address. Any core looks up without waiting and
//! without writing; any core learns with one compare-and-swap; control ages and removes. A slot's *word* holds port, flags
//! and a sequence number that rises with every change, and works as a sequence lock over the slot's key: a reader that
//! sees the same valid word before and after the key has read one consistent entry. What was decided from an entry
//! remembers (slot, sequence) and asks [`MacTable::holds`] later; so a move makes stale just what rested on it.
//!
//! What was decided because nobody had an address rests on that too: each bucket has one more word, behind those of all
//! slots, whose sequence rises when an address that would be looked for there first is entered ([`MacTable::absent`]).
//!
//! [`MacTable::epoch`] changes whenever anything in its networks does. It makes nothing stale, it only saves work: while it
//! stands still, nothing needs asking whether it holds.

use crate::budget::Budget;
use crate::header::spread;
use crate::lines::{Apart, Words, prefetch};
use crate::network::{NetworkId, PortId};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// Slots of a bucket. (A checker that tries everything needs small ones.)
const BUCKET: usize = if cfg!(loom) { 2 } else { 8 };
/// Stripes of the learn lock; see [`MacTable::learn`].
const STRIPES: usize = if cfg!(loom) { 1 } else { 64 };
/// Networks whose changes are told apart.
const EPOCHS: usize = if cfg!(loom) { 1 } else { 64 };
/// New addresses and moves that one port may cause in a second; its frames beyond that are forwarded, and nothing is learned.
const LEARNS_PER_SECOND: u32 = 1 << 17;
const MOVES_PER_SECOND: u32 = 1 << 10;

/// Where an entry lies and how often it had changed when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef {
    slot: u32,
    sequence: u32,
}

impl EntryRef {
    /// Rests on no entry: a group address, for one.
    pub const NONE: EntryRef = EntryRef { slot: u32::MAX, sequence: 0 };

    /// As one word, for the flow table.
    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.sequence)
    }

    /// Back from a word.
    #[inline(always)]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { slot: sequence_of(bits >> 32), sequence: sequence_of(bits) }
    }
}

/// One address as a look-up found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its entry.
    pub entry: EntryRef,
    /// The port behind which it is.
    pub port: PortId,
    /// Whether another port may take the address over by sending from it.
    pub movable: bool,
}

/// How an entry came to be, and what may happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// From the topology: never aged, moved or removed with its guest.
    Static,
    /// The first address of a port without `mac:`: stays until the guest disconnects.
    Sticky,
    /// Learned: ages, and moves to where it was seen last.
    Learned,
}

/// What became of an attempt to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The address is in the table now.
    Yes(EntryRef),
    /// The port has as many addresses as it may.
    PortFull,
    /// No slot was free, or another core was learning at the same place. Nothing is remembered; the next frame tries again.
    NotNow,
}

/// A row of [`MacTable::rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The address.
    pub mac: [u8; 6],
    /// The network it was seen in.
    pub network: NetworkId,
    /// The port behind which it is.
    pub port: PortId,
    /// How it came to be known.
    pub kind: Kind,
    /// When it last sent, in seconds of the switch's clock.
    pub seen: u32,
}

/// The table. See the module's text for who may do what.
#[derive(Debug)]
pub struct MacTable {
    keys: Words,
    /// By slot; then one for each bucket.
    words: Words,
    seen: Box<[AtomicU32]>,
    per_port: Box<[AtomicU32]>,
    budgets: Box<[Apart<Budgets>]>,
    /// By network, as far as they go; those beyond share them.
    epochs: [Apart<AtomicU32>; EPOCHS],
    learning: Box<[AtomicBool]>,
    seeds: [u64; 2],
    bucket_mask: u32,
}

/// See [`MacTable::known`].
#[derive(Clone, Copy)]
pub(crate) struct Known<'a>(&'a [AtomicU64]);

impl Known<'_> {
    /// As [`MacTable::holds`].
    #[inline(always)]
    pub(crate) fn holds(self, entry: EntryRef) -> bool {
        match self.0.get(entry.slot as usize) {
            // Acquire: who sees a change by this sees all that came before it.
            Some(word) => sequence_of(word.load(Ordering::Acquire)) == entry.sequence,
            None => entry == EntryRef::NONE,
        }
    }

    /// Asks for what [`Known::holds`] will look at from memory.
    #[inline(always)]
    pub(crate) fn prefetch(self, entry: EntryRef) {
        if let Some(word) = self.0.get(entry.slot as usize) {
            prefetch(word);
        }
    }
}

/// What a port may change in a second.
#[derive(Debug, Default)]
struct Budgets {
    learns: Budget,
    moves: Budget,
}

// A word: sequence in the low half, port above it, then flags.
const VALID: u64 = 1 << 48;
const STATIC: u64 = 1 << 49;
const STICKY: u64 = 1 << 50;

#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
fn port_of(word: u64) -> PortId {
    (word >> 32) as u16
}

#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
fn sequence_of(word: u64) -> u32 {
    word as u32
}

fn kind_of(word: u64) -> Kind {
    match word & (STATIC | STICKY) {
        0 => Kind::Learned,
        STATIC => Kind::Static,
        _ => Kind::Sticky,
    }
}

/// The word that follows `before`, for an entry of `port`.
fn next_word(before: u64, port: PortId, kind: Kind) -> u64 {
    let flags = match kind {
        Kind::Static => STATIC,
        Kind::Sticky => STICKY,
        Kind::Learned => 0,
    };
    VALID | flags | u64::from(port) << 32 | u64::from(sequence_of(before).wrapping_add(1))
}

fn key_of(network: NetworkId, mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | u64::from(network)
}

#[expect(clippy::cast_possible_truncation, reason = "takes a key apart")]
fn network_of(key: u64) -> NetworkId {
    key as u16
}

fn row_of(key: u64, word: u64, seen: u32) -> Row {
    let [a, b, c, d, e, f, _, _] = key.to_be_bytes();
    Row { mac: [a, b, c, d, e, f], network: network_of(key), port: port_of(word), kind: kind_of(word), seen }
}

impl MacTable {
    /// Room for `capacity` addresses (twice as many slots) of at most `n_ports` ports. `seeds` key the hash, so that nobody
    /// outside can aim at a bucket.
    pub fn new(capacity: usize, n_ports: usize, seeds: [u64; 2]) -> Self {
        let n_buckets = (capacity.max(BUCKET) * 2 / BUCKET).next_power_of_two().min(1 << 24);
        let n_slots = n_buckets * BUCKET;
        Self {
            keys: Words::new(n_slots),
            words: Words::new(n_slots + n_buckets),
            seen: (0..n_slots).map(|_| AtomicU32::new(0)).collect(),
            per_port: (0..n_ports).map(|_| AtomicU32::new(0)).collect(),
            budgets: (0..n_ports).map(|_| Apart::default()).collect(),
            epochs: std::array::from_fn(|_| Apart(AtomicU32::new(1))),
            learning: (0..STRIPES).map(|_| AtomicBool::new(false)).collect(),
            seeds: seeds.map(spread),
            bucket_mask: u32::try_from(n_buckets - 1).unwrap_or(u32::MAX),
        }
    }

    /// Changes whenever anything that belongs to the network does. Read it *before* what is to be remembered with it.
    #[inline(always)]
    pub fn epoch(&self, network: NetworkId) -> u32 {
        // Acquire, with the Release in `changed`: who sees the new epoch sees the change.
        self.epochs[usize::from(network) % EPOCHS].0.load(Ordering::Acquire)
    }

    /// `key`: of the address that came, moved or went.
    fn changed(&self, key: u64) {
        self.epochs[usize::from(network_of(key)) % EPOCHS].0.fetch_add(1, Ordering::Release);
    }

    /// Both candidate buckets, as the first slot of each, and the learn stripe.
    #[expect(clippy::cast_possible_truncation, reason = "takes a hash apart")]
    fn places(&self, key: u64) -> ([usize; 2], usize) {
        let wide = u128::from(key ^ self.seeds[0]) * u128::from(self.seeds[1] | 1);
        let hash = (wide ^ wide >> 64) as u64;
        let bucket = |bits: u64| (bits as u32 & self.bucket_mask) as usize * BUCKET;
        ([bucket(hash), bucket(hash >> 32)], (hash >> 58) as usize % STRIPES)
    }

    /// The valid word at `slot` if it belongs to `key`: word, key, word again, as a sequence lock.
    #[inline(always)]
    fn word_if(&self, slot: usize, key: u64) -> Option<u64> {
        if self.keys[slot].load(Ordering::Relaxed) != key {
            return None;
        }
        // Acquire with the Release of the writer's last store: a valid word means that its key is in place.
        let word = self.words[slot].load(Ordering::Acquire);
        let same = self.keys[slot].load(Ordering::Relaxed) == key;
        // The fence keeps the second look at the word behind the look at the key.
        fence(Ordering::Acquire);
        (same && word & VALID != 0 && self.words[slot].load(Ordering::Relaxed) == word).then_some(word)
    }

    /// Looks an address up. Writes nothing.
    #[inline]
    pub fn find(&self, network: NetworkId, mac: [u8; 6]) -> Option<Found> {
        let key = key_of(network, mac);
        let (buckets, _) = self.places(key);
        self.find_slot(key, buckets).map(|(slot, word)| Found {
            entry: EntryRef { slot: slot_number(slot), sequence: sequence_of(word) },
            port: port_of(word),
            movable: word & (STATIC | STICKY) == 0,
        })
    }

    /// What a decision rests on that nobody has an address: it holds until somebody may have. The address, if there is one now.
    ///
    /// # Errors
    /// Who has the address, since it was entered meanwhile.
    pub fn absent(&self, network: NetworkId, mac: [u8; 6]) -> Result<EntryRef, Found> {
        let (buckets, _) = self.places(key_of(network, mac));
        let at = self.arrivals(buckets[0]);
        // Acquire, with the Release in `learn_alone`: who sees an arrival sees the address. Before the look, so that an
        // address which the look misses changes the word afterwards.
        let sequence = sequence_of(self.words[at].load(Ordering::Acquire));
        match self.find(network, mac) {
            Some(found) => Err(found),
            None => Ok(EntryRef { slot: slot_number(at), sequence }),
        }
    }

    /// Place of the word that says of the bucket with this first slot when addresses came to it.
    fn arrivals(&self, bucket: usize) -> usize {
        self.keys.len() + bucket / BUCKET
    }

    fn find_slot(&self, key: u64, buckets: [usize; 2]) -> Option<(usize, u64)> {
        buckets.iter().flat_map(|&b| b..b + BUCKET).find_map(|slot| self.word_if(slot, key).map(|word| (slot, word)))
    }

    /// Whether an entry is still what it was. Its sequence alone says so: it rises with every change, removal among them.
    #[inline(always)]
    pub fn holds(&self, entry: EntryRef) -> bool {
        self.known().holds(entry)
    }

    /// Where what is looked at often lies: addresses and bytes. For who can make it lie in large pages.
    pub fn spans(&self) -> [(usize, usize); 2] {
        [self.keys.span(), self.words.span()]
    }

    /// The part that [`MacTable::holds`] looks at, for who asks often.
    #[inline(always)]
    pub(crate) fn known(&self) -> Known<'_> {
        Known(&self.words)
    }

    /// Whether the port may have one more address entered in this second, on whichever core.
    pub fn may_learn(&self, port: PortId, now: u32) -> bool {
        self.budgets.get(usize::from(port)).is_some_and(|port| port.0.learns.take(now, LEARNS_PER_SECOND))
    }

    /// Whether the port may take one more address over from another one in this second.
    pub fn may_move(&self, port: PortId, now: u32) -> bool {
        self.budgets.get(usize::from(port)).is_some_and(|port| port.0.moves.take(now, MOVES_PER_SECOND))
    }

    /// Notes that the address behind `entry` sent. Called at most once a second and flow.
    pub fn touch(&self, entry: EntryRef, now: u32) {
        if let Some(seen) = self.seen.get(entry.slot as usize)
            && seen.load(Ordering::Relaxed) != now
        {
            seen.store(now, Ordering::Relaxed);
        }
    }

    /// Enters an address that [`MacTable::find`] did not find.
    ///
    /// Never waits: two cores that learn at the same place at once would enter an address twice, so the second one gives up
    /// for this frame.
    pub fn learn(
        &self,
        network: NetworkId,
        mac: [u8; 6],
        port: PortId,
        kind: Kind,
        address_max: u32,
        now: u32,
    ) -> Learned {
        let key = key_of(network, mac);
        let (buckets, stripe) = self.places(key);
        // Acquire and Release of this flag order learners of the same key among themselves; readers need none of it.
        // (Not a swap, which would be as right, but which loom takes to set the flag behind its release.)
        if self.learning[stripe].compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Learned::NotNow;
        }
        let learned = self.learn_alone(key, buckets, port, kind, address_max, now);
        self.learning[stripe].store(false, Ordering::Release);
        learned
    }

    fn learn_alone(
        &self,
        key: u64,
        buckets: [usize; 2],
        port: PortId,
        kind: Kind,
        address_max: u32,
        now: u32,
    ) -> Learned {
        if self.find_slot(key, buckets).is_some() {
            return Learned::NotNow;
        }
        let Some(count) = self.per_port.get(usize::from(port)) else { return Learned::NotNow };
        if count.fetch_add(1, Ordering::Relaxed) >= address_max {
            count.fetch_sub(1, Ordering::Relaxed);
            return Learned::PortFull;
        }
        for slot in buckets.iter().flat_map(|&b| b..b + BUCKET) {
            // A key of zero is a free slot: zero is no valid address. AcqRel: behind whoever freed it.
            if self.keys[slot].compare_exchange(0, key, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.seen[slot].store(now, Ordering::Relaxed);
                let word = next_word(self.words[slot].load(Ordering::Relaxed), port, kind);
                // Release, with the Acquire in `word_if`: the key is there before the word is valid.
                self.words[slot].store(word, Ordering::Release);
                // Release, with the Acquire in `absent` and `holds`: behind the address itself.
                self.words[self.arrivals(buckets[0])].fetch_add(1, Ordering::Release);
                self.changed(key);
                return Learned::Yes(EntryRef { slot: slot_number(slot), sequence: sequence_of(word) });
            }
        }
        count.fetch_sub(1, Ordering::Relaxed);
        Learned::NotNow
    }

    /// The address was seen behind another port: rewrites that one entry. False when somebody else changed it meanwhile,
    /// it may not move, or `port` has as many addresses as it may.
    pub fn move_to(&self, found: Found, port: PortId, kind: Kind, address_max: u32, now: u32) -> bool {
        let slot = found.entry.slot as usize;
        let (Some(word), Some(to), Some(from)) =
            (self.words.get(slot), self.per_port.get(usize::from(port)), self.per_port.get(usize::from(found.port)))
        else {
            return false;
        };
        let before = word.load(Ordering::Acquire);
        if !found.movable || before & VALID == 0 || sequence_of(before) != found.entry.sequence {
            return false;
        }
        if to.fetch_add(1, Ordering::Relaxed) >= address_max {
            to.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let after = next_word(before, port, kind);
        let moved = word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if moved {
            from.fetch_sub(1, Ordering::Relaxed);
            self.seen[slot].store(now, Ordering::Relaxed);
            // The key can't be another's: an entry that goes, goes with its word.
            self.changed(self.keys[slot].load(Ordering::Relaxed));
        } else {
            to.fetch_sub(1, Ordering::Relaxed);
        }
        moved
    }

    /// Removes what `port` learned, its sticky address too; entries from the topology stay. For a guest that disconnected.
    pub fn forget_port(&self, port: PortId) -> usize {
        self.remove_where(|word, _| port_of(word) == port && word & STATIC == 0)
    }

    /// Removes a port with all its entries. For a port that is no longer in the topology.
    pub fn remove_port(&self, port: PortId) -> usize {
        self.remove_where(|word, _| port_of(word) == port)
    }

    /// Removes learned addresses that have not sent for longer than `age_max` seconds.
    pub fn age(&self, now: u32, age_max: u32) -> usize {
        self.remove_where(|word, seen| word & (STATIC | STICKY) == 0 && now.saturating_sub(seen) > age_max)
    }

    fn remove_where(&self, gone: impl Fn(u64, u32) -> bool) -> usize {
        let mut n_removed = 0;
        for slot in 0..self.keys.len() {
            let word = self.words[slot].load(Ordering::Acquire);
            if word & VALID == 0 || !gone(word, self.seen[slot].load(Ordering::Relaxed)) {
                continue;
            }
            let invalid = u64::from(sequence_of(word).wrapping_add(1));
            // Release: who sees the key gone sees the word invalid before it.
            if self.words[slot].compare_exchange(word, invalid, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                let key = self.keys[slot].load(Ordering::Relaxed);
                self.keys[slot].store(0, Ordering::Release);
                self.changed(key);
                if let Some(count) = self.per_port.get(usize::from(port_of(word))) {
                    count.fetch_sub(1, Ordering::Relaxed);
                }
                n_removed += 1;
            }
        }
        n_removed
    }

    /// Every address, for a report. A snapshot entry by entry, not of one moment.
    pub fn rows(&self) -> Vec<Row> {
        (0..self.keys.len())
            .filter_map(|slot| {
                let key = self.keys[slot].load(Ordering::Acquire);
                let word = self.word_if(slot, key)?;
                (key != 0).then(|| row_of(key, word, self.seen[slot].load(Ordering::Relaxed)))
            })
            .collect()
    }
}

fn slot_number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

#[cfg(all(test, not(loom)))]
#[path = "mac_tests.rs"]
mod tests;
