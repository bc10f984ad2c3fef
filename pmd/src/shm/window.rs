//! A part of a guest's memory that one translation led to.

use super::piece::Piece;

/// Addresses in a row that one translation found, for those that follow it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(super) guest_addr: u64,
    pub(super) len: u64,
    pub(super) host: *mut u8,
}

// SAFETY: an address, valid as long as the memory it is used with.
unsafe impl Send for Window {}

impl Window {
    /// Knows nothing yet.
    pub(crate) const EMPTY: Window = Window {
        guest_addr: 0,
        len: 0,
        host: std::ptr::null_mut(),
    };

    /// The bytes at `addr` if all of them are in this window.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below the length of a mapping"
    )]
    pub(crate) fn piece(&self, addr: u64, len: u32) -> Option<Piece> {
        let at = addr.wrapping_sub(self.guest_addr);
        if at < self.len && u64::from(len) <= self.len - at {
            // `at` is below the length of a mapping, so it fits.
            return Some(Piece {
                ptr: self.host.wrapping_add(at as usize),
                len,
            });
        }
        None
    }
}
