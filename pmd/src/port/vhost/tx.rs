//! Frames of a burst into buffers of a guest's receive virtqueue.
#![expect(
    clippy::cast_possible_truncation,
    reason = "places in the stash, and lengths of 64 KiB at most"
)]

use super::Features;
use crate::burst::{BURST_MAX, Burst};
use crate::error::{GuestFault, SetupError};
use crate::port::room::Room;
use crate::ring::chain::{Budget, DESCRIPTORS_MAX, Pieces};
use crate::ring::descriptor::WRITE;
use crate::ring::{PIECES_MAX, QueueSpec, SplitRing};
use crate::shm::{GuestMemory, Piece, damage};
use crate::virtio_net::write_net_header;
use flowtable::HEADER_MAX;
use std::cell::Cell;
use std::sync::Arc;

/// Buffers that are looked at ahead of the frames that go into them.
const STASH: usize = 256;

/// Descriptors of chains and buffers that are looked at in one burst where the guest's pages make
/// the core wait.
pub(crate) const FEW_DESCRIPTORS: usize = 64;
const FEW_BUFFERS: u16 = 32;

/// Descriptors that a chain may always have, however much the burst has read already: drivers have
/// no more than 19 for a frame.
const CHEAP_CHAIN: usize = 32;

/// Receive buffers of a guest: read, checked, and waiting in ring order. Each is at its ring
/// position modulo [`STASH`], so that what isn't used by one burst stays where it is for the next.
#[derive(Debug)]
pub(super) struct Stash {
    /// A buffer in one piece, as most are; [`Piece::EMPTY`] when it is a chain, or broken.
    pub(super) pieces: [Piece; STASH],
    /// Bytes of a buffer that is no such piece; 0: broken, to be given back empty.
    room: [u32; STASH],
    /// Bytes that were written into it.
    pub(super) written: [u32; STASH],
    pub(super) ids: [u16; STASH],
    /// Where in `chains` a buffer of several pieces is: start and number.
    pub(super) more: [(u16, u16); STASH],
    pub(super) chains: Pieces,
    /// Descriptors that may still be read before the next commit.
    budget: Budget,
    /// Buffers that may be looked at ahead now.
    most: u16,
    /// Of those that were read, how many were told of.
    n_told: usize,
    /// `chains` or `budget` had no room for a buffer: those that are not promised are forgotten and
    /// read again later.
    is_crowded: bool,
    /// A buffer would take more descriptors than what the burst may still read: another burst may.
    is_early: bool,
    /// Buffers read.
    n_ready: u16,
    /// Of them, promised to frames.
    n_taken: u16,
}

/// A guest's receive virtqueue.
#[derive(Debug)]
pub struct VhostTx {
    pub(super) ring: SplitRing,
    pub(super) header_len: u32,
    mergeable: bool,
    guest_csum: bool,
    pub(super) stash: Stash,
    stopped: Option<GuestFault>,
    /// Buffers from the ring's base on whose faults are counted: what was read ahead may be
    /// forgotten and read again.
    n_counted: u16,
    /// Buffers that were given back empty so far, those that are about to be included.
    n_spoiled: u16,
    fault: Option<GuestFault>,
    n_faults: u64,
}

