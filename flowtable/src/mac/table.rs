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
//! A slot that is needed for an address of a port which may have only some, or for one from the topology, is taken from the one of
//! lesser rank that was silent for longest ([`Kind`]): what comes from a wire fills no bucket for good.
//!
//! [`MacTable::epoch`] changes whenever anything in its networks does. It makes nothing stale, it only saves work: while it
//! stands still, nothing needs asking whether it holds.

use crate::ids::{NetworkId, PortId};
use crate::mac::budget::Budget;
use crate::mac::dispute::{Claim, Dispute};
use crate::mac::owner::{Left, Moves, Owners};
use crate::mac::reserve::Reserves;
use crate::memory::cache_line::{Apart, Words, prefetch};
use crate::memory::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::network::{Ingress, SourcePolicy};
use crate::wire::header::spread;

/// Slots of a bucket. (A checker that tries everything needs small ones.)
const BUCKET: usize = if cfg!(loom) { 2 } else { 8 };
/// Stripes of the learn lock; see [`MacTable::learn`].
const STRIPES: usize = if cfg!(loom) { 1 } else { 64 };
/// Networks whose changes are told apart.
const EPOCHS: usize = if cfg!(loom) { 1 } else { 64 };
/// Times that a stripe is tried whose holder a core can't go without; each is some tens of nanoseconds, and so is what the holder does.
const TRIES: usize = if cfg!(loom) { 2 } else { 64 };
/// Looks at an entry that is being changed.
const LOOKS: usize = 3;
/// New addresses and moves that one port may cause in a second. (Of a port that may have only some addresses, their number is the
/// budget for new ones.)
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
    /// How it came to be known.
    pub kind: Kind,
    /// Whether it is another port's own, which takes no frames for now: see [`MacTable::rest`].
    pub is_away: bool,
}

/// How an entry came to be, and what may happen to it. The lower ones give way to those above them where there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Learned from a port that may send from any address, such as an uplink: ages, and moves to where it was seen last.
    Learned,
    /// The same, of a port that may have so many addresses and no more.
    Counted,
    /// The first address of a port without `mac:`: stays until another guest comes.
    Sticky,
    /// From the topology: never aged or removed with its guest.
    Static,
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
    /// The port whose own it is, which takes no frames for now; none: it is where it belongs.
    pub away_from: Option<PortId>,
    /// Whether another port has claimed it, and the port has sent nothing since.
    pub is_disputed: bool,
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
    /// By slot; see [`Dispute`].
    disputes: Words,
    owners: Owners,
    per_port: Box<[AtomicU32]>,
    reserves: Reserves,
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
const COUNTED: u64 = 1 << 51;
/// Its port is the uplink's, its owner another one, which takes no frames for now.
const AWAY: u64 = 1 << 52;

#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
fn port_of(word: u64) -> PortId {
    (word >> 32) as u16
}

#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
fn sequence_of(word: u64) -> u32 {
    word as u32
}

fn kind_of(word: u64) -> Kind {
    match word & (STATIC | STICKY | COUNTED) {
        0 => Kind::Learned,
        COUNTED => Kind::Counted,
        STATIC => Kind::Static,
        _ => Kind::Sticky,
    }
}

/// The word that follows `before`, for an entry of `port`.
fn next_word(before: u64, port: PortId, kind: Kind) -> u64 {
    let flags = match kind {
        Kind::Static => STATIC,
        Kind::Sticky => STICKY,
        Kind::Counted => COUNTED,
        Kind::Learned => 0,
    };
    VALID | flags | u64::from(port) << 32 | next_sequence(before)
}

fn next_sequence(before: u64) -> u64 {
    u64::from(sequence_of(before).wrapping_add(1))
}

fn key_of(network: NetworkId, mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | u64::from(network)
}

#[expect(clippy::cast_possible_truncation, reason = "takes a key apart")]
fn network_of(key: u64) -> NetworkId {
    key as u16
}

fn mac_of(key: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = key.to_be_bytes();
    [a, b, c, d, e, f]
}

