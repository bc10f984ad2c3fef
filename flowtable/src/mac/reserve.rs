//! What each network may learn from the wire, whatever other networks do.
//!
//! The networks of a trunk share what its port may learn: addresses in total, and new and moved
//! ones in a second. If stations of one network used it up, those of the others would stay unknown,
//! and frames to them would be flooded or go to an old place. So beyond the port's bounds each
//! network has a reserve of its own.

use crate::ids::NetworkId;
use crate::mac::budget::Budget;
use crate::memory::sync::{AtomicU32, Ordering};

/// Addresses of a network that are learned even if its uplink's port has as many as it may.
pub const ADDRESSES: u32 = 256;
/// New addresses in a second.
const LEARNS_PER_SECOND: u32 = 256;
/// Addresses taken over in a second.
const MOVES_PER_SECOND: u32 = 64;
/// Networks with a reserve of their own.
const NETWORKS: usize = if cfg!(loom) { 1 } else { 4096 };

/// By network, modulo [`NETWORKS`].
#[derive(Debug)]
pub(crate) struct Reserves(Box<[Reserve]>);

#[derive(Debug, Default)]
struct Reserve {
    /// Addresses in the table that were learned from ports without a bound.
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

    /// The network is gone: another one begins with all that it may learn and move in a second.
    pub(crate) fn forget(&self, network: NetworkId) {
        self.of(network).learns.forget();
        self.of(network).moves.forget();
    }

    /// Counts an address that was entered.
    pub(crate) fn entered(&self, network: NetworkId) {
        // Relaxed, as all here: a count, which orders nothing.
        self.of(network).n_learned.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an address that was removed, or is of another kind now.
    pub(crate) fn left(&self, network: NetworkId) {
        self.of(network).n_learned.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether one more may be in the table.
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
