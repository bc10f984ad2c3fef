//! A descriptor chain, walked once, into pieces of guest memory (VIRTIO 1.2, 2.7.5).

use super::split::{Descriptor, INDIRECT, NEXT, SplitRing, WRITE};
use crate::error::GuestFault;
use crate::shm::{GuestMemory, Piece};
use arrayvec::ArrayVec;

/// Pieces, hence descriptors, that one burst or one chain may have.
pub const PIECES_MAX: usize = 1024;
/// Bytes of a chain: the largest segmentation offload frame and a header.
pub const CHAIN_MAX: u64 = 65_536 + 64;

/// Pieces of the frames of a burst, one after another.
pub(crate) type Pieces = ArrayVec<Piece, PIECES_MAX>;

/// What a walk has found so far.
struct Walk<'a> {
    memory: &'a GuestMemory,
    pieces: &'a mut Pieces,
    n_bytes: u64,
    n_descriptors: usize,
    direction: u16,
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
            return self.memory.window(descriptor.addr).map(|_| ()).ok_or(GuestFault::OutsideMemory);
        }
        let pieces = &mut *self.pieces;
        let mut has_room = true;
        let is_inside = self.memory.pieces(descriptor.addr, descriptor.len, |piece| {
            has_room = pieces.try_push(piece).is_ok();
            has_room
        });
        match (is_inside, has_room) {
            (true, _) => Ok(()),
            (false, true) => Err(GuestFault::OutsideMemory),
            (false, false) => Err(GuestFault::ChainTooLong),
        }
    }

    /// Counts a descriptor against what one chain may have: no more than `size`, so a loop ends.
    fn count(&mut self, size: usize) -> Result<(), GuestFault> {
        self.n_descriptors += 1;
        if self.n_descriptors > size { Err(GuestFault::ChainTooLong) } else { Ok(()) }
    }
}

impl SplitRing {
    /// Walks the chain at `head`, which is below the size, and appends its pieces; gives its bytes.
    ///
    /// `writable`: whether all of it must be for the device to write, or to read. Each descriptor is read once; an
    /// indirect table is copied first. On a fault nothing is appended.
    ///
    /// # Errors
    /// The first rule that the chain breaks.
    #[cold]
    #[inline(never)]
    pub(crate) fn walk(&mut self, head: u16, writable: bool, pieces: &mut Pieces) -> Result<u32, GuestFault> {
        let before = pieces.len();
        let walked = self.walk_to(head, writable, pieces);
        if walked.is_err() {
            pieces.truncate(before);
        }
        walked
    }

    fn walk_to(&mut self, head: u16, writable: bool, pieces: &mut Pieces) -> Result<u32, GuestFault> {
        let memory = self.memory.clone();
        let direction = if writable { WRITE } else { 0 };
        let size = usize::from(self.size());
        let mut walk = Walk { memory: &memory, pieces, n_bytes: 0, n_descriptors: 0, direction };
        let mut id = head;
        loop {
            let descriptor = self.descriptor(id);
            walk.count(size)?;
            if descriptor.flags & INDIRECT != 0 {
                self.walk_table(descriptor, &mut walk)?;
                break;
            }
            walk.take(descriptor)?;
            if descriptor.flags & NEXT == 0 {
                break;
            }
            if descriptor.next >= self.size() {
                return Err(GuestFault::NextOutOfRange);
            }
            id = descriptor.next;
        }
        u32::try_from(walk.n_bytes).map_err(|_| GuestFault::TooLong)
    }

    /// Goes through an indirect table. The write flag of the descriptor that leads here says nothing (2.7.5.3.2).
    fn walk_table(&mut self, leads_here: Descriptor, walk: &mut Walk<'_>) -> Result<(), GuestFault> {
        let n_entries = (leads_here.len / 16) as usize;
        let fits = leads_here.len.is_multiple_of(16) && (1..=self.table.len()).contains(&n_entries);
        if !self.has_indirect() || !fits || leads_here.flags & NEXT != 0 {
            return Err(GuestFault::BadIndirect);
        }
        copy_table(walk.memory, leads_here, &mut self.table[..n_entries])?;
        let mut at = 0;
        for _ in 0..n_entries {
            let [addr, word] = self.table[at];
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

/// Copies a table out of guest memory, across regions if need be; a guest that rewrites it changes nothing any more.
fn copy_table(memory: &GuestMemory, table: Descriptor, to: &mut [[u64; 2]]) -> Result<(), GuestFault> {
    let mut n_copied = 0usize;
    let is_inside = memory.pieces(table.addr, table.len, |piece| {
        let mut bytes = [0; 16];
        let mut rest = piece;
        while rest.len() > 0 {
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
            let half = |b: &[u8]| b.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
            to[n_copied / 16] = [half(addr), half(word)];
            n_copied += n;
            rest = rest.behind(u32::try_from(n).unwrap_or(0));
        }
        true
    });
    if is_inside { Ok(()) } else { Err(GuestFault::OutsideMemory) }
}
