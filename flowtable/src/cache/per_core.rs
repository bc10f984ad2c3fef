//! Per-core flow cache: small, direct-mapped, in front of the shared flow table.
//!
//! One cache line a flow, private to its core, so a hit reads one line and takes no sequence lock.
//! A flow that is in use is not evicted by the first other flow that maps to its line: the line is
//! marked first, and evicted if the flow was not used before the next one comes. So a scan, whose
//! flows have one frame each, evicts nothing. Keys with IPv6 addresses don't fit.

use crate::action::Action;
use crate::cache::key::{Key, SHORT};
use crate::cache::slab::Decision;
use crate::ids::PortId;
use crate::mac::entry::EntryRef;
use crate::mac::table::Known;

/// A cached decision. One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    pub(crate) key: [u64; SHORT],
    when: u64,
    /// The MAC table's epoch at which the flow was last known to be valid.
    epoch: u32,
    pub(crate) action: Action,
    src: EntryRef,
    dst: EntryRef,
}

/// The greatest generation that a flow depends on, the second in which the shared entry was last
/// marked as in use, and in the lowest bit whether the flow was used since another one mapped to
/// its line. One word, so one comparison.
#[derive(Clone, Copy)]
pub(crate) struct When(u64);

impl When {
    #[inline(always)]
    pub(crate) fn new(stamp: u32, now: u32) -> Self {
        Self(u64::from(stamp) << 32 | u64::from(now << 1))
    }
}

const USED: u64 = 1;

impl Flow {
    /// Whether it was decided at this stamp, was marked as in use in this second, and the MAC
    /// entries that it depends on are unchanged. Marks it as used if so.
    #[inline(always)]
    pub(crate) fn is_fresh(&mut self, when: When, epoch: u32, known: Known<'_>) -> bool {
        if self.when | USED != when.0 | USED {
            return false;
        }
        if self.epoch != epoch {
            if !known.holds(self.src) || !known.holds(self.dst) {
                return false;
            }
            self.epoch = epoch;
        }
        self.when = when.0 | USED;
        true
    }
}

const EMPTY: Flow = Flow {
    key: [0; SHORT],
    action: Action::Flood(0),
    when: 0,
    epoch: 0,
    src: EntryRef::NONE,
    dst: EntryRef::NONE,
};

/// Frames of a port after which its hit rate is judged.
const TRIED: u32 = 1 << 12;
/// Frames for which the cache is bypassed then, if fewer than half were hits.
const LEFT_OUT: u32 = 1 << 17;

/// The cache. Belongs to one core.
#[derive(Debug)]
pub(crate) struct CoreCache {
    flows: Box<[Flow]>,
    /// By port.
    worth: Box<[Worth]>,
}

/// Whether the cache is worth a look for a port: where most frames miss, each would pay for both
/// tables.
#[derive(Clone, Copy, Debug)]
struct Worth {
    /// Frames until the hit rate is judged again.
    left: u32,
    /// Misses among these.
    n_missed: u32,
    is_on: bool,
}

impl Worth {
    const NEW: Self = Self {
        left: TRIED,
        n_missed: 0,
        is_on: true,
    };

    /// Judges the hit rate, before a burst of `n` frames.
    #[cold]
    fn see(&mut self, n: u32) {
        self.is_on = !self.is_on || self.n_missed <= TRIED / 2;
        self.left = if self.is_on { TRIED } else { LEFT_OUT } - n;
        self.n_missed = 0;
    }
}

impl CoreCache {
    /// `n` lines, rounded up to a power of two, for `n_ports` ports. Touches the memory on the
    /// calling thread.
    pub(crate) fn new(n: usize, n_ports: usize) -> Self {
        let flows = vec![EMPTY; n.max(16).next_power_of_two()].into_boxed_slice();
        let worth = vec![Worth::NEW; n_ports].into_boxed_slice();
        Self { flows, worth }
    }

    /// Another port has this id from now on.
    pub(crate) fn forget_port(&mut self, port: PortId) {
        if let Some(worth) = self.worth.get_mut(usize::from(port)) {
            *worth = Worth::NEW;
        }
    }

    /// Whether to look here for the next `n` frames of the port.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a burst's frames")]
    pub(crate) fn is_on(&mut self, port: PortId, n: usize) -> bool {
        let Some(worth) = self.worth.get_mut(usize::from(port)) else {
            return true;
        };
        match worth.left.checked_sub(n as u32) {
            Some(left) => worth.left = left,
            None => worth.see(n as u32),
        }
        worth.is_on
    }

    /// Counts `n` misses among the frames that were looked up last.
    #[inline(always)]
    pub(crate) fn missed(&mut self, port: PortId, n: u32) {
        if let Some(worth) = self.worth.get_mut(usize::from(port)) {
            worth.n_missed += n;
        }
    }

