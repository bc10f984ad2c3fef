//! Bytes that others write while we look at them.

use super::copy::{copy, load_u16, load_u32, load_u64, prefetch, store_u16, store_u32, store_u64};

/// Bytes in guest memory: checked when made, valid for as long as the [`super::GuestMemory`] it
/// came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) ptr: *mut u8,
    pub(crate) len: u32,
}

// SAFETY: a piece is an address; using it from another thread is as good as from this one (the
// memory is shared anyway).
unsafe impl Send for Piece {}

impl Piece {
    /// No bytes.
    pub(crate) const EMPTY: Piece = Piece {
        ptr: std::ptr::null_mut(),
        len: 0,
    };

    /// Memory of our own, for ports without a guest. The caller keeps it where it is for as long as
    /// the piece is used.
    pub(crate) fn of_private(bytes: &mut [u8]) -> Piece {
        Piece {
            ptr: bytes.as_mut_ptr(),
            len: u32::try_from(bytes.len()).unwrap_or(0),
        }
    }

    /// Bytes in it.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// What is left behind its first `n` bytes, `n` being at most its length.
    #[inline(always)]
    pub(crate) fn behind(self, n: u32) -> Piece {
        debug_assert!(n <= self.len);
        Piece {
            ptr: self.ptr.wrapping_add(n as usize),
            len: self.len - n,
        }
    }

    /// Its first `n` bytes, `n` being at most its length.
    #[inline(always)]
    pub(crate) fn first(self, n: u32) -> Piece {
        debug_assert!(n <= self.len);
        Piece {
            ptr: self.ptr,
            len: n,
        }
    }

    /// Copies the first `n` bytes into private memory; `n` is at most the length of both.
    #[inline(always)]
    pub(crate) fn read(self, to: &mut [u8], n: usize) {
        assert!(n <= to.len() && n <= self.len as usize);
        // SAFETY: the piece is mapped (its maker checked, its keeper keeps the memory), `to` is as
        // long; they can't overlap, one is private.
        unsafe { copy(to.as_mut_ptr(), self.ptr, n) }
    }

    /// Copies `from` to its beginning; it is at least as long.
    #[inline(always)]
    pub(crate) fn write(self, from: &[u8]) {
        assert!(from.len() <= self.len as usize);
        // SAFETY: as in `read`.
        unsafe { copy(self.ptr, from.as_ptr(), from.len()) }
    }

    /// Copies all of `from` to its beginning; it is at least as long. Both may be a guest's, the
    /// same guest's even, and may overlap if the guest wants to spoil its own bytes.
    #[inline(always)]
    pub(crate) fn write_piece(self, from: Piece) {
        assert!(from.len <= self.len);
        // SAFETY: both pieces are mapped; the copy is made of loads and stores for which overlap is
        // merely garbage.
        unsafe { copy(self.ptr, from.ptr, from.len as usize) }
    }

    /// Asks for its first line to be read.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        prefetch(self.ptr);
    }

    /// Where it begins.
    #[inline(always)]
    pub(crate) fn addr(self) -> usize {
        self.ptr as usize
    }

    /// The 64 bits `at` bytes from its beginning, all of which lie inside: one load.
    #[inline(always)]
    pub(crate) fn load_u64(self, at: u32) -> u64 {
        assert!(u64::from(at) + 8 <= u64::from(self.len));
        // SAFETY: 8 bytes of a mapped piece.
        unsafe { load_u64(self.ptr.add(at as usize)) }
    }

    /// Stores as many, by one store.
    #[inline(always)]
    pub(crate) fn store_u64(self, at: u32, value: u64) {
        assert!(u64::from(at) + 8 <= u64::from(self.len));
        // SAFETY: as in `load_u64`.
        unsafe { store_u64(self.ptr.add(at as usize), value) }
    }

    /// The 32 bits `at` bytes from its beginning, all of which lie inside: one load.
    #[inline(always)]
    pub(crate) fn load_u32(self, at: u32) -> u32 {
        assert!(u64::from(at) + 4 <= u64::from(self.len));
        // SAFETY: 4 bytes of a mapped piece.
        unsafe { load_u32(self.ptr.add(at as usize)) }
    }

    /// Stores as many, by one store.
    #[inline(always)]
    pub(crate) fn store_u32(self, at: u32, value: u32) {
        assert!(u64::from(at) + 4 <= u64::from(self.len));
        // SAFETY: as in `load_u32`.
        unsafe { store_u32(self.ptr.add(at as usize), value) }
    }

    /// The 16 bits `at` bytes from its beginning, all of which lie inside: one load.
    #[inline(always)]
    pub(crate) fn load_u16(self, at: u32) -> u16 {
        assert!(u64::from(at) + 2 <= u64::from(self.len));
        // SAFETY: 2 bytes of a mapped piece.
        unsafe { load_u16(self.ptr.add(at as usize)) }
    }

    /// Stores as many, by one store.
    #[inline(always)]
    pub(crate) fn store_u16(self, at: u32, value: u16) {
        assert!(u64::from(at) + 2 <= u64::from(self.len));
        // SAFETY: as in `load_u16`.
        unsafe { store_u16(self.ptr.add(at as usize), value) }
    }
}
