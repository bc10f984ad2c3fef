//! A guest's receive virtqueue, and the room that it has for frames.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in the stash, and lengths of 64 KiB at most"
)]

use std::cell::Cell;
use std::sync::Arc;

use super::features::Features;
use super::stash::{STASH, Stash};
use crate::error::{GuestFault, SetupError};
use crate::port::room::Room;
use crate::ring::chain::DESCRIPTORS_MAX;
use crate::ring::{QueueSpec, SplitRing};
use crate::shm::GuestMemory;

/// A guest's receive virtqueue.
#[derive(Debug)]
pub struct VhostTx {
    pub(super) ring: SplitRing,
    pub(super) header_len: u32,
    pub(super) mergeable: bool,
    guest_csum: bool,
    pub(super) stash: Stash,
    pub(super) stopped: Option<GuestFault>,
    /// Buffers from the ring's base on whose faults are counted: what was read ahead may be
    /// forgotten and read again.
    pub(super) n_counted: u16,
    /// Buffers that were given back empty so far, those that are about to be included.
    pub(super) n_spoiled: u16,
    pub(super) fault: Option<GuestFault>,
    pub(super) n_faults: u64,
}

impl VhostTx {
    pub(crate) fn new(
        memory: Arc<GuestMemory>,
        spec: &QueueSpec,
        features: Features,
    ) -> Result<Self, SetupError> {
        let ring = SplitRing::new(memory, spec, features.ring)?;
        let Features {
            header_len,
            mergeable,
            guest_csum,
            ..
        } = features;
        let mut queue = Self {
            ring,
            header_len,
            mergeable,
            guest_csum,
            stash: Stash::new(),
            stopped: None,
            n_counted: 0,
            n_spoiled: 0,
            fault: None,
            n_faults: 0,
        };
        // What has to be made before a core may touch it is asked for now, since a flood won't wait
        // for it. An index that means nothing stops the queue at the first burst, which reads it
        // again.
        let n = queue.ring.available(0, STASH as u16).unwrap_or(0);
        queue.ring.ask_ahead(0, n.min(STASH as u16));
        Ok(queue)
    }

    pub(crate) fn stopped_for(&self) -> Option<GuestFault> {
        self.stopped
    }

    /// Descriptors of chains that this burst has walked since that was asked before.
    pub(crate) fn take_walked(&mut self) -> usize {
        let n = self.stash.budget.n_spent();
        n - std::mem::replace(&mut self.stash.n_told, n)
    }

    pub(crate) fn ring_mut(&mut self) -> &mut SplitRing {
        &mut self.ring
    }

    pub(crate) fn index(&self) -> u16 {
        self.ring.index()
    }

    pub(crate) fn base(&self) -> u16 {
        self.ring.base()
    }

    /// Buffers that frames were put into, or are about to be, counted in a number that wraps.
    /// Broken ones don't count.
    pub(crate) fn n_used(&self) -> u32 {
        self.ring
            .base()
            .wrapping_add(self.stash.n_taken)
            .wrapping_sub(self.n_spoiled)
            .into()
    }

    /// Whether frames may leave their checksum to the guest.
    pub(crate) fn takes_checksums(&self) -> bool {
        self.guest_csum
    }

    /// The last fault and how many there were since this was asked before.
    pub(crate) fn take_fault(&mut self) -> Option<(GuestFault, u64)> {
        self.fault
            .take()
            .map(|fault| (fault, std::mem::take(&mut self.n_faults)))
    }

    /// Sets buffers aside for frames of these lengths, in order; gives how many got theirs, and
    /// what became of the next. Most frames fit into the next buffer.
    ///
    /// `hint`: frames that may come in all, for which buffers are read ahead. `walked`: descriptors
    /// of chains that the burst has read so far, at all its destinations.
    #[inline(always)]
    pub(crate) fn reserve(
        &mut self,
        lens: &[u32],
        hint: u16,
        walked: &Cell<usize>,
    ) -> (usize, Room) {
        let mut n = 0;
        while n < lens.len() {
            let at = self.stash.n_taken;
            if at < self.stash.n_ready
                && self.stash.pieces[self.slot(at)].len() >= lens[n] + self.header_len
            {
                self.stash.n_taken += 1;
            } else {
                match self.reserve_slowly(lens[n] + self.header_len, hint, walked) {
                    Room::Reserved => {}
                    other => return (n, other),
                }
            }
            n += 1;
        }
        (n, Room::Reserved)
    }

    /// The stash is empty, or the next buffer too small: reads more, skips broken ones, merges
    /// several.
    #[inline(never)]
    fn reserve_slowly(&mut self, n_bytes: u32, hint: u16, walked: &Cell<usize>) -> Room {
        let (mut n_buffers, mut room) = (0, 0);
        loop {
            let at = self.stash.n_taken + n_buffers;
            if at == self.stash.n_ready && !self.read_buffers(at + hint.max(1), walked) {
                return self.no_more_buffers(n_buffers);
            }
            let here = self.room(self.slot(at));
            if here == 0 {
                // A broken one ends what was gathered; all of it goes back empty.
                self.spoil(n_buffers);
                self.n_spoiled = self.n_spoiled.wrapping_add(n_buffers + 1);
                self.stash.n_taken = at + 1;
                (n_buffers, room) = (0, 0);
                continue;
            }
            (n_buffers, room) = (n_buffers + 1, here.saturating_add(room));
            if room >= n_bytes {
                self.stash.n_taken += n_buffers;
                return Room::Reserved;
            }
            if !self.mergeable || n_buffers == self.ring.size() {
                return Room::TooBig;
            }
        }
    }

    /// Whether there is a buffer that is not promised yet.
    pub(crate) fn has_room(&mut self, walked: &Cell<usize>) -> bool {
        if self.stash.n_taken < self.stash.n_ready {
            return true;
        }
        // Asked of each receiver for each frame that is blocked, so that even cheap chains come to
        // much.
        if walked.get() >= 2 * DESCRIPTORS_MAX {
            return false;
        }
        let before = (self.stash.is_crowded, self.stash.is_early);
        let has_room = self.read_buffers(self.stash.n_taken + 1, walked);
        // That was a look, in a burst that may be another's.
        (self.stash.is_crowded, self.stash.is_early) = before;
        has_room
    }

    fn no_more_buffers(&mut self, n_gathered: u16) -> Room {
        if self.stopped.is_some() {
            Room::Stopped
        } else if self.stash.is_early
            || self.stash.n_taken > 0
                && (self.stash.is_crowded || self.stash.n_ready >= self.stash.most)
        {
            // This burst has used up what may be looked at ahead; the next one starts afresh.
            Room::Later
        } else if n_gathered >= self.stash.most {
            // Not even all that can be looked at would do.
            Room::TooBig
        } else if n_gathered > 0 {
            Room::Short
        } else {
            Room::Full
        }
    }
}
