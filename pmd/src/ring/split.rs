//! The split virtqueue, device side (VIRTIO 1.2, 2.7).
//!
//! Chains are completed in ring order and used entries are written only with the index that shows
//! them, so one position, [`SplitRing::base`], says both what is taken next and what is returned
//! next; after a crash it can be read back from the used index. What the guest writes is read once,
//! into a local; what we write (the used ring) is never read back as truth.

use crate::calls::{Calls, call_bit, error_bit};
use crate::error::{GuestFault, SetupError};
use crate::shm::guest::Window;
use crate::shm::{
    Damage, GuestMemory, Piece, load_u16, load_u32, load_u64, prefetch, store_four_if_different,
    store_u32, store_u64,
};
use crate::sys::EventFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

/// The longest ring the specification allows.
pub const SIZE_MAX: u16 = 32768;

const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// A virtqueue as the front-end describes it.
#[derive(Clone, Debug)]
pub struct QueueSpec {
    /// Virtqueue index: even ones the guest receives from, odd ones it transmits to.
    pub index: u16,
    /// Entries: a power of two, [`SIZE_MAX`] at most.
    pub size: u16,
    /// Front-end address of the descriptor table.
    pub desc: u64,
    /// Front-end address of the available ring.
    pub avail: u64,
    /// Front-end address of the used ring.
    pub used: u64,
    /// Position the front-end asks to start at. The used index in memory wins; see
    /// [`SplitRing::base`].
    pub base: Option<u16>,
    /// Where the guest wants to be called.
    pub call: Option<Arc<EventFd>>,
    /// Where the guest kicks.
    pub kick: Option<Arc<EventFd>>,
    /// Where the front-end wants to hear of a queue that stopped.
    pub err: Option<Arc<EventFd>>,
    /// The front-end has disabled it after it had run: what the guest sends by it is taken and
    /// dropped.
    pub discards: bool,
}

/// What was negotiated about rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingOptions {
    /// VIRTIO_F_EVENT_IDX.
    pub event_idx: bool,
    /// VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
}

/// A descriptor, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) addr: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

impl Descriptor {
    /// From its two words.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn new(addr: u64, word: u64) -> Self {
        Self {
            addr,
            len: word as u32,
            flags: (word >> 32) as u16,
            next: (word >> 48) as u16,
        }
    }
}

/// One virtqueue, set up and translated. Belongs to whoever polls it.
#[derive(Debug)]
pub struct SplitRing {
    desc: *mut u8,
    avail: *mut u8,
    used: *mut u8,
    mask: u16,
    /// Next entry to take from the available ring, and to write into the used ring.
    next: u16,
    /// Available index as last read.
    seen: u16,
    /// Used index when the guest was last asked whether it wants a call.
    called: u16,
    options: RingOptions,
    kicks_wanted: bool,
    /// The part of guest memory that the last translation led to.
    pub(crate) window: Window,
    pub(crate) memory: Arc<GuestMemory>,
    /// Whether that memory is gone.
    damage: Arc<Damage>,
    /// An indirect table, copied before use.
    pub(crate) table: Vec<[u64; 2]>,
    /// The chain that was walked last leads to memory that is not to be touched yet: it is to be
    /// walked again later.
    pub(crate) waits: bool,
    spec: QueueSpec,
    /// What is known of the port's eventfds. None: of a ring that no switch has.
    calls: Option<Arc<Calls>>,
}

// SAFETY: the pointers lead into `memory`, which the ring holds, and are used through `&mut self`
// alone.
unsafe impl Send for SplitRing {}

impl SplitRing {
    /// Translates a queue's addresses and takes up its position.
    ///
    /// # Errors
    /// When the size is none, or a ring does not lie, aligned and whole, in one region.
    pub fn new(
        memory: Arc<GuestMemory>,
        spec: &QueueSpec,
        options: RingOptions,
    ) -> Result<Self, SetupError> {
        let index = spec.index;
        if !spec.size.is_power_of_two() || spec.size > SIZE_MAX {
            let size = spec.size;
            return Err(SetupError::new(format!(
                "queue {index}: a size of {size} is not a power of two up to {SIZE_MAX}"
            )));
        }
        let n = u64::from(spec.size);
        let place = |name: &str, addr: u64, len: u64, align: u64| {
            memory.ring_at(addr, len, align).ok_or_else(|| {
                SetupError::new(format!(
                    "queue {index}: the {name} at {addr:#x} is not {len} bytes inside one region, \
                    aligned to {align}"
                ))
            })
        };
        // The event words at both ends count even where they are not negotiated: drivers reserve
        // them all the same.
        let desc = place("descriptor table", spec.desc, 16 * n, 16)?;
        let avail = place("available ring", spec.avail, 6 + 2 * n, 2)?;
        let used = place("used ring", spec.used, 6 + 8 * n, 4)?;
        let table = if options.indirect {
            vec![[0; 2]; usize::from(spec.size).min(super::chain::PIECES_MAX)]
        } else {
            vec![]
        };
        let mut ring = Self {
            desc,
            avail,
            used,
            mask: spec.size - 1,
            next: 0,
            seen: 0,
            called: 0,
            options,
            kicks_wanted: true,
            window: Window::EMPTY,
            damage: memory.damage().clone(),
            memory,
            table,
            waits: false,
            spec: spec.clone(),
            calls: None,
        };
        // SAFETY: two bytes inside the used ring.
        ring.next = unsafe { ring.word(ring.used, 2) }.load(Ordering::Acquire);
        (ring.seen, ring.called) = (ring.next, ring.next);
        ring.want_kicks(false);
        Ok(ring)
    }

