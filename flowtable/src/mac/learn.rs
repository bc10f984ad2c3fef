//! Learning addresses: at once where a slot is free, else in place of one of lesser rank.

use crate::ids::{NetworkId, PortId};
use crate::mac::entry::{Kind, Learned, VALID, found_at, key_of, kind_of, network_of, next_word};
use crate::mac::table::{BUCKET, MacTable};
use crate::memory::sync::Ordering;

/// Tries to take a stripe's lock for an address that must not be missed; one takes some tens of
/// nanoseconds, and so does what the holder does.
const TRIES: usize = if cfg!(loom) { 2 } else { 64 };

impl MacTable {
    /// Enters an address that [`MacTable::find`] did not find; one that the port has by now is as
    /// good.
    ///
    /// Never waits for long: two cores that learn at the same place at once would enter an address
    /// twice, so the second one gives up for this frame; at once if all that is lost is a hint,
    /// else after some tries.
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
        // Acquire and Release of this flag order learners of the same key among themselves; readers
        // need none of it. (Not a swap, which would be as right, but which loom takes to set the
        // flag behind its release.)
        let attempt = || {
            self.learning[stripe]
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
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
            return if found.port == port {
                Learned::Yes(found.entry)
            } else {
                Learned::NotNow
            };
        }
        let Some(count) = self.per_port.get(usize::from(port)) else {
            return Learned::NotNow;
        };
        if count.fetch_add(1, Ordering::Relaxed) >= address_max {
            count.fetch_sub(1, Ordering::Relaxed);
            return Learned::PortFull;
        }
        let Some(slot) = self
            .free_slot(key, buckets)
            .or_else(|| self.vacated_slot(key, buckets, kind))
        else {
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
        let take = |slot: usize| {
            self.keys[slot].compare_exchange(0, key, Ordering::AcqRel, Ordering::Relaxed)
        };
        buckets
            .into_iter()
            .flat_map(|b| b..b + BUCKET)
            .find(|&slot| take(slot).is_ok())
    }

    /// The same of one whose address gives way to one of this kind: of those of the least rank, the
    /// one that was silent for longest.
    #[cold]
    fn vacated_slot(&self, key: u64, buckets: [usize; 2], kind: Kind) -> Option<usize> {
        let slots = buckets.into_iter().flat_map(|b| b..b + BUCKET);
        let rank = |slot: usize| {
            let word = self.words[slot].load(Ordering::Acquire);
            let is_less = word & VALID != 0 && kind_of(word) < kind;
            is_less.then(|| {
                (
                    kind_of(word),
                    self.seen[slot].load(Ordering::Relaxed),
                    slot,
                    word,
                )
            })
        };
        let (_, _, slot, word) = slots.filter_map(rank).min()?;
        // Whoever makes the word invalid has the slot; nobody takes it while its key isn't zero.
        self.invalidate(slot, word)?;
        // Release: who sees the key gone sees the word invalid before it.
        self.keys[slot].store(key, Ordering::Release);
        Some(slot)
    }
}
