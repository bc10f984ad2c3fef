//! Entries of the flow table: a cache line each, as many as the table may hold, allocated at the
//! start.
//!
//! An entry's first word holds a version, which makes it a sequence lock: odd during a write.
//! Readers copy and then check that the version is unchanged; they never wait and never write. A
//! writer takes the lock with one compare-and-swap, and gives up if another one holds it. Entries
//! are never freed to the system: one that was reused holds another key.
//!
//! An entry belongs to one slot of the table, to one core that is about to fill it, or to the list
//! of free ones.

use crate::action::Action;
use crate::cache::key::{Key, LONG, SHORT};
use crate::ids::PortId;
use crate::mac::entry::EntryRef;
use crate::memory::cache_line::{Apart, Line, Lines, Words, prefetch, zeroed};
use crate::memory::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// A decision and what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is done.
    pub action: Action,
    /// The greatest of the generations that it depends on.
    pub stamp: u32,
    /// The source address's entry in the MAC table.
    pub src: EntryRef,
    /// The destination's entry, or the word that changes when it is entered.
    pub dst: EntryRef,
}

/// An entry as it was read.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// Its number.
    pub(crate) entry: u32,
    version: u32,
    /// Second in which it was last known to be in use.
    pub seen: u32,
    /// Its decision.
    pub decision: Decision,
}

/// All entries. Words of each: version and second last seen; the key's first four; action and
/// stamp; source; destination.
#[derive(Debug)]
pub(crate) struct Slab {
    lines: Lines,
    /// The rest of long keys, not touched until there are any.
    long: Words,
    free: Free,
}

const KEY: usize = 1;
const ACTION: usize = KEY + SHORT;
const SRC: usize = ACTION + 1;
const DST: usize = SRC + 1;
const REST: usize = LONG - SHORT;

impl Slab {
    pub(crate) fn new(capacity: u32) -> Self {
        let n = capacity as usize;
        Self {
            lines: Lines::new(n),
            long: Words::new(n * REST),
            free: Free::new(capacity),
        }
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.free.capacity
    }

    pub(crate) fn spans(&self) -> [(usize, usize); 2] {
        [self.lines.span(), self.long.span()]
    }

    /// Prefetches an entry.
    #[inline(always)]
    pub(crate) fn prefetch(&self, entry: u32) {
        self.lines.prefetch(entry as usize);
    }

    /// Takes a free entry, if there is one.
    pub(crate) fn take(&self) -> Option<u32> {
        self.free.take()
    }

    /// Frees an entry that no slot refers to any more.
    pub(crate) fn give(&self, entry: u32) {
        self.free.give(entry);
    }

    /// The entry if it is this key's, and not being written.
    #[inline(always)]
    pub(crate) fn get(&self, entry: u32, key: &Key) -> Option<Hit> {
        let line = self.lines.line(entry as usize);
        let before = Stable::begin(line)?;
        let short = key.short();
        let mut differs = 0;
        for (word, wanted) in line[KEY..ACTION].iter().zip(short) {
            differs |= word.load(Ordering::Relaxed) ^ wanted;
        }
        if key.is_long() {
            for (word, wanted) in self.rest(entry).iter().zip(key.long()) {
                differs |= word.load(Ordering::Relaxed) ^ wanted;
            }
        }
        if differs != 0 {
            return None;
        }
        before.finish(line, entry)
    }

    /// The MAC entries that it depends on. A hint: it may be being written.
    #[inline(always)]
    pub(crate) fn dependencies(&self, entry: u32) -> [EntryRef; 2] {
        let line = self.lines.line(entry as usize);
        [SRC, DST].map(|at| EntryRef::from_bits(line[at].load(Ordering::Relaxed)))
    }

    /// The entry, whatever its key is.
    pub(crate) fn peek(&self, entry: u32) -> Option<(PortId, Hit)> {
        let line = self.lines.line(entry as usize);
        let before = Stable::begin(line)?;
        let port = self.port(entry);
        Some((port, before.finish(line, entry)?))
    }