    /// The next entry to be taken, which is also the next to be returned.
    pub fn base(&self) -> u16 {
        self.next
    }

    /// The virtqueue's index.
    pub fn index(&self) -> u16 {
        self.spec.index
    }

    /// Entries.
    #[inline(always)]
    pub fn size(&self) -> u16 {
        self.mask + 1
    }

    /// What it was set up from.
    pub fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// Whether some of the guest's memory is gone: none of it is to be touched any more.
    #[inline(always)]
    pub(crate) fn is_damaged(&self) -> bool {
        self.damage.is_done()
    }

    /// Whether VIRTIO_F_INDIRECT_DESC was negotiated.
    pub(crate) fn has_indirect(&self) -> bool {
        self.options.indirect
    }

    /// A 16-bit word `at` bytes into a ring.
    ///
    /// # Safety
    /// It lies inside the ring; `ring` is `avail` or `used`, both aligned to two at least, and `at`
    /// is even.
    #[inline(always)]
    unsafe fn word(&self, ring: *mut u8, at: usize) -> &AtomicU16 {
        // SAFETY: mapped, as the ring holds its memory; aligned; shared with the guest, hence
        // atomic.
        unsafe { &*ring.add(at).cast::<AtomicU16>() }
    }

    /// How many entries wait from `behind` entries after [`SplitRing::base`] on. Asks the guest's
    /// index only when fewer than `want` are known of.
    ///
    /// # Errors
    /// [`GuestFault::AvailTooFar`]: the index means nothing.
    #[inline(always)]
    pub(crate) fn available(&mut self, behind: u16, want: u16) -> Result<u16, GuestFault> {
        let from = self.next.wrapping_add(behind);
        let known = self.seen.wrapping_sub(from);
        if known >= want {
            return Ok(known);
        }
        // SAFETY: the index is two bytes into the available ring. Acquire, with the driver's
        // release of the index: the entries and descriptors behind it are written.
        let seen = unsafe { self.word(self.avail, 2) }.load(Ordering::Acquire);
        let waiting = seen.wrapping_sub(self.next);
        // Further ahead than the ring is long; or behind what was seen, and looked at, before.
        if waiting > self.size() || waiting < behind {
            return Err(GuestFault::AvailTooFar);
        }
        // Only what was checked is kept: it is not checked again.
        self.seen = seen;
        Ok(waiting - behind)
    }

    /// Whether something waits, asked afresh. For the last look before sleeping.
    pub(crate) fn has_more(&self) -> bool {
        // SAFETY: as in `available`.
        !self.is_damaged()
            && unsafe { self.word(self.avail, 2) }.load(Ordering::Acquire) != self.next
    }

    /// How many entries wait, asked afresh and noted nowhere; none if the index means nothing.
    pub(crate) fn n_waiting(&self) -> u16 {
        if self.is_damaged() {
            return 0;
        }
        // SAFETY: as in `available`, whose order this has too.
        let n = unsafe { self.word(self.avail, 2) }
            .load(Ordering::Acquire)
            .wrapping_sub(self.next);
        if n > self.size() { 0 } else { n }
    }

    /// The head that stands `at` entries after [`SplitRing::base`], unchecked against the size.
    #[inline(always)]
    pub(crate) fn head(&self, at: u16) -> u16 {
        let slot = usize::from(self.next.wrapping_add(at) & self.mask);
        // SAFETY: `slot` is below the size, so this is inside the available ring. Relaxed: ordered
        // by the index's acquire.
        unsafe { self.word(self.avail, 4 + 2 * slot) }.load(Ordering::Relaxed)
    }

