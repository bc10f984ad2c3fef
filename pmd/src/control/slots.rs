//! Places of cores: what control shares with each core that there is or was.
//!
//! The place of a core that is gone keeps its counters, so that no sum goes back, and is the next
//! new core's, which counts on.

use std::sync::{Arc, PoisonError, RwLock};

use flowtable::Tally;

use crate::poll::mailbox::Mailbox;
use crate::stats::CoreStats;
use crate::sys::Epoll;

/// What control shares with one core.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) stats: Arc<CoreStats>,
    pub(super) tally: Arc<Tally>,
    /// What the core sleeps in.
    pub(super) epoll: Arc<Epoll>,
}

/// All places, by number of the core. Read without waiting for who holds the books.
#[derive(Debug, Default)]
pub(super) struct Slots(RwLock<Arc<[Slot]>>);

impl Slots {
    /// As they are now.
    pub(super) fn all(&self) -> Arc<[Slot]> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Fills the place of this number, which is one that there is or the next.
    pub(super) fn fill(&self, id: usize, slot: Slot) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = slots.split_at(id.min(slots.len()));
        *slots = before
            .iter()
            .cloned()
            .chain([slot])
            .chain(after.iter().skip(1).cloned())
            .collect();
    }
}
