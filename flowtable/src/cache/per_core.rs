//! The decisions that one core has used most lately: a small, direct-mapped table before the one that is shared.
//!
//! A line a flow, private to its core, so looking is one line and no sequence lock. A place that is in use is not given
//! to whoever comes: it is marked as idle first, and keeps its flow if that comes again before the next one wants the place. So a scan, whose flows come
//! once each, drives nobody out. Keys of IPv6 addresses are too long for it.

use crate::action::Action;
use crate::cache::key::{Key, SHORT};
use crate::cache::slab::Decision;
use crate::ids::PortId;
use crate::mac::table::{EntryRef, Known};

/// A remembered decision. One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    pub(crate) key: [u64; SHORT],
    when: u64,
    /// The MAC table's epoch at which the flow was last known to hold.
    epoch: u32,
    pub(crate) action: Action,
    src: EntryRef,
    dst: EntryRef,
}

/// The greatest of the generations that a flow rests on, the second in which the shared entry was last told that the flow
/// is in use, and in the lowest bit whether it was used since somebody else wanted the place. One word, so one comparison.
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
    /// Whether it was decided at this stamp, is known to be in use in this second, and what it rests on still holds; then it
    /// is in use.
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

const EMPTY: Flow =
    Flow { key: [0; SHORT], action: Action::Flood(0), when: 0, epoch: 0, src: EntryRef::NONE, dst: EntryRef::NONE };

/// Frames of a port after which that is seen.
const TRIED: u32 = 1 << 12;
/// Frames for which it is not asked then, if it knew fewer than half.
const LEFT_OUT: u32 = 1 << 17;

/// The table. Belongs to one core.
#[derive(Debug)]
pub(crate) struct Front {
    flows: Box<[Flow]>,
    /// By port.
    worth: Box<[Worth]>,
}

/// Whether asking is worth it for a port: one of whose frames most are not known here would pay for both tables.
#[derive(Clone, Copy, Debug)]
struct Worth {
    /// Frames until this is seen anew.
    left: u32,
    /// Frames of these that weren't known.
    n_missed: u32,
    is_asked: bool,
}

impl Worth {
    /// Seen anew, before so many frames.
    #[cold]
    fn see(&mut self, n: u32) {
        self.is_asked = !self.is_asked || self.n_missed <= TRIED / 2;
        self.left = if self.is_asked { TRIED } else { LEFT_OUT } - n;
        self.n_missed = 0;
    }
}

impl Front {
    /// So many places, a power of two, for flows of so many ports. The memory is touched here, by the thread that calls it.
    pub(crate) fn new(n: usize, n_ports: usize) -> Self {
        let flows = vec![EMPTY; n.max(16).next_power_of_two()].into_boxed_slice();
        let worth = vec![Worth { left: TRIED, n_missed: 0, is_asked: true }; n_ports].into_boxed_slice();
        Self { flows, worth }
    }

    /// Whether to ask for so many frames of the port.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a burst's frames")]
    pub(crate) fn is_asked(&mut self, port: PortId, n: usize) -> bool {
        let Some(worth) = self.worth.get_mut(usize::from(port)) else { return true };
        match worth.left.checked_sub(n as u32) {
            Some(left) => worth.left = left,
            None => worth.see(n as u32),
        }
        worth.is_asked
    }

    /// Of the frames that were asked for last, so many weren't known.
    #[inline(always)]
    pub(crate) fn missed(&mut self, port: PortId, n: u32) {
        if let Some(worth) = self.worth.get_mut(usize::from(port)) {
            worth.n_missed += n;
        }
    }

