//! One place in the table of guarded mappings: entered and given up by control threads, looked at
//! by a signal handler that may run on any thread at any moment.
//!
//! A handler acts upon a mapping only while it is counted as inside the slot, with the range that
//! it read after it was counted; whoever gives a slot up closes it first and waits until nobody is
//! inside. So the range a handler acts upon is mapped by the slot's owner until the handler has
//! left, and a slot is not used again under a handler.

use super::atomics::{AtomicUsize, Ordering, fence};

/// Free.
const FREE: usize = 0;
/// Being filled in, or being given up. No mapping begins at address 1.
const CLOSED: usize = 1;

/// What a handler has put in a mapping's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// Nothing: it is none of its business.
    Nothing,
    /// One page, which its owner will put back.
    Page,
    /// A part, for good.
    ForGood,
}

/// See the module. All zero: free.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// First address of the mapping, or [`FREE`], or [`CLOSED`].
    pub(super) base: AtomicUsize,
    /// Bytes of it. Written only while the slot is closed and nobody is inside.
    pub(super) len: AtomicUsize,
    /// Address of what its owner keeps for the handler, or 0. Written as the length is, and kept
    /// until the slot is left.
    pub(super) extra: AtomicUsize,
    /// Parts that handlers have put in its place for good.
    pub(super) n_parts: AtomicUsize,
    /// Handlers that act upon this slot now.
    pub(super) n_inside: AtomicUsize,
}

impl Slot {
    /// Takes the slot for the mapping of `len` bytes at `base`, if it is free. `extra` is what
    /// handlers are given beside these.
    pub(crate) fn take(&self, base: usize, len: usize, extra: usize) -> bool {
        // Acquire, with the release in `free`: whoever was here before is gone.
        if self
            .base
            .compare_exchange(FREE, CLOSED, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.len.store(len, Ordering::Relaxed);
        self.extra.store(extra, Ordering::Relaxed);
        self.n_parts.store(0, Ordering::Relaxed);
        // Release, with the loads in `range`: whoever sees the base sees the length.
        self.base.store(base, Ordering::Release);
        true
    }

    /// No handler acts upon the mapping from now on but those that are inside; the slot stays
    /// taken.
    pub(crate) fn close(&self) {
        self.base.store(CLOSED, Ordering::Relaxed);
        // Full fence, with the handler's between its count and its second look: either it sees
        // this, or `is_left` sees the handler.
        fence(Ordering::SeqCst);
    }

    /// Whether no handler is inside. One that comes after [`Slot::close`] leaves again without
    /// acting.
    pub(crate) fn is_left(&self) -> bool {
        // Acquire, with the release of each handler's leaving.
        self.n_inside.load(Ordering::Acquire) == 0
    }

    /// Gives a slot up that is closed and left.
    pub(crate) fn free(&self) {
        self.base.store(FREE, Ordering::Release);
    }

    /// Parts that handlers have put in the mapping's place for good.
    pub(crate) fn n_parts(&self) -> usize {
        self.n_parts.load(Ordering::Acquire)
    }

    /// For a signal handler: if `at` lies in this slot's mapping, `put` is called with its base,
    /// its length and `extra`, and says what it has put there; what was put for good is counted.
    /// Gives whether anything was put.
    ///
    /// While `put` runs, the mapping stays and the slot is not used again. It never waits.
    pub(crate) fn replace_if_around(
        &self,
        at: usize,
        put: impl FnOnce(usize, usize, usize) -> Put,
    ) -> bool {
        // A hint, which spares counting in and out of every slot of the table.
        if self.range_around(at).is_none() {
            return false;
        }
        self.n_inside.fetch_add(1, Ordering::Relaxed);
        // Full fence, with the one in `close`.
        fence(Ordering::SeqCst);
        // Read anew, now that the slot can't change hands.
        let done = self.range_around(at).map_or(Put::Nothing, |(base, len)| {
            put(base, len, self.extra.load(Ordering::Relaxed))
        });
        if done == Put::ForGood {
            self.n_parts.fetch_add(1, Ordering::Release);
        }
        // Release, with the load in `is_left`: what was done here is done before the mapping ends.
        self.n_inside.fetch_sub(1, Ordering::Release);
        done != Put::Nothing
    }

    fn range_around(&self, at: usize) -> Option<(usize, usize)> {
        // Acquire, with the release in `take`.
        let base = self.base.load(Ordering::Acquire);
        if base <= CLOSED || at < base {
            return None;
        }
        let len = self.len.load(Ordering::Relaxed);
        (at - base < len).then_some((base, len))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn mapping_around_an_address_is_replaced_once_and_marked() {
        let slot = Slot::default();
        let mut calls = Vec::new();
        assert!(slot.take(0x1000, 0x2000, 7) && !slot.take(0x9000, 1, 0));
        for at in [0xfff, 0x1000, 0x2fff, 0x3000] {
            slot.replace_if_around(at, |base, len, extra| {
                calls.push((at, base, len, extra));
                if at == 0x2fff {
                    Put::ForGood
                } else {
                    Put::Page
                }
            });
            assert_eq!(slot.n_parts(), usize::from(at > 0x1000));
        }
        assert_eq!(
            calls,
            [(0x1000, 0x1000, 0x2000, 7), (0x2fff, 0x1000, 0x2000, 7)]
        );
    }

    #[test]
    fn slot_that_is_given_up_meanwhile_is_not_used_again_before_the_handler_has_left() {
        let slot = Slot::default();
        assert!(slot.take(0x1000, 0x1000, 0));
        slot.replace_if_around(0x1800, |base, len, _| {
            // Now, on another thread, the mapping's owner wants to unmap it, and the next one wants
            // the slot.
            slot.close();
            assert!(
                !slot.is_left(),
                "it would be unmapped under the handler, and somebody else's memory be there"
            );
            assert!(
                !slot.take(0x8000, 0x10_0000, 0),
                "the handler would act upon another's length"
            );
            assert_eq!((base, len), (0x1000, 0x1000));
            Put::Nothing
        });
        assert!(slot.is_left());
        slot.free();
        assert!(slot.take(0x8000, 0x10_0000, 0));
        assert!(
            !slot.replace_if_around(0x1800, |_, _, _| Put::ForGood) && slot.n_parts() == 0,
            "it is another mapping's now"
        );
    }

    #[test]
    fn handler_finds_nothing_in_a_slot_that_is_closed() {
        let slot = Slot::default();
        assert!(slot.take(0x1000, 0x1000, 0));
        slot.close();
        assert!(!slot.replace_if_around(0x1800, |_, _, _| panic!("it is being unmapped")));
        assert!(slot.is_left());
    }
}