    /// The key of its flow, if it is not just being written.
    pub(crate) fn key(&self, entry: u32) -> Option<Key> {
        let line = self.lines.line(entry as usize);
        let before = Stable::begin(line)?;
        let mut words = [0; LONG];
        for (word, at) in words.iter_mut().zip(&line[KEY..ACTION]) {
            *word = at.load(Ordering::Relaxed);
        }
        let mut key = Key(words);
        if key.is_long() {
            for (word, at) in key.0[SHORT..].iter_mut().zip(self.rest(entry)) {
                *word = at.load(Ordering::Relaxed);
            }
        }
        before.finish(line, entry).map(|_| key)
    }

    /// Entries that were ever used: those below this number.
    pub(crate) fn n_fresh(&self) -> u32 {
        let n = self.free.n_fresh.0.load(Ordering::Relaxed);
        n.min(self.free.capacity)
    }

    /// The ingress port of its flow. Exact for its owner, a hint for others.
    pub(crate) fn port(&self, entry: u32) -> PortId {
        let second = self.lines.line(entry as usize)[KEY + 1].load(Ordering::Relaxed);
        Key([0, second, 0, 0, 0, 0, 0]).port()
    }

    /// Fills an entry that the caller owns. False: another core that found it before is just
    /// writing to it.
    pub(crate) fn fill(&self, entry: u32, key: &Key, decision: &Decision, now: u32) -> bool {
        let line = self.lines.line(entry as usize);
        let Some(lock) = Lock::take(line, line[0].load(Ordering::Relaxed)) else {
            return false;
        };
        for (word, value) in line[KEY..ACTION].iter().zip(key.short()) {
            word.store(value, Ordering::Relaxed);
        }
        if key.is_long() {
            for (word, value) in self.rest(entry).iter().zip(key.long()) {
                word.store(value, Ordering::Relaxed);
            }
        }
        lock.write(line, decision, now);
        true
    }

    /// Writes another decision into an entry that was found. False: it was written to since.
    pub(crate) fn update(&self, hit: &Hit, decision: &Decision, now: u32) -> bool {
        let line = self.lines.line(hit.entry as usize);
        match Lock::take(line, head(hit.version, hit.seen)) {
            Some(lock) => {
                lock.write(line, decision, now);
                true
            }
            None => false,
        }
    }