    /// The flow's place, asked for from memory already.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "keeps the low bits of a hash")]
    pub(crate) fn prefetch(&self, hash: u64) -> u32 {
        let place = hash as u32 & (self.flows.len() - 1) as u32;
        #[cfg(not(miri))]
        // SAFETY: a prefetch of any address does nothing that can be seen; this one is inside the table.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.flows.as_ptr().add(place as usize).cast());
        }
        place
    }

    /// The entry at a place from [`Front::prefetch`].
    #[inline(always)]
    pub(crate) fn at(&mut self, place: u32) -> &mut Flow {
        let mask = self.flows.len() - 1;
        debug_assert!(self.flows.len().is_power_of_two());
        // SAFETY: the length is a power of two (see `new`), so whatever is cut by the mask is below it.
        unsafe { self.flows.get_unchecked_mut(place as usize & mask) }
    }

    /// A flow was found in the shared table: it gets its place here, unless that is in use.
    #[inline(always)]
    pub(crate) fn offer(&mut self, place: u32, key: &Key, decision: &Decision, epoch: u32, now: u32) {
        if key.is_long() {
            return;
        }
        let flow = self.at(place);
        let Decision { action, stamp, src, dst } = *decision;
        let When(when) = When::new(stamp, now);
        let is_used = flow.when == when | USED && flow.key != key.short();
        if is_used {
            flow.when = when;
        } else {
            *flow = Flow { key: key.short(), when, epoch, action, src, dst };
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

    fn offer(front: &mut Front, n: u8, now: u32) {
        let decision =
            Decision { action: Action::Unicast(n.into()), stamp: 1, src: EntryRef::NONE, dst: EntryRef::NONE };
        front.offer(0, &key(n), &decision, 1, now);
    }

    #[test]
    fn flow_is_one_cache_line() {
        assert_eq!((size_of::<Flow>(), align_of::<Flow>()), (64, 64));
    }

    #[test]
    fn flow_in_use_keeps_its_place_and_one_that_ended_does_not() {
        let mut front = Front::new(16, 66);
        let macs = MacTable::new(1, 1, [1, 2]);
        let is_there = |front: &mut Front, n, now| {
            let flow = front.at(0);
            flow.key == key(n).short() && flow.is_fresh(When::new(1, now), 1, macs.known())
        };
        offer(&mut front, 1, 5);
        assert!(is_there(&mut front, 1, 5));
        offer(&mut front, 2, 5);
        assert!(is_there(&mut front, 1, 5), "it was in use");
        offer(&mut front, 3, 5);
        assert!(is_there(&mut front, 1, 5), "and still is");
        offer(&mut front, 4, 5);
        offer(&mut front, 4, 5);
        assert!(is_there(&mut front, 4, 5), "asked for twice, and not used in between");
        offer(&mut front, 5, 6);
        assert!(is_there(&mut front, 5, 6), "another second, and the one before wasn't used in it yet");
    }

    #[test]
    #[cfg_attr(miri, ignore = "counts alone, and many of them")]
    fn port_that_is_seldom_known_is_left_out_for_a_while_and_others_are_not() {
        let mut front = Front::new(16, 66);
        let asked = |front: &mut Front, port, n_missed, n_bursts: u32| {
            let asked = |_: &u32| {
                let is_asked = front.is_asked(port, 32);
                front.missed(port, if is_asked { n_missed } else { 0 });
                is_asked
            };
            (0..n_bursts).filter(asked).count()
        };
        let (tried, left_out) = (TRIED / 32, LEFT_OUT / 32);
        assert_eq!(asked(&mut front, 1, 16, 10 * tried), 10 * tried as usize, "half of it is enough");
        assert!(asked(&mut front, 1, 17, 2 * tried) < 2 * tried as usize);
        let n = asked(&mut front, 1, 17, 10 * (tried + left_out));
        assert!((9 * tried as usize..12 * tried as usize).contains(&n), "{n}: tried again now and then");
        for other in [2, 65] {
            assert_eq!(asked(&mut front, other, 0, tried), tried as usize, "another port");
        }
        asked(&mut front, 1, 0, left_out + 1);
        assert_eq!(asked(&mut front, 1, 0, 5 * tried), 5 * tried as usize, "known again");
    }
}
