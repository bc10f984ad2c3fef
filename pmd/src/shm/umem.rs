//! UMEM: the memory that a device's queue and this process share, in frames of one size.
//!
//! It is the switch's own, yet the kernel writes to frames that it was given, so it is reached as a
//! guest's memory is: by [`Piece`], never by reference. The owner of each frame is kept by
//! [`crate::ring::xsk::halves`].

use std::any::Any;
use std::sync::Arc;

use super::piece::Piece;

/// All frames of one UMEM. Cheap to clone: both halves of a queue have one.
#[derive(Clone, Debug)]
pub(crate) struct UmemArea {
    base: *mut u8,
    len: usize,
    /// Keeps the bytes where they are.
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: an address of memory that its owner keeps; what lies there is only touched through
// pieces.
unsafe impl Send for UmemArea {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for UmemArea {}

impl UmemArea {
    /// Memory that the caller mapped.
    ///
    /// # Safety
    /// `len` bytes from `base` on stay mapped and writable as long as `owner` lives, and nobody
    /// makes references to those that pieces are made of.
    pub(crate) unsafe fn new(base: *mut u8, len: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            base,
            len,
            _owner: owner,
        }
    }

    /// Memory of this process alone, zeroed: for tests.
    pub(crate) fn on_heap(len: usize) -> Self {
        let words = vec![0u64; len.div_ceil(8)].into_boxed_slice();
        let heap = Arc::new(Heap(Box::into_raw(words)));
        // SAFETY: the box is freed when its last owner goes, and only pieces lead into it
        // meanwhile.
        unsafe { Self::new(heap.0.cast(), len, heap) }
    }

    /// `len` bytes at `at`; `None` when some of them lie outside.
    #[inline(always)]
    pub(crate) fn piece(&self, at: usize, len: u32) -> Option<Piece> {
        let is_inside = at <= self.len && len as usize <= self.len - at;
        is_inside.then(|| Piece {
            ptr: self.base.wrapping_add(at),
            len,
        })
    }
}

/// A boxed slice that is only reached by address.
#[derive(Debug)]
struct Heap(*mut [u64]);

// SAFETY: an address, freed once.
unsafe impl Send for Heap {}
// SAFETY: as above.
unsafe impl Sync for Heap {}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: it came from a box in `on_heap`, and this is its last owner.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piece_that_is_not_wholly_inside_is_none() {
        let area = UmemArea::on_heap(4096);
        assert!(
            area.piece(0, 4096).is_some()
                && area.piece(4096, 0).is_some()
                && area.piece(4000, 96).is_some()
        );
        assert!(
            area.piece(4000, 97).is_none()
                && area.piece(4097, 0).is_none()
                && area.piece(usize::MAX, 8).is_none()
        );
        area.piece(4000, 4).unwrap().write(b"weir");
        let mut bytes = [0; 4];
        area.piece(4000, 4).unwrap().read(&mut bytes, 4);
        assert_eq!(&bytes, b"weir");
    }
}
