//! What a receive queue waits for where all of it waits for the same: room at one transmit queue.
//! See `poll::wait`.

use std::ops::Range;

use crate::time::Nanos;

/// Of one receive queue: what it waits for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoomWait {
    /// The transmit queue that all frames of the burst go to, by its place in `slots`, and whether
    /// that was the whole burst.
    at: Option<(usize, bool)>,
    /// Frames that waited then: with one more, something else may be among them.
    n_known: u16,
    /// It is looked at then at the latest.
    until: Nanos,
}

impl RoomWait {
    /// The burst, from its frame `k` on, waits for room there and has nothing else.
    pub(crate) fn may_wait_at(&mut self, slot: Option<usize>, k: usize) {
        self.at = slot.map(|slot| (slot, k == 0));
    }

    /// The transmit queue that it may wait at, and whether its whole burst goes there.
    pub(crate) fn at(&self) -> Option<(usize, bool)> {
        self.at
    }

    /// It waits with so many frames, until then at the latest.
    pub(crate) fn begin(&mut self, n_known: u16, until: Nanos) {
        (self.n_known, self.until) = (n_known, until);
    }

    /// A port with these transmit queues is gone: nothing waits for room there.
    pub(crate) fn forget_port(&mut self, slots: &Range<usize>) {
        if self.at.is_some_and(|(slot, _)| slots.contains(&slot)) {
            *self = Self::default();
        }
    }

    /// It does not wait.
    pub(crate) fn does_not_begin(&mut self) {
        self.until = 0;
    }

    /// The transmit queue that it waits at now, and the frames that it began with.
    pub(crate) fn waits_at(&self, now: Nanos) -> Option<(usize, u16)> {
        let (slot, _) = self.at?;
        (now < self.until).then_some((slot, self.n_known))
    }
}