    /// Prefetches the line of a flow; returns its index.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "keeps the low bits of a hash"
    )]
    pub(crate) fn prefetch(&self, hash: u64) -> u32 {
        let place = hash as u32 & (self.flows.len() - 1) as u32;
        #[cfg(not(miri))]
        // SAFETY: a prefetch of any address does nothing that can be seen; this one is inside the
        // table.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.flows.as_ptr().add(place as usize).cast());
        }
        place
    }

    /// The line at an index from [`CoreCache::prefetch`].
    #[inline(always)]
    pub(crate) fn at(&mut self, place: u32) -> &mut Flow {
        let mask = self.flows.len() - 1;
        debug_assert!(self.flows.len().is_power_of_two());
        // SAFETY: the length is a power of two (see `new`), so whatever is cut by the mask is below
        // it.
        unsafe { self.flows.get_unchecked_mut(place as usize & mask) }
    }

    /// Enters a flow that was found in the shared table, unless its line is in use.
    #[inline(always)]
    pub(crate) fn offer(
        &mut self,
        place: u32,
        key: &Key,
        decision: &Decision,
        epoch: u32,
        now: u32,
    ) {
        if key.is_long() {
            return;
        }
        let flow = self.at(place);
        let Decision {
            action,
            stamp,
            src,
            dst,
        } = *decision;
        let When(when) = When::new(stamp, now);
        let is_used = flow.when == when | USED && flow.key != key.short();
        if is_used {
            flow.when = when;
        } else {
            *flow = Flow {
                key: key.short(),
                when,
                epoch,
                action,
                src,
                dst,
            };
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::mac::table::MacTable;
    use crate::wire::header::Header;

    fn key(n: u8) -> Key {
        let mut header = Header::default();
        header.0[0] = n;
        Key::new(&header, 0)
    }

    fn offer(cache: &mut CoreCache, n: u8, now: u32) {
        let decision = Decision {
            action: Action::Unicast(n.into()),
            stamp: 1,
            src: EntryRef::NONE,
            dst: EntryRef::NONE,
        };
        cache.offer(0, &key(n), &decision, 1, now);
    }

    #[test]
    fn flow_is_one_cache_line() {
        assert_eq!((size_of::<Flow>(), align_of::<Flow>()), (64, 64));
    }

    #[test]
    fn flow_in_use_keeps_its_place_and_one_that_ended_does_not() {
        let mut cache = CoreCache::new(16, 66);
        let macs = MacTable::new(1, 1, [1, 2]);
        let is_there = |cache: &mut CoreCache, n, now| {
            let flow = cache.at(0);
            flow.key == key(n).short() && flow.is_fresh(When::new(1, now), 1, macs.known())
        };
        offer(&mut cache, 1, 5);
        assert!(is_there(&mut cache, 1, 5));
        offer(&mut cache, 2, 5);
        assert!(is_there(&mut cache, 1, 5), "it was in use");
        offer(&mut cache, 3, 5);
        assert!(is_there(&mut cache, 1, 5), "and still is");
        offer(&mut cache, 4, 5);
        offer(&mut cache, 4, 5);
        assert!(
            is_there(&mut cache, 4, 5),
            "asked for twice, and not used in between"
        );
        offer(&mut cache, 5, 6);
        assert!(
            is_there(&mut cache, 5, 6),
            "another second, and the one before wasn't used in it yet"
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts alone, and many of them")]
    fn port_that_is_seldom_known_is_left_out_for_a_while_and_others_are_not() {
        let mut cache = CoreCache::new(16, 66);
        let n_looked_up = |cache: &mut CoreCache, port, n_missed, n_bursts: u32| {
            let n_looked_up = |_: &u32| {
                let is_on = cache.is_on(port, 32);
                cache.missed(port, if is_on { n_missed } else { 0 });
                is_on
            };
            (0..n_bursts).filter(n_looked_up).count()
        };
        let (tried, left_out) = (TRIED / 32, LEFT_OUT / 32);
        assert_eq!(
            n_looked_up(&mut cache, 1, 16, 10 * tried),
            10 * tried as usize,
            "half of it is enough"
        );
        assert!(n_looked_up(&mut cache, 1, 17, 2 * tried) < 2 * tried as usize);
        let n = n_looked_up(&mut cache, 1, 17, 10 * (tried + left_out));
        assert!(
            (9 * tried as usize..12 * tried as usize).contains(&n),
            "{n}: tried again now and then"
        );
        for other in [2, 65] {
            assert_eq!(
                n_looked_up(&mut cache, other, 0, tried),
                tried as usize,
                "another port"
            );
        }
        n_looked_up(&mut cache, 1, 0, left_out + 1);
        assert_eq!(
            n_looked_up(&mut cache, 1, 0, 5 * tried),
            5 * tried as usize,
            "known again"
        );
    }
}