fn found_at(slot: usize, word: u64) -> Found {
    let (kind, is_away) = (kind_of(word), word & AWAY != 0);
    let entry = EntryRef { slot: slot_number(slot), sequence: sequence_of(word) };
    Found { entry, port: port_of(word), movable: kind < Kind::Sticky, kind, is_away }
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

    /// The valid word at `slot` if it belongs to `key`.
    #[inline(always)]
    fn word_if(&self, slot: usize, key: u64) -> Option<u64> {
        if self.keys[slot].load(Ordering::Relaxed) != key {
            return None;
        }
        // An entry that is just changed is there before and after; of one that is changed again and again somebody else will know.
        (0..LOOKS).find_map(|_| self.stable_word(slot, key))
    }

    /// Word, key, word again, as a sequence lock.
    #[inline(always)]
    fn stable_word(&self, slot: usize, key: u64) -> Option<u64> {
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
        self.find_slot(key, buckets).map(|(slot, word)| found_at(slot, word))
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

    /// What a network may learn beyond what its uplink's port may.
    pub(crate) fn reserves(&self) -> &Reserves {
        &self.reserves
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

    /// Addresses that are the port's in the table.
    pub fn n_addresses(&self, port: PortId) -> u32 {
        self.per_port.get(usize::from(port)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Enters an address that [`MacTable::find`] did not find; one that the port has by now is as good.
    ///
    /// Never waits for long: two cores that learn at the same place at once would enter an address twice, so the second one gives up
    /// for this frame; at once if all that is lost is a hint, else after some tries.
    pub fn learn(
        &self,
        network: NetworkId,
        mac: [u8; 6],
        port: PortId,
        kind: Kind,
        address_max: u32,
        now: u32,
    ) -> Learned {
        if self.n_addresses(port) >= address_max {
            return Learned::PortFull;
        }
        let key = key_of(network, mac);
        let (buckets, stripe) = self.places(key);
        if !self.lock(stripe, if kind == Kind::Learned { 1 } else { TRIES }) {
            return Learned::NotNow;
        }
        let learned = self.learn_alone(key, buckets, port, kind, address_max, now);
        self.learning[stripe].store(false, Ordering::Release);
        learned
    }

    fn lock(&self, stripe: usize, n_tries: usize) -> bool {
        // Acquire and Release of this flag order learners of the same key among themselves; readers need none of it.
        // (Not a swap, which would be as right, but which loom takes to set the flag behind its release.)
        let attempt =
            || self.learning[stripe].compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        (0..n_tries).any(|n| {
            if n > 0 {
                crate::memory::sync::spin_loop();
            }
            attempt()
        })
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
        if let Some((slot, word)) = self.find_slot(key, buckets) {
            let found = found_at(slot, word);
            return if found.port == port { Learned::Yes(found.entry) } else { Learned::NotNow };
        }
        let Some(count) = self.per_port.get(usize::from(port)) else { return Learned::NotNow };
        if count.fetch_add(1, Ordering::Relaxed) >= address_max {
            count.fetch_sub(1, Ordering::Relaxed);
            return Learned::PortFull;
        }
        let Some(slot) = self.free_slot(key, buckets).or_else(|| self.vacated_slot(key, buckets, kind)) else {
            count.fetch_sub(1, Ordering::Relaxed);
            return Learned::NotNow;
        };
        if kind == Kind::Learned {
            self.reserves.entered(network_of(key));
        }
        self.seen[slot].store(now, Ordering::Relaxed);
        self.disputes[slot].store(0, Ordering::Relaxed);
        let word = next_word(self.words[slot].load(Ordering::Relaxed), port, kind);
        // Release, with the Acquire in `word_if`: the key is there before the word is valid.
        self.words[slot].store(word, Ordering::Release);
        // Release, with the Acquire in `absent` and `holds`: behind the address itself.
        self.words[self.arrivals(buckets[0])].fetch_add(1, Ordering::Release);
        self.changed(key);
        Learned::Yes(found_at(slot, word).entry)
    }

    /// A slot that was free, and is the key's now; its word is not valid yet.
    fn free_slot(&self, key: u64, buckets: [usize; 2]) -> Option<usize> {
        // A key of zero is a free slot: zero is no valid address. AcqRel: behind whoever freed it.
        let take = |slot: usize| self.keys[slot].compare_exchange(0, key, Ordering::AcqRel, Ordering::Relaxed);
        buckets.into_iter().flat_map(|b| b..b + BUCKET).find(|&slot| take(slot).is_ok())
    }

    /// The same of one whose address gives way to one of this kind: of those of the least rank, the one that was silent for longest.
    #[cold]
    fn vacated_slot(&self, key: u64, buckets: [usize; 2], kind: Kind) -> Option<usize> {
        let slots = buckets.into_iter().flat_map(|b| b..b + BUCKET);
        let rank = |slot: usize| {
            let word = self.words[slot].load(Ordering::Acquire);
            let is_less = word & VALID != 0 && kind_of(word) < kind;
            is_less.then(|| (kind_of(word), self.seen[slot].load(Ordering::Relaxed), slot, word))
        };
        let (_, _, slot, word) = slots.filter_map(rank).min()?;
        // Whoever makes the word invalid has the slot; nobody takes it while its key isn't zero.
        self.invalidate(slot, word)?;
        // Release: who sees the key gone sees the word invalid before it.
        self.keys[slot].store(key, Ordering::Release);
        Some(slot)
    }

    /// The address was seen behind another port: rewrites that one entry. False when somebody else changed it meanwhile,
    /// it may not move, or `port` has as many addresses as it may.
    pub fn move_to(&self, found: Found, port: PortId, kind: Kind, address_max: u32, now: u32) -> bool {
        found.movable && self.take_over(found, port, kind, false, address_max, now)
    }

    /// The same of any address, for who has a right to it. `is_away`: it is its owner's nevertheless.
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
        let (Some(word), Some(to), Some(from)) =
            (self.words.get(slot), self.per_port.get(usize::from(port)), self.per_port.get(usize::from(found.port)))
        else {
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
        let moved = word.compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if moved {
            from.fetch_sub(1, Ordering::Relaxed);
            self.seen[slot].store(now, Ordering::Relaxed);
            // The key can't be another's: an entry that goes, goes with its word.
            let key = self.keys[slot].load(Ordering::Relaxed);
            self.changed(key);
            match (kind_of(before) == Kind::Learned, kind == Kind::Learned) {
                (false, true) => self.reserves.entered(network_of(key)),
                (true, false) => self.reserves.left(network_of(key)),
                _ => {}
            }
            if !is_away {
                // The holder before was claimed from; of this one nothing was heard that it could have answered.
                self.heard(found.entry);
            }
        } else {
            to.fetch_sub(1, Ordering::Relaxed);
        }
        moved
    }

    /// What rests on the entry is to be decided anew. False when it had changed meanwhile.
    fn bump(&self, slot: usize, before: u64) -> bool {
        let after = before & !u64::from(u32::MAX) | next_sequence(before);
        let bumped = self.words[slot].compare_exchange(before, after, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if bumped {
            self.changed(self.keys[slot].load(Ordering::Relaxed));
        }
        bumped
    }

    /// Port `by` sends from an address that is on the other side of the wire: whether that proves that it has it; see
    /// [`crate::mac::dispute`]. `tick`: 2^20 ns of the switch's clock. `is_firm`: the holder can't be the origin of the frame, and what it
    /// sends itself ends nothing.
    pub fn claim(&self, found: Found, by: PortId, tick: u32, is_firm: bool) -> bool {
        let slot = found.entry.slot as usize;
        let (Some(dispute), Some(word)) = (self.disputes.get(slot), self.words.get(slot)) else { return false };
        let before = dispute.load(Ordering::Relaxed);
        let (after, is_first, is_proven) = match Dispute(before).claim(by, tick, is_firm) {
            Claim::Ignored => return false,
            Claim::Counts { after, is_first } => (after, is_first, false),
            Claim::Proven { after } => (after, false, true),
        };
        // Where it fails, another core's claim counts. Relaxed: the bump shows it.
        if dispute.compare_exchange(before, after.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        let before = word.load(Ordering::Acquire);
        if is_first && before & VALID != 0 && sequence_of(before) == found.entry.sequence {
            // With the Acquire of who sees that the entry changed: its look at the dispute comes later.
            self.bump(slot, before);
        }
        is_proven
    }

    /// The port that has the address sent from it.
    pub fn heard(&self, entry: EntryRef) {
        let Some(dispute) = self.disputes.get(entry.slot as usize) else { return };
        let now = Dispute(dispute.load(Ordering::Relaxed));
        if now.n_claims() > 0 {
            dispute.store(now.heard().0, Ordering::Relaxed);
        }
    }

    /// Removes what `port` learned; its own address stays, from the topology or sticky. For a guest that disconnected.
    pub fn forget_port(&self, port: PortId) -> usize {
        self.remove_where(|word, _| port_of(word) == port && word & (STATIC | STICKY) == 0)
    }

    /// Removes a port with all its entries. For a port that is no longer in the topology.
    pub fn remove_port(&self, port: PortId) -> usize {
        self.owners.unpin(port);
        self.remove_where(|word, _| port_of(word) == port)
    }

    /// Removes learned addresses that have not sent for longer than `age_max` seconds.
    pub fn age(&self, now: u32, age_max: u32) -> usize {
        self.owners.set_now(now);
        self.remove_where(|word, seen| word & (STATIC | STICKY) == 0 && now.saturating_sub(seen) > age_max)
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

    fn remove(&self, slot: usize, word: u64) -> bool {
        if self.invalidate(slot, word).is_none() {
            return false;
        }
        // Release: who sees the key gone sees the word invalid before it.
        self.keys[slot].store(0, Ordering::Release);
        true
    }

    /// Ends an entry; the slot is the caller's then. None: another one changed it.
    fn invalidate(&self, slot: usize, word: u64) -> Option<()> {
        self.words[slot].compare_exchange(word, next_sequence(word), Ordering::AcqRel, Ordering::Relaxed).ok()?;
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

    /// Every address, for a report. A snapshot entry by entry, not of one moment.
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
                    is_disputed: Dispute(self.disputes[slot].load(Ordering::Relaxed)).n_claims() > 0,
                    seen: self.seen[slot].load(Ordering::Relaxed),
                })
            })
            .collect()
    }
}

/// Ports and their own addresses.
impl MacTable {
    /// Whether the port may send from the address as far as its own one says: it has none yet, or this.
    pub(crate) fn may_stick(&self, port: PortId, network: NetworkId, mac: [u8; 6]) -> bool {
        let pin = self.owners.pin(port);
        pin == 0 || pin == key_of(network, mac)
    }

    /// The address is the port's own from now on, if it has no other. Whether it is.
    pub fn pin(&self, port: PortId, network: NetworkId, mac: [u8; 6]) -> bool {
        self.owners.try_pin(port, key_of(network, mac))
    }

    /// Another guest is at the port, which is down: the address that stuck is nobody's any more, or, if the port took it a short time
    /// ago, the uplink's once more.
    pub fn unpin(&self, port: PortId) {
        let (Left { key, taken_from }, now) = (self.owners.unpin(port), self.owners.now());
        if taken_from.is_some() {
            self.owners.doubt(port, now);
        }
        let (buckets, _) = self.places(key);
        let found = if key == 0 { None } else { self.find_slot(key, buckets) };
        if let Some((slot, word)) = found.filter(|&(slot, word)| word & STICKY != 0 && self.owner(slot, word) == port) {
            let goes_back = |uplink| self.take_over(found_at(slot, word), uplink, Kind::Learned, false, u32::MAX, now);
            if !taken_from.is_some_and(goes_back) {
                self.remove(slot, word);
            }
        }
    }

    /// Ports to which an address stuck: network and address.
    pub fn pins(&self) -> Vec<(PortId, NetworkId, [u8; 6])> {
        let pins = (0..self.owners.n_ports()).zip(0..).map(|(_, port)| (port, self.owners.pin(port)));
        pins.filter(|&(_, key)| key != 0).map(|(port, key)| (port, network_of(key), mac_of(key))).collect()
    }

    /// Whether the port's guest may have used an address elsewhere that is found behind the uplink: it did so here, was started just
    /// now, or nobody uses it there.
    pub(crate) fn may_be_moved(&self, found: Found, to: PortId, network: NetworkId, mac: [u8; 6], now: u32) -> bool {
        let seen = self.seen.get(found.entry.slot as usize).map_or(0, |seen| seen.load(Ordering::Relaxed));
        now.saturating_sub(seen) >= self.owners.silence_needed(to, key_of(network, mac), now)
    }

    /// How often addresses of the port went to its network's uplink, and came back.
    pub fn moves(&self, port: PortId) -> Moves {
        self.owners.moves(port)
    }

    /// Whether none of the port's receive rings is started.
    pub fn is_resting(&self, port: PortId) -> bool {
        self.owners.is_resting(port)
    }

    pub(crate) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// None of the port's receive rings is started any more: until [`MacTable::start`] its addresses may live behind the uplink of
    /// their network. Nothing that was decided of them holds.
    pub fn rest(&self, port: PortId) {
        if self.owners.set_resting(port, true) {
            self.bump_port(port);
        }
    }

    /// A receive ring of the port is started, and what is its own is its own again: its address from the topology wherever it is, the
    /// one that stuck to it if it went away while the port rested.
    pub fn start(&self, from: &Ingress, now: u32) {
        self.owners.begin(from.port, now);
        if !self.owners.set_resting(from.port, false) {
            return;
        }
        let own = match from.source {
            SourcePolicy::Fixed(mac) => Some((key_of(from.network, mac), Kind::Static)),
            _ => Some((self.owners.pin(from.port), Kind::Sticky)).filter(|&(key, _)| key != 0),
        };
        if let Some((key, kind)) = own {
            self.bring_home(key, kind, from.port, now);
        }
        self.bump_port(from.port);
    }

    /// Where another core changes the entry, it is looked at again; every change but the last is one of somebody who knew that the
    /// port rested, and each core can have at most one of those left.
    fn bring_home(&self, key: u64, kind: Kind, port: PortId, now: u32) {
        let (buckets, _) = self.places(key);
        loop {
            let Some((slot, word)) = self.find_slot(key, buckets) else {
                self.learn(network_of(key), mac_of(key), port, kind, u32::MAX, now);
                return;
            };
            let found = found_at(slot, word);
            let is_done = match found {
                _ if found.port == port => self.bump(slot, word),
                _ if kind == Kind::Static || found.is_away && self.owner(slot, word) == port => {
                    self.take_over(found, port, kind, false, u32::MAX, now)
                }
                // It was lost before, and has to be won.
                _ => true,
            };
            if is_done {
                return;
            }
        }
    }

    /// Port `to` is the uplink's, behind which an address is used that is its owner's, who rests. False when somebody else changed it meanwhile.
    pub fn send_away(&self, found: Found, to: PortId, now: u32) -> bool {
        if let Some(dispute) = self.disputes.get(found.entry.slot as usize) {
            // Nobody claims an address that is away, so there is a place for its owner.
            dispute.store(Dispute::owned(found.port).0, Ordering::Relaxed);
        }
        let went = self.take_over(found, to, found.kind, true, u32::MAX, now);
        if went {
            self.owners.went_away(found.port);
        }
        went
    }

    /// Whose address it is, wherever it is.
    fn owner(&self, slot: usize, word: u64) -> PortId {
        if word & AWAY == 0 { port_of(word) } else { Dispute(self.disputes[slot].load(Ordering::Relaxed)).by() }
    }

    fn bump_port(&self, port: PortId) {
        for slot in 0..self.keys.len() {
            let word = self.words[slot].load(Ordering::Acquire);
            if word & VALID != 0 && port_of(word) == port {
                // Where it fails, somebody else has changed it.
                self.bump(slot, word);
            }
        }
    }
}

fn slot_number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

#[cfg(all(test, not(loom)))]
#[path = "table_tests.rs"]
mod tests;
