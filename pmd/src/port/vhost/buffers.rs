//! How buffers of a guest's receive virtqueue are read ahead.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in the stash, and lengths of 64 KiB at most"
)]

use std::cell::Cell;

use super::stash::STASH;
use super::tx::VhostTx;
use crate::error::GuestFault;
use crate::ring::chain::{Budget, DESCRIPTORS_MAX};
use crate::ring::descriptor::WRITE;
use crate::shm::{Piece, damage};

/// Descriptors of chains and buffers that are looked at in one burst where the guest's pages make
/// the core wait.
pub(crate) const FEW_DESCRIPTORS: usize = 64;
const FEW_BUFFERS: u16 = 32;

/// Descriptors that a chain may always have, however much the burst has read already: drivers have
/// no more than 19 for a frame.
const CHEAP_CHAIN: usize = 32;

impl VhostTx {
    /// Whether the next burst looks at little: see `port::watched`. It is so until the next commit.
    pub(crate) fn look_at_few(&mut self) {
        let stash = &mut self.stash;
        if stash.n_taken > 0 || !stash.budget.is_whole() || stash.most != STASH as u16 {
            return;
        }
        // What was read ahead may be more than that; nothing rests on it yet.
        stash.n_ready = 0;
        stash.chains.clear();
        stash.is_crowded = false;
        (stash.most, stash.budget) = (FEW_BUFFERS, Budget::of(FEW_DESCRIPTORS));
    }

    /// The place in the stash of the buffer `at` buffers after the ring's base.
    #[inline(always)]
    pub(super) fn slot(&self, at: u16) -> usize {
        usize::from(self.ring.base().wrapping_add(at)) % STASH
    }

    /// Bytes of the buffer at a place of the stash; 0: broken.
    pub(super) fn room(&self, slot: usize) -> u32 {
        match self.stash.pieces[slot].len() {
            0 => self.stash.room[slot],
            len => len,
        }
    }

    /// Turns the next `n` buffers into ones that are given back empty.
    #[cold]
    pub(super) fn spoil(&mut self, n: u16) {
        for at in self.stash.n_taken..self.stash.n_taken + n {
            let slot = self.slot(at);
            self.stash.pieces[slot] = Piece::EMPTY;
            self.stash.room[slot] = 0;
        }
    }

    /// Reads buffers ahead until `to` of them are there; false when not one could be added.
    #[inline]
    pub(super) fn read_buffers(&mut self, to: u16, walked: &Cell<usize>) -> bool {
        let has_read = self.try_read_buffers(to, walked);
        if damage::was_met() && self.is_gone() {
            false
        } else {
            has_read
        }
    }

    /// Something is gone: whether it is this guest's memory, whose queue stops then. If not, it is
    /// the sender's.
    #[cold]
    #[inline(never)]
    pub(super) fn is_gone(&mut self) -> bool {
        let is_gone = self.ring.is_damaged();
        if is_gone {
            damage::forget();
            self.stop(GuestFault::MemoryGone);
        }
        is_gone
    }

    #[inline(always)]
    fn try_read_buffers(&mut self, to: u16, walked: &Cell<usize>) -> bool {
        let from = self.stash.n_ready;
        let want = to.min(self.stash.most).saturating_sub(from);
        if self.stopped.is_some() || want == 0 {
            return false;
        }
        if self.ring.is_damaged() {
            return self.stop(GuestFault::MemoryGone);
        }
        let n = match self.ring.available(from, want) {
            Ok(n) => n.min(want),
            Err(fault) => return self.stop(fault),
        };
        self.ring.prefetch_descriptors(from, n);
        for at in from..from + n {
            let head = self.ring.head(at);
            if head >= self.ring.size() {
                // What came before it is still good.
                return at > from || self.stop(GuestFault::HeadOutOfRange);
            }
            if !self.read_buffer(at, head, walked) {
                return at > from;
            }
            self.stash.n_ready = at + 1;
        }
        n > 0
    }

    #[inline(always)]
    fn read_buffer(&mut self, at: u16, head: u16, walked: &Cell<usize>) -> bool {
        let descriptor = self.ring.descriptor(head);
        let slot = self.slot(at);
        self.stash.ids[slot] = head;
        let piece = match descriptor.flags {
            WRITE if descriptor.len > self.header_len => {
                self.ring.piece(descriptor.addr, descriptor.len)
            }
            _ => None,
        };
        let Some(piece) = piece else {
            return self.read_chain(at, slot, head, walked);
        };
        self.stash.pieces[slot] = piece;
        true
    }

    /// A buffer of several descriptors, or a broken one. False: there is no room for its pieces
    /// before those that are there have gone, or its memory is not to be touched yet.
    #[cold]
    #[inline(never)]
    fn read_chain(&mut self, at: u16, slot: usize, head: u16, walked: &Cell<usize>) -> bool {
        let stash = &mut self.stash;
        stash.pieces[slot] = Piece::EMPTY;
        stash.room[slot] = 0;
        let start = stash.chains.len();
        let most = DESCRIPTORS_MAX
            .saturating_sub(walked.get())
            .max(CHEAP_CHAIN);
        let mut budget = stash.budget.within(most);
        let is_first = start == 0 && stash.budget.is_whole() && walked.get() == 0;
        // If the sender's memory is gone, it is not this one's.
        let was_met = damage::was_met();
        damage::forget();
        let result = self.ring.walk(head, true, &mut stash.chains, &mut budget);
        if damage::was_met() {
            return false;
        }
        damage::put(was_met);
        walked.set(walked.get() + budget.n_spent());
        stash.budget.spend(budget.n_spent());
        match result {
            Ok(n_bytes) if n_bytes > self.header_len => {
                stash.room[slot] = n_bytes;
                stash.more[slot] = (start as u16, (stash.chains.len() - start) as u16);
            }
            Ok(_) => {
                stash.chains.truncate(start);
                self.count(at, GuestFault::TooShort);
            }
            Err(_) if self.ring.waits => {
                let n_known = self.ring.available(at, 0).unwrap_or(0);
                self.ring.ask_ahead(at, n_known.min(STASH as u16));
                return false;
            }
            Err(GuestFault::ChainTooLong) if !is_first => {
                (stash.is_crowded, stash.is_early) = (true, true);
                return false;
            }
            Err(fault) => self.count(at, fault),
        }
        true
    }

    /// Notes a fault of the buffer `at` places behind the ring's base, once.
    #[cold]
    fn count(&mut self, at: u16, fault: GuestFault) {
        if at >= self.n_counted {
            self.n_counted = at + 1;
            self.note(fault);
        }
    }

    #[cold]
    pub(super) fn note(&mut self, fault: GuestFault) {
        self.fault = Some(fault);
        self.n_faults += 1;
    }

    #[cold]
    pub(super) fn stop(&mut self, fault: GuestFault) -> bool {
        self.stopped = Some(fault);
        if fault == GuestFault::MemoryGone {
            // What was read ahead of others is still good, but not of this one.
            (self.stash.n_taken, self.stash.n_ready) = (0, 0);
        }
        self.note(fault);
        self.ring.report_error();
        false
    }
}
