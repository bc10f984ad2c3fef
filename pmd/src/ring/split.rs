//! The split virtqueue, device side (VIRTIO 1.2, 2.7).
//!
//! Chains are completed in ring order and used entries are written only with the index that shows
//! them, so one position, [`SplitRing::base`], says both what is taken next and what is returned
//! next; after a crash it can be read back from the used index. What the guest writes is read once,
//! into a local; what we write (the used ring) is never read back as truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use super::PIECES_MAX;
use super::descriptor::Descriptor;
use super::spec::{QueueSpec, RingOptions, SIZE_MAX};
use crate::calls::Calls;
use crate::error::{GuestFault, SetupError};
use crate::shm::{
    Damage, GuestMemory, Piece, Window, load_u64, prefetch, store_four_if_different, store_u64,
};

/// One virtqueue, set up and translated. Belongs to the core that polls it.
#[derive(Debug)]
pub struct SplitRing {
    desc: *mut u8,
    pub(super) avail: *mut u8,
    pub(super) used: *mut u8,
    mask: u16,
    /// Next entry to take from the available ring, and to write into the used ring.
    pub(super) next: u16,
    /// Available index as last read.
    seen: u16,
    /// Used index at the last look whether the guest wants a call.
    pub(super) called: u16,
    pub(super) options: RingOptions,
    pub(super) kicks_wanted: bool,
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
    pub(super) spec: QueueSpec,
    /// What is known of the port's eventfds. None: of a ring that no switch has.
    pub(super) calls: Option<Arc<Calls>>,
}

// SAFETY: the pointers lead into `memory`, which the ring holds, and are used through `&mut self`
// alone.
unsafe impl Send for SplitRing {}

impl SplitRing {
    /// Translates a queue's addresses and takes up its position.
    ///
    /// # Errors
    /// When the size is none, a ring does not lie, aligned and whole, in one region, or some of the
    /// memory is gone.
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
            check_undamaged(&memory, index)?;
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
        check_undamaged(&memory, index)?;
        let table = if options.indirect {
            vec![[0; 2]; usize::from(spec.size).min(PIECES_MAX)]
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
        check_undamaged(&ring.memory, index)?;
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
    pub(super) unsafe fn word(&self, ring: *mut u8, at: usize) -> &AtomicU16 {
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

    /// Whether something waits, read anew. For the last look before sleeping.
    pub(crate) fn has_more(&self) -> bool {
        // SAFETY: as in `available`.
        !self.is_damaged()
            && unsafe { self.word(self.avail, 2) }.load(Ordering::Acquire) != self.next
    }

    /// How many entries wait, read anew and noted nowhere; none if the index means nothing.
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

    /// The head `at` entries after [`SplitRing::base`], unchecked against the size.
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

    /// Writes the used entry `at` entries after [`SplitRing::base`]; nobody sees it before
    /// [`SplitRing::publish`]. Drivers that use their buffers in order find the same entry there
    /// each lap: it is written only where it differs, which saves moving its line.
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
}

/// Nothing of a damaged memory is touched any more, by control neither: each part of it that is
/// gone would cost the process mappings.
fn check_undamaged(memory: &GuestMemory, index: u16) -> Result<(), SetupError> {
    if memory.is_damaged() {
        return Err(SetupError::new(format!(
            "queue {index}: {}",
            GuestFault::MemoryGone.sentence()
        )));
    }
    Ok(())
}
