//! That memory of a guest is gone for good: its file was cut short, or its large pages can't be
//! had.
//!
//! Two marks. [`Damage`] is the guest's, of all its mappings together: whoever serves one of its
//! queues looks at it before touching any of its memory, and touches nothing more. The other is the
//! thread's: [`was_met`] after something that it touched was gone, until [`forget`]. A core looks
//! at that one within a burst, where the next frame, or the next piece of a frame, may lie in
//! another part that is gone, and each costs a signal. What is not read for that is taken to be
//! zeros, as what the signal handler puts there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::piece::Piece;

thread_local! {
    /// Written by the signal handler, which runs on the thread that touched.
    static WAS_MET: AtomicBool = const { AtomicBool::new(false) };
}

/// Bytes of [`zeros`]: of the longest piece.
const N_ZEROS: usize = 65_536 + 64;
static ZEROS: [AtomicU64; N_ZEROS / 8] = [const { AtomicU64::new(0) }; N_ZEROS / 8];

/// Whether some memory of a guest is gone. Never mended: its front-end has to connect anew.
#[derive(Debug, Default)]
pub struct Damage(AtomicBool);

impl Damage {
    /// Whether it is.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Something is gone. For the signal handler too.
    pub(super) fn done(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// For the signal handler: what this thread touched is gone for good.
pub(super) fn meet() {
    WAS_MET.with(|was_met| was_met.store(true, Ordering::Relaxed));
}

/// As it was before another guest's memory was touched.
pub(crate) fn put(was_met_before: bool) {
    WAS_MET.with(|was_met| was_met.store(was_met_before, Ordering::Relaxed));
}

/// Whether this thread touched something that was gone since it last forgot.
#[inline(always)]
pub(crate) fn was_met() -> bool {
    WAS_MET.with(|was_met| was_met.load(Ordering::Relaxed))
}

/// What was met until now was another guest's. Within a visit to a queue, what was met is its own
/// guest's memory: whoever touches a receiver's sees to it that nothing of that is left.
#[inline(always)]
pub(crate) fn forget() {
    WAS_MET.with(|was_met| was_met.store(false, Ordering::Relaxed));
}

/// So many bytes of zeros to read from, at most those of the longest piece.
#[cold]
pub(crate) fn zeros(len: u32) -> Piece {
    assert!(len as usize <= N_ZEROS);
    Piece {
        ptr: ZEROS.as_ptr().cast::<u8>().cast_mut(),
        len,
    }
}