impl VhostTx {
    pub(crate) fn new(
        memory: Arc<GuestMemory>,
        spec: &QueueSpec,
        features: Features,
    ) -> Result<Self, SetupError> {
        let stash = Stash {
            pieces: [Piece::EMPTY; STASH],
            room: [0; STASH],
            written: [0; STASH],
            ids: [0; STASH],
            more: [(0, 0); STASH],
            chains: Pieces::new(),
            budget: Budget::default(),
            most: STASH as u16,
            n_told: 0,
            is_crowded: false,
            is_early: false,
            n_ready: 0,
            n_taken: 0,
        };
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
            stash,
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

    /// The last fault and how many there were since this was asked before.
    pub(crate) fn take_fault(&mut self) -> Option<(GuestFault, u64)> {
        self.fault
            .take()
            .map(|fault| (fault, std::mem::take(&mut self.n_faults)))
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

    /// Turns the next `n` buffers into ones that are given back empty.
    #[cold]
    fn spoil(&mut self, n: u16) {
        for at in self.stash.n_taken..self.stash.n_taken + n {
            let slot = self.slot(at);
            self.stash.pieces[slot] = Piece::EMPTY;
            self.stash.room[slot] = 0;
        }
    }

    /// Reads buffers ahead until `to` of them are there; false when not one could be added.
    #[inline]
    fn read_buffers(&mut self, to: u16, walked: &Cell<usize>) -> bool {
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
    fn is_gone(&mut self) -> bool {
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
    fn note(&mut self, fault: GuestFault) {
        self.fault = Some(fault);
        self.n_faults += 1;
    }

    #[cold]
    fn stop(&mut self, fault: GuestFault) -> bool {
        self.stopped = Some(fault);
        if fault == GuestFault::MemoryGone {
            // What was read ahead of others is still good, but not of this one.
            (self.stash.n_taken, self.stash.n_ready) = (0, 0);
        }
        self.note(fault);
        self.ring.report_error();
        false
    }

    /// Copies the frames of `mask`, lowest first, into the buffers that were set aside for them in
    /// the same order, and shows them. Gives their bytes, without FCS.
    #[inline]
    pub(crate) fn commit(&mut self, burst: &Burst, mask: u32) -> u64 {
        if self.ring.is_damaged() {
            return self.commit_nowhere(burst, mask);
        }
        if burst.with_offload & mask != 0 || !burst.is_plain {
            self.commit_some_plain(burst, mask)
        } else {
            self.commit_as::<true>(burst, mask)
        }
    }

    #[cold]
    #[inline(never)]
    fn commit_some_plain(&mut self, burst: &Burst, mask: u32) -> u64 {
        self.commit_as::<false>(burst, mask)
    }

    /// The guest's memory has gone since room was reserved: the frames are taken to be there, where
    /// nobody sees them.
    #[cold]
    #[inline(never)]
    fn commit_nowhere(&mut self, burst: &Burst, mask: u32) -> u64 {
        if self.stopped.is_none() {
            self.stop(GuestFault::MemoryGone);
        }
        (0..BURST_MAX)
            .filter(|k| mask >> k & 1 != 0)
            .map(|k| u64::from(burst.lens[k]))
            .sum()
    }

    /// `PLAIN`: every frame is in one piece and requests no offload, which goes into virtio-net
    /// headers.
    #[inline(always)]
    fn commit_as<const PLAIN: bool>(&mut self, burst: &Burst, mask: u32) -> u64 {
        let (mut at, mut n_bytes, mut rest) = (0, 0, mask);
        let header_len = self.header_len;
        while rest != 0 {
            let k = rest.trailing_zeros() as usize % BURST_MAX;
            rest &= rest - 1;
            let (slot, len) = (self.slot(at), burst.lens[k]);
            n_bytes += u64::from(len);
            let place = self.stash.pieces[slot];
            // One piece to read from, one to write to.
            let is_plain = PLAIN || burst.more(k).1 == 0 && burst.with_offload & 1 << k == 0;
            let needed = len + header_len;
            if place.len() >= needed && is_plain && !damage::was_met() {
                put_plain(burst, k, place.first(needed), header_len);
                self.stash.written[slot] = needed;
                at += 1;
            } else {
                at = self.put_parts(burst, k, at);
            }
        }
        self.publish(at);
        if damage::was_met() {
            self.is_gone();
        }
        n_bytes
    }

    /// Writes the used entries of the first `n` buffers, which may go round the end of the stash.
    #[inline(always)]
    fn put_used(&mut self, n: u16) {
        let start = self.slot(0);
        let here = usize::from(n).min(STASH - start);
        let stash = &self.stash;
        self.ring.put_used_run(
            0,
            &stash.ids[start..start + here],
            &stash.written[start..start + here],
        );
        let later = usize::from(n) - here;
        if later > 0 {
            self.ring
                .put_used_run(here as u16, &stash.ids[..later], &stash.written[..later]);
        }
    }

    #[inline(always)]
    fn publish(&mut self, mut n: u16) {
        // What was taken and not filled can only be broken.
        while n < self.stash.n_taken {
            let slot = self.slot(n);
            self.stash.written[slot] = 0;
            n += 1;
        }
        if n > 0 {
            self.put_used(n);
            self.n_counted = self.n_counted.saturating_sub(n);
            self.stash.n_taken = 0;
            self.stash.n_ready -= n;
            self.ring.publish(n);
            self.ring.call_if_wanted();
        }
        if !self.stash.chains.is_empty() || self.stash.is_crowded {
            self.tidy();
        }
        (self.stash.n_told, self.stash.most) = (0, STASH as u16);
        self.stash.budget = Budget::default();
    }

    /// Pieces of buffers that are gone stay in `chains` until all of them can go. Before they crowd
    /// out new ones, what was read ahead is forgotten, and read again when it is needed: nothing
    /// rests on it yet.
    #[cold]
    fn tidy(&mut self) {
        let stash = &mut self.stash;
        if stash.is_crowded || stash.chains.len() > PIECES_MAX / 2 {
            stash.n_ready = 0;
        }
        if stash.n_ready == 0 {
            stash.chains.clear();
        }
        (stash.is_crowded, stash.is_early) = (false, false);
    }
}

/// A frame that requests no offload into `place`, as long as it and its virtio-net header.
#[inline(always)]
fn put_plain(burst: &Burst, k: usize, place: Piece, header_len: u32) {
    let len = burst.lens[k];
    write_net_header(place, header_len, 1);
    let data = place.behind(header_len);
    let in_header = len.min(HEADER_MAX as u32);
    data.write(&burst.headers[k].0[..in_header as usize]);
    if len > in_header {
        data.behind(in_header)
            .write_piece(burst.data[k].first(len).behind(in_header));
    }
}
