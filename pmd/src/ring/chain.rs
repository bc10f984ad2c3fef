//! A descriptor chain, walked once, into pieces of guest memory (VIRTIO 1.2, 2.7.5).

use arrayvec::ArrayVec;

use super::PIECES_MAX;
use super::descriptor::{Descriptor, INDIRECT, NEXT, WRITE};
use super::split::SplitRing;
use crate::error::GuestFault;
use crate::shm::{GuestMemory, Piece, Window, damage};

/// Descriptors that one burst or one chain may have, those of tables and empty ones counted.
pub const DESCRIPTORS_MAX: usize = 1024;
/// Bytes of a chain: the largest segmentation offload frame and a header.
pub const CHAIN_MAX: u64 = 65_536 + 64;

/// The same in a descriptor's type.
const LEN_MAX: u32 = 65_536 + 64;

/// Pieces of the frames of a burst, one after another.
pub(crate) type Pieces = ArrayVec<Piece, PIECES_MAX>;

/// Descriptors that a burst may still read, of [`DESCRIPTORS_MAX`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: usize,
    max: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(DESCRIPTORS_MAX)
    }
}

impl Budget {
    /// So many.
    pub(crate) fn of(max: usize) -> Self {
        Self { left: max, max }
    }

    /// How many were read of it.
    pub(crate) fn n_spent(self) -> usize {
        self.max - self.left
    }

    /// One of its own for what may be read of it now, at most so many; that is then taken off this
    /// one with [`Budget::spend`].
    pub(crate) fn within(self, most: usize) -> Self {
        Self::of(self.left.min(most))
    }

    /// So many were read.
    pub(crate) fn spend(&mut self, n: usize) {
        self.left = self.left.saturating_sub(n);
    }

    /// Whether nothing was read of it yet.
    pub(crate) fn is_whole(self) -> bool {
        self.left == self.max
    }
}

/// What a walk has found so far.
struct Walk<'a> {
    memory: &'a GuestMemory,
    /// The part of it that the last translation led to.
    window: Window,
    pieces: &'a mut Pieces,
    budget: &'a mut Budget,
    n_bytes: u64,
    n_descriptors: usize,
    direction: u16,
    /// It leads to memory that is not to be touched yet.
    waits: bool,
}

impl Walk<'_> {
    fn take(&mut self, descriptor: Descriptor) -> Result<(), GuestFault> {
        if descriptor.flags & WRITE != self.direction {
            return Err(GuestFault::WrongDirection);
        }
        self.n_bytes += u64::from(descriptor.len);
        if self.n_bytes > CHAIN_MAX {
            return Err(GuestFault::TooLong);
        }
        if descriptor.len == 0 {
            // Nothing to take, but an address that leads nowhere is a fault all the same.
            return if self.memory.has(descriptor.addr) {
                Ok(())
            } else {
                Err(GuestFault::OutsideMemory)
            };
        }
        self.touch(descriptor)?;
        let pieces = &mut *self.pieces;
        let mut has_room = true;
        let is_inside =
            self.memory
                .pieces(&mut self.window, descriptor.addr, descriptor.len, |piece| {
                    has_room = pieces.try_push(piece).is_ok();
                    has_room
                });
        match (is_inside, has_room) {
            (true, _) => Ok(()),
            (false, true) => Err(GuestFault::OutsideMemory),
            (false, false) => Err(GuestFault::ChainTooLong),
        }
    }

    /// Whether the bytes of a descriptor may be touched. The fault that is given if not stands for
    /// the walk's end alone: see [`SplitRing::waits`].
    fn touch(&mut self, descriptor: Descriptor) -> Result<(), GuestFault> {
        let is_known = self.window.piece(descriptor.addr, descriptor.len).is_some();
        if is_known || self.memory.may_touch(descriptor.addr, descriptor.len) {
            return Ok(());
        }
        self.waits = true;
        Err(GuestFault::ChainTooLong)
    }

    /// Counts descriptors against what one chain may have, no more than `size`, so that a loop
    /// ends; and against what the burst may have.
    fn count(&mut self, n: usize, size: usize) -> Result<(), GuestFault> {
        self.n_descriptors += n;
        let left = self.budget.left.checked_sub(n);
        self.budget.left = left.unwrap_or(0);
        if left.is_none() || self.n_descriptors > size {
            Err(GuestFault::ChainTooLong)
        } else {
            Ok(())
        }
    }
}