    /// A descriptor; only the low bits of `id` count, so any number leads into the table.
    #[inline(always)]
    pub(crate) fn descriptor(&self, id: u16) -> Descriptor {
        let at = usize::from(id & self.mask) * 16;
        // SAFETY: `at` is inside the table, which is aligned to 16; shared with the guest, hence
        // atomic, and each half is read once.
        let (addr, word) = unsafe {
            let entry = self.desc.add(at).cast::<AtomicU64>();
            (
                (*entry).load(Ordering::Relaxed),
                (*entry.add(1)).load(Ordering::Relaxed),
            )
        };
        Descriptor::new(addr, word)
    }

    /// Asks for the lines that hold the next `n` descriptors from `from` on. Four of them share a
    /// line, and drivers hand them out in order.
    #[inline(always)]
    pub(crate) fn prefetch_descriptors(&self, from: u16, n: u16) {
        for at in (0..n).step_by(4) {
            let id = self.head(from.wrapping_add(at)) & self.mask;
            prefetch(self.desc.wrapping_add(usize::from(id) * 16));
        }
    }

    /// The bytes of a descriptor, if they lie in one piece; remembers the region for the next one.
    #[inline(always)]
    pub(crate) fn piece(&mut self, addr: u64, len: u32) -> Option<Piece> {
        self.window
            .piece(addr, len)
            .or_else(|| self.piece_elsewhere(addr, len))
    }

    #[cold]
    #[inline(never)]
    fn piece_elsewhere(&mut self, addr: u64, len: u32) -> Option<Piece> {
        let window = self.memory.window(addr)?;
        let piece = window.piece(addr, len)?;
        self.window = window;
        Some(piece)
    }

    /// Writes the used entry that stands `at` entries after [`SplitRing::base`]; nobody sees it
    /// before [`SplitRing::publish`]. Drivers that use their buffers in order find the same entry
    /// there each lap: it is written only where it differs, which saves moving its line.
    #[inline(always)]
    pub(crate) fn put_used(&mut self, at: u16, id: u16, len: u32) {
        let slot = usize::from(self.next.wrapping_add(at) & self.mask);
        let entry = u64::from(id) | u64::from(len) << 32;
        // SAFETY: `slot` is below the size, so these eight bytes are inside the used ring.
        unsafe {
            let place = self.used.add(4 + 8 * slot);
            if load_u64(place) != entry {
                store_u64(place, entry);
            }
        }
    }

    /// The same for entries in a row; `ids` and `lens` are of one length.
    #[inline(always)]
    pub(crate) fn put_used_run(&mut self, at: u16, ids: &[u16], lens: &[u32]) {
        let mut at = at;
        let (ids, later_ids) = ids.as_chunks::<4>();
        let (lens, later_lens) = lens.as_chunks::<4>();
        for (ids, lens) in ids.iter().zip(lens) {
            let slot = usize::from(self.next.wrapping_add(at) & self.mask);
            if slot + 4 <= usize::from(self.mask) + 1 {
                // SAFETY: four entries from `slot` on are inside the used ring.
                unsafe { store_four_if_different(self.used.add(4 + 8 * slot), ids, lens) };
            } else {
                for (i, (&id, &len)) in (0..).zip(ids.iter().zip(lens)) {
                    self.put_used(at.wrapping_add(i), id, len);
                }
            }
            at = at.wrapping_add(4);
        }
        for (&id, &len) in later_ids.iter().zip(later_lens) {
            self.put_used(at, id, len);
            at = at.wrapping_add(1);
        }
    }

    /// Shows the next `n` used entries to the guest.
    #[inline(always)]
    pub(crate) fn publish(&mut self, n: u16) {
        self.next = self.next.wrapping_add(n);
        // SAFETY: the used index is two bytes into the used ring. Release, with the driver's
        // acquire of the index: the entries, and the buffers they stand for, are written.
        unsafe { self.word(self.used, 2) }.store(self.next, Ordering::Release);
    }

    /// Calls the guest for what was published since the last time, if it asked for that.
    #[inline(always)]
    pub(crate) fn call_if_wanted(&mut self) {
        // Full fence, with the driver's between its event word (or flags) and its look at the used
        // index: either it sees the new index, or we see that it wants a call.
        fence(Ordering::SeqCst);
        let (new, old) = (self.next, std::mem::replace(&mut self.called, self.next));
        let wanted = if self.options.event_idx {
            // SAFETY: the used_event word stands behind the available ring's entries; the ring was
            // checked with it.
            let event = unsafe { self.word(self.avail, 4 + 2 * usize::from(self.size())) }
                .load(Ordering::Relaxed);
            needs_event(event, new, old)
        } else {
            // SAFETY: the first two bytes of the available ring.
            new != old
                && unsafe { self.word(self.avail, 0) }.load(Ordering::Relaxed) & NO_INTERRUPT == 0
        };
        if wanted {
            self.call();
        }
    }

