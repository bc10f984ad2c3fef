//! All ports as a core knows them, and which transmit queue of one a frame goes to.

use std::sync::Arc;

use flowtable::wire::header::symmetric_hash;
use flowtable::{Action, PortId};

use super::lock::TxLock;
use super::view::PortView;
use crate::burst::{BURST_MAX, Burst};
use crate::limit::VmLimits;

/// Transmit queues of one port.
pub(crate) const TXQS_MAX: usize = 16;

/// What a core knows of every port, by id.
pub(crate) type Views = [Option<Arc<PortView>>];

/// The transmit queue that a unicast frame goes to, by its place in `slots`. `tx_index`: that of
/// the receive queue that the frame came in by.
pub(crate) fn destination(views: &Views, tx_index: u16, burst: &Burst, k: usize) -> Option<usize> {
    let Action::Unicast(to) = burst.actions[k] else {
        return None;
    };
    slot_of(views, tx_index, burst, k, to)
}

/// The same for a frame that goes to port `to`.
pub(crate) fn slot_of(
    views: &Views,
    tx_index: u16,
    burst: &Burst,
    k: usize,
    to: PortId,
) -> Option<usize> {
    let view = views.get(usize::from(to))?.as_deref();
    let queue = view
        .and_then(|view| queue_of(view, tx_index, burst, k))
        .map_or(0, |(queue, _)| queue);
    Some(usize::from(to) * TXQS_MAX + queue)
}

/// The transmit queue at this place, if it is up.
pub(crate) fn lock_at(views: &Views, slot: usize) -> Option<&TxLock> {
    views
        .get(slot / TXQS_MAX)?
        .as_ref()?
        .txqs
        .get(slot % TXQS_MAX)
}

/// The limits of the VM that a port belongs to, if it is up and has any.
pub(crate) fn limits_of(views: &Views, port: PortId) -> Option<&Arc<VmLimits>> {
    views.get(usize::from(port))?.as_ref()?.limits()
}

/// The transmit queue of a port that frame `k` goes to, and whether every other frame for that port
/// does. None: it has no queue.
#[inline(always)]
pub(crate) fn queue_of(
    view: &PortView,
    tx_index: u16,
    burst: &Burst,
    k: usize,
) -> Option<(usize, bool)> {
    match view.txqs.len() {
        0 => None,
        1 => Some((0, true)),
        n_queues if view.is_by_sender => {
            Some((usize::from(tx_index) % n_queues.min(TXQS_MAX), true))
        }
        n_queues => Some((pick_queue(burst, k, n_queues), false)),
    }
}

/// Which queue a flow goes to: the same for all its frames, in both directions.
#[inline(never)]
fn pick_queue(burst: &Burst, k: usize, n_queues: usize) -> usize {
    let hash = symmetric_hash(
        &burst.headers[k % BURST_MAX],
        burst.lens[k % BURST_MAX] as usize,
    );
    // The high half of a product instead of a remainder: as even, and no division.
    ((u64::from(hash) * n_queues as u64) >> 32) as usize
}