impl SplitRing {
    /// Walks the chain at `head`, which is below the size, and appends its pieces; gives its bytes.
    ///
    /// `writable`: whether all of it must be for the device to write, or to read. Each descriptor
    /// is read once; an indirect table is copied first. On a fault nothing is appended.
    ///
    /// # Errors
    /// The first rule that the chain breaks. [`GuestFault::ChainTooLong`] may also say that there
    /// is not enough left of `pieces` or `budget`: with both whole, it is the chain's fault. Any
    /// fault says nothing if [`SplitRing::waits`] is set afterwards.
    #[cold]
    #[inline(never)]
    pub(crate) fn walk(
        &mut self,
        head: u16,
        writable: bool,
        pieces: &mut Pieces,
        budget: &mut Budget,
    ) -> Result<u32, GuestFault> {
        let before = pieces.len();
        // Taken out for the walk, which also reads the ring it belongs to.
        let mut table = std::mem::take(&mut self.table);
        let mut walk = Walk {
            memory: &self.memory,
            window: self.window,
            pieces: &mut *pieces,
            budget,
            n_bytes: 0,
            n_descriptors: 0,
            direction: if writable { WRITE } else { 0 },
            waits: false,
        };
        let walked = self.walk_descriptors(head, &mut walk, &mut table);
        let (n_bytes, window, waits) = (walk.n_bytes, walk.window, walk.waits);
        (self.table, self.window, self.waits) = (table, window, waits);
        if walked.is_err() {
            pieces.truncate(before);
        }
        walked?;
        u32::try_from(n_bytes).map_err(|_| GuestFault::TooLong)
    }

    /// Asks for the memory that the next `n` chains from `from` on begin in, behind one that waits
    /// for its own: so that they don't wait one after another.
    #[cold]
    #[inline(never)]
    pub(crate) fn ask_ahead(&self, from: u16, n: u16) {
        for at in 0..n {
            if self.is_damaged() {
                return;
            }
            let descriptor = self.descriptor(self.head(from.wrapping_add(at)));
            self.memory
                .may_touch(descriptor.addr, descriptor.len.min(LEN_MAX));
        }
    }

    fn walk_descriptors(
        &self,
        head: u16,
        walk: &mut Walk<'_>,
        table: &mut [[u64; 2]],
    ) -> Result<(), GuestFault> {
        let size = usize::from(self.size());
        let mut id = head;
        loop {
            let descriptor = self.descriptor(id);
            if descriptor.flags & INDIRECT != 0 {
                return self.walk_table(descriptor, walk, table);
            }
            walk.count(1, size)?;
            walk.take(descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            if descriptor.next >= self.size() {
                return Err(GuestFault::NextOutOfRange);
            }
            id = descriptor.next;
        }
    }

    /// Goes through an indirect table. The write flag of the descriptor that leads here says
    /// nothing (2.7.5.3.2).
    fn walk_table(
        &self,
        leads_here: Descriptor,
        walk: &mut Walk<'_>,
        table: &mut [[u64; 2]],
    ) -> Result<(), GuestFault> {
        let n_entries = (leads_here.len / 16) as usize;
        let fits = leads_here.len.is_multiple_of(16) && (1..=table.len()).contains(&n_entries);
        if !self.has_indirect() || !fits || leads_here.flags & NEXT != 0 {
            return Err(GuestFault::BadIndirect);
        }
        // All of it is copied, so all of it counts.
        walk.count(n_entries, DESCRIPTORS_MAX)?;
        walk.touch(leads_here)?;
        copy_table(walk, leads_here, &mut table[..n_entries])?;
        let mut at = 0;
        for _ in 0..n_entries {
            let [addr, word] = table[at];
            let descriptor = Descriptor::new(addr, word);
            if descriptor.flags & INDIRECT != 0 {
                return Err(GuestFault::BadIndirect);
            }
            walk.take(descriptor)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(());
            }
            at = usize::from(descriptor.next);
            if at >= n_entries {
                return Err(GuestFault::NextOutOfRange);
            }
        }
        Err(GuestFault::ChainTooLong)
    }
}

/// Copies a table out of guest memory, across regions if need be; a guest that rewrites it changes
/// nothing any more.
fn copy_table(
    walk: &mut Walk<'_>,
    table: Descriptor,
    to: &mut [[u64; 2]],
) -> Result<(), GuestFault> {
    let mut n_copied = 0usize;
    let Walk { memory, window, .. } = walk;
    let is_inside = memory.pieces(window, table.addr, table.len, |piece| {
        let mut bytes = [0; 16];
        let mut rest = piece;
        // Where it is gone, the next piece of it may be too.
        while rest.len() > 0 && !damage::was_met() {
            // An entry may begin in one region and end in the next.
            let within = n_copied % 16;
            let n = (16 - within).min(rest.len() as usize);
            if within == 0 {
                bytes = [0; 16];
            } else {
                bytes[..8].copy_from_slice(&to[n_copied / 16][0].to_le_bytes());
                bytes[8..].copy_from_slice(&to[n_copied / 16][1].to_le_bytes());
            }
            rest.read(&mut bytes[within..], n);
            let (addr, word) = bytes.split_at(8);
            let half = |b: &[u8]| {
                b.iter()
                    .rev()
                    .fold(0u64, |sum, &byte| sum << 8 | u64::from(byte))
            };
            to[n_copied / 16] = [half(addr), half(word)];
            n_copied += n;
            rest = rest.behind(u32::try_from(n).unwrap_or(0));
        }
        !damage::was_met()
    });
    if is_inside {
        Ok(())
    } else {
        Err(GuestFault::OutsideMemory)
    }
}
