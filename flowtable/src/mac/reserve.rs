//! What each network may learn from the wire, whatever its neighbours do.
//!
//! The networks of a trunk share what its port may learn: addresses in all, and in a second new
//! ones and such as it takes over from other ports. Stations of one that use up any of it would
//! leave those of the others unknown, and what is sent to them would be flooded, or go to where
//! they were. So beyond the port's bounds each network has a few of all to itself.

use crate::ids::NetworkId;
use crate::mac::budget::Budget;
use crate::memory::sync::{AtomicU32, Ordering};

/// Addresses of a network that are learned although its uplink's port has as many as it may.
pub const ADDRESSES: u32 = 256;
/// New ones in a second.
const LEARNS_PER_SECOND: u32 = 256;
/// Taken over in a second.
const MOVES_PER_SECOND: u32 = 64;
/// Networks that are told apart.
const NETWORKS: usize = if cfg!(loom) { 1 } else { 4096 };

/// By network, as far as they go; those beyond share them.
#[derive(Debug)]
pub(crate) struct Reserves(Box<[Reserve]>);

#[derive(Debug, Default)]
struct Reserve {
    /// Addresses in the table that ports without a bound of their own have taught.
    n_learned: AtomicU32,
    learns: Budget,
    moves: Budget,
}

impl Reserves {
    pub(crate) fn new() -> Self {
        Self((0..NETWORKS).map(|_| Reserve::default()).collect())
    }

    fn of(&self, network: NetworkId) -> &Reserve {
        &self.0[usize::from(network) % NETWORKS]
    }

    /// One more was entered.
    pub(crate) fn entered(&self, network: NetworkId) {
        // Relaxed, as all here: a count, which orders nothing.
        self.of(network).n_learned.fetch_add(1, Ordering::Relaxed);
    }

    /// One has gone, or is another kind's now.
    pub(crate) fn left(&self, network: NetworkId) {
        self.of(network).n_learned.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one more has a place.
    pub(crate) fn has_room(&self, network: NetworkId) -> bool {
        self.of(network).n_learned.load(Ordering::Relaxed) < ADDRESSES
    }

    /// Whether one more may be entered in this second.
    pub(crate) fn may_learn(&self, network: NetworkId, now: u32) -> bool {
        self.has_room(network) && self.of(network).learns.take(now, LEARNS_PER_SECOND)
    }

    /// Whether one more may be taken over from another port in this second.
    pub(crate) fn may_move(&self, network: NetworkId, now: u32) -> bool {
        self.of(network).moves.take(now, MOVES_PER_SECOND)
    }
}