    #[cold]
    fn call(&self) {
        if let Some(call) = &self.spec.call {
            self.signal(call, call_bit(self.spec.index));
        }
    }

    #[cold]
    fn signal(&self, event: &EventFd, bit: u64) {
        match &self.calls {
            Some(calls) => calls.signal(event, bit),
            None => event.signal(),
        }
    }

    /// From now on its eventfds are signalled as the port's; the guest is called once, in case a
    /// call was lost before. On a control thread.
    pub(crate) fn begin_calls(&mut self, calls: &Arc<Calls>) {
        self.calls = Some(calls.clone());
        self.call();
    }

    /// What it may have to signal, as the port's eventfds are numbered.
    pub(crate) fn signalled(&self) -> impl Iterator<Item = (u64, Arc<EventFd>)> {
        let call = self
            .spec
            .call
            .clone()
            .map(|call| (call_bit(self.spec.index), call));
        let err = self
            .spec
            .err
            .clone()
            .map(|err| (error_bit(self.spec.index), err));
        call.into_iter().chain(err)
    }

    /// Tells the front-end that this queue was stopped.
    pub(crate) fn report_error(&self) {
        if let Some(err) = &self.spec.err {
            self.signal(err, error_bit(self.spec.index));
        }
    }

    /// Asks the guest to kick for whatever it adds from now on, or not to. After asking,
    /// [`SplitRing::has_more`] has to be looked at once more.
    pub(crate) fn want_kicks(&mut self, wanted: bool) {
        if self.is_damaged() {
            return;
        }
        let event_at = 4 + 8 * usize::from(self.size());
        if self.options.event_idx {
            // An old event word asks for one kick in 65,536; so nothing needs to be written to end
            // it.
            if wanted {
                // SAFETY: the avail_event word stands behind the used ring's entries; the ring was
                // checked with it.
                unsafe { self.word(self.used, event_at) }.store(self.next, Ordering::Relaxed);
            } else if self.kicks_wanted {
                // SAFETY: the first two bytes of the used ring.
                unsafe { self.word(self.used, 0) }.store(0, Ordering::Relaxed);
            }
        } else if wanted != self.kicks_wanted {
            let flags = if wanted { 0 } else { NO_NOTIFY };
            // SAFETY: as above.
            unsafe { self.word(self.used, 0) }.store(flags, Ordering::Relaxed);
        }
        self.kicks_wanted = wanted;
        if wanted {
            // With the driver's fence between its available index and its look at flags or event.
            fence(Ordering::SeqCst);
        }
    }
}

/// Whether an index that goes from `old` to `new` passes `event` (VIRTIO 1.2, 2.7.10).
#[inline(always)]
pub(crate) fn needs_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// The virtio-net header of a frame without wishes: zeros, and how many buffers it fills.
#[inline(always)]
pub(crate) fn write_net_header(place: Piece, header_len: u32, n_buffers: u16) {
    assert!(place.len >= header_len);
    let last = u32::from(n_buffers) << 16;
    // SAFETY: `header_len` bytes of a mapped piece, 10 or 12.
    unsafe {
        // Where the header ends a cache line, it is a line of its own, which is best left where it
        // is.
        let alone = (place.ptr as usize + 12).is_multiple_of(64);
        if header_len == 12 {
            if !alone || load_u64(place.ptr) != 0 || load_u32(place.ptr.add(8)) != last {
                store_u64(place.ptr, 0);
                store_u32(place.ptr.add(8), last);
            }
        } else {
            store_u64(place.ptr, 0);
            place.ptr.add(8).write_volatile(0);
            place.ptr.add(9).write_volatile(0);
        }
    }
}

/// The first eight bytes of a virtio-net header and the two behind them.
#[inline(always)]
pub(crate) fn read_net_header(place: Piece) -> (u64, u16) {
    assert!(place.len >= 10);
    // SAFETY: ten bytes of a mapped piece.
    unsafe { (load_u64(place.ptr), load_u16(place.ptr.add(8))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_needed_exactly_when_the_index_passes_it() {
        for event in [0u16, 5, 65_533, 65_535] {
            for old in [event, event.wrapping_sub(3), event.wrapping_add(1)] {
                for step in 0..6 {
                    let new = old.wrapping_add(step);
                    let passed = (1..=step).any(|n| old.wrapping_add(n) == event.wrapping_add(1));
                    assert_eq!(
                        needs_event(event, new, old),
                        passed,
                        "event {event} old {old} new {new}"
                    );
                }
            }
        }
    }
}