    /// Marks the flow as in use, at most once a second and flow. May fail, which does no harm.
    pub(crate) fn touch(&self, hit: &Hit, now: u32) {
        let (before, after) = (head(hit.version, hit.seen), head(hit.version, now));
        // Relaxed: it publishes nothing, and writers compare the whole word.
        let _ = self.lines.line(hit.entry as usize)[0].compare_exchange(
            before,
            after,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    #[inline(always)]
    fn rest(&self, entry: u32) -> &[AtomicU64] {
        &self.long[entry as usize * REST..][..REST]
    }

    /// Prefetches the rest of a long key.
    #[inline(always)]
    pub(crate) fn prefetch_rest(&self, entry: u32) {
        prefetch(&self.rest(entry)[0]);
    }
}

/// An entry's first word.
#[inline(always)]
fn head(version: u32, seen: u32) -> u64 {
    u64::from(version) << 32 | u64::from(seen)
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// A reader's half of the sequence lock.
struct Stable {
    version: u32,
    seen: u32,
}

impl Stable {
    #[inline(always)]
    fn begin(line: &Line) -> Option<Self> {
        // Acquire, pairs with the Release at the end of `Lock::write`: sees what was written
        // before.
        let (version, seen) = halves(line[0].load(Ordering::Acquire));
        (version & 1 == 0).then_some(Self { version, seen })
    }

    #[inline(always)]
    fn finish(self, line: &Line, entry: u32) -> Option<Hit> {
        let [action, src, dst] = [ACTION, SRC, DST].map(|at| line[at].load(Ordering::Relaxed));
        // Pairs with the Release fence in `Lock::take`: a reader that has read a word of a later
        // writer sees the later version too.
        fence(Ordering::Acquire);
        let (version, _) = halves(line[0].load(Ordering::Relaxed));
        let (action, stamp) = halves(action);
        let decision = Decision {
            action: Action::from_bits(action),
            stamp,
            src: EntryRef::from_bits(src),
            dst: EntryRef::from_bits(dst),
        };
        (version == self.version).then_some(Hit {
            entry,
            version,
            seen: self.seen,
            decision,
        })
    }
}

/// A writer's half: held while the version is odd.
struct Lock {
    version: u32,
}

impl Lock {
    #[inline(always)]
    fn take(line: &Line, before: u64) -> Option<Self> {
        let (version, seen) = halves(before);
        if version & 1 != 0 {
            return None;
        }
        let odd = head(version.wrapping_add(1), seen);
        // Acquire: after the stores of the previous writer.
        line[0]
            .compare_exchange(before, odd, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        // Keeps the stores below after the odd version; pairs with the Acquire fence in
        // `Stable::finish`.
        fence(Ordering::Release);
        Some(Self { version })
    }

    #[inline(always)]
    fn write(self, line: &Line, decision: &Decision, now: u32) {
        line[ACTION].store(
            head(decision.action.bits(), decision.stamp),
            Ordering::Relaxed,
        );
        line[SRC].store(decision.src.bits(), Ordering::Relaxed);
        line[DST].store(decision.dst.bits(), Ordering::Relaxed);
        // Release, pairs with the Acquire in `Stable::begin`.
        line[0].store(head(self.version.wrapping_add(2), now), Ordering::Release);
    }
}

/// Free entries: those never used, and a stack of those given back.
#[derive(Debug)]
struct Free {
    capacity: u32,
    n_fresh: Apart<AtomicU32>,
    /// How often the stack was changed, and the topmost entry plus one. The count distinguishes a
    /// top from the same one later (ABA).
    top: Apart<AtomicU64>,
    /// By entry: the one below it on the stack, plus one.
    below: Box<[AtomicU64]>,
}

impl Free {
    fn new(capacity: u32) -> Self {
        let below = zeroed(capacity as usize);
        Self {
            capacity,
            n_fresh: Apart(AtomicU32::new(0)),
            top: Apart(AtomicU64::new(0)),
            below,
        }
    }

    fn take(&self) -> Option<u32> {
        if let Some(entry) = self.pop() {
            return Some(entry);
        }
        if self.n_fresh.0.load(Ordering::Relaxed) >= self.capacity {
            return None;
        }
        let n = self.n_fresh.0.fetch_add(1, Ordering::Relaxed);
        if n < self.capacity {
            return Some(n);
        }
        // So that the count can't grow until it wraps.
        self.n_fresh.0.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn pop(&self) -> Option<u32> {
        // Acquire, pairs with the Release in `give`: the entry below the top is valid.
        let mut top = self.top.0.load(Ordering::Acquire);
        loop {
            let (n, entry) = halves(top);
            let entry = entry.checked_sub(1)?;
            let (_, below) = halves(self.below[entry as usize].load(Ordering::Relaxed));
            let after = head(n.wrapping_add(1), below);
            match self
                .top
                .0
                .compare_exchange_weak(top, after, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return Some(entry),
                Err(other) => top = other,
            }
        }
    }

    fn give(&self, entry: u32) {
        let mut top = self.top.0.load(Ordering::Relaxed);
        loop {
            let (n, below) = halves(top);
            self.below[entry as usize].store(u64::from(below), Ordering::Relaxed);
            let after = head(n.wrapping_add(1), entry + 1);
            match self
                .top
                .0
                .compare_exchange_weak(top, after, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(other) => top = other,
            }
        }
    }
}
