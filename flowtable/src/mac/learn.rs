//! Learns addresses: into a free slot, else in place of an entry of lower kind.

use crate::ids::{NetworkId, PortId};
use crate::mac::entry::{Kind, Learned, VALID, found_at, key_of, kind_of, network_of, next_word};
use crate::mac::table::{BUCKET, MacTable};
use crate::memory::sync::Ordering;

/// Attempts at a stripe's lock for an address that must not be missed. One takes some tens of
/// nanoseconds, as long as the lock is held.
const TRIES: usize = if cfg!(loom) { 2 } else { 64 };

impl MacTable {
    /// Enters an address that [`MacTable::find`] did not find. If the port has it by now, returns
    /// that entry.
    ///
    /// Never waits for long: two cores that learn at the same place would enter an address twice,
    /// so the second one gives up for this frame: at once for a learned address, which is a hint,
    /// else after some attempts.
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
        // Acquire and Release of this flag order learners of the same key; readers don't need it.
        // (A swap would do, but loom would let it set the flag after its release.)
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
        // Release, pairs with the Acquire in `word_if`: the key is stored before the word is valid.
        self.words[slot].store(word, Ordering::Release);
        // Release, pairs with the Acquire in `absent` and `holds`: after the address itself.
        self.words[self.arrivals(buckets[0])].fetch_add(1, Ordering::Release);
        self.changed(key);
        Learned::Yes(found_at(slot, word).entry)
    }

    /// Takes a free slot for the key; its word is not valid yet.
    fn free_slot(&self, key: u64, buckets: [usize; 2]) -> Option<usize> {
        // A key of zero is a free slot: zero is no valid address. AcqRel: after the stores that
        // freed it.
        let take = |slot: usize| {
            self.keys[slot].compare_exchange(0, key, Ordering::AcqRel, Ordering::Relaxed)
        };
        buckets
            .into_iter()
            .flat_map(|b| b..b + BUCKET)
            .find(|&slot| take(slot).is_ok())
    }

    /// The same by eviction for an address of this kind: of the entries of the lowest kind, the one
    /// that was silent for longest.
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
        // Invalidating the word takes the slot; it is not free for others while its key isn't zero.
        self.invalidate(slot, word)?;
        // Release: a reader that sees the key gone sees the word invalid.
        self.keys[slot].store(key, Ordering::Release);
        Some(slot)
    }
}
