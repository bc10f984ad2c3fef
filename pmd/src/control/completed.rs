//! What a queue that moves has sent to devices: its new core begins when that is out.
//!
//! Behind a transmit queue the kernel may not keep the order of what two CPUs give it: a veth hands
//! frames to a queue of the CPU that sent them. So the first frame of the new core waits until all
//! that stood before it has been completed: microseconds, unless the device takes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowtable::PortId;
use hashbrown::HashMap;

use crate::port::{PortView, RxQueue};

/// For how long that is waited for, by a queue whose frames wait where they are.
const MOST: Duration = Duration::from_millis(20);
/// The same where frames come off a wire, which does not wait.
const MOST_OF_WIRE: Duration = Duration::from_millis(1);

/// What is waited for.
#[derive(Debug)]
pub(super) struct Completion {
    begun: Instant,
    /// Transmit queues of devices, and how many frames were put there; none: not looked at yet.
    before: Option<Vec<(PortId, usize, u32)>>,
}

impl Completion {
    /// From now on.
    pub(super) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            before: None,
        }
    }

    /// Whether all that `rxq` has put into transmit queues of devices is out, or was waited for
    /// long enough. Waits for no lock.
    pub(super) fn is_done(
        &mut self,
        views: &HashMap<PortId, Arc<PortView>>,
        rxq: &RxQueue,
    ) -> bool {
        let most = if rxq.can_hold() { MOST } else { MOST_OF_WIRE };
        if self.begun.elapsed() > most {
            return true;
        }
        if self.before.is_none() {
            let devices = views.iter().filter(|(_, view)| view.is_by_sender);
            let before = devices.filter(|(_, view)| !view.txqs.is_empty());
            self.before = before
                .map(|(&port, view)| {
                    let queue = usize::from(rxq.tx_index) % view.txqs.len();
                    Some((port, queue, view.txqs[queue].n_put()?))
                })
                .collect();
        }
        let Some(before) = &mut self.before else {
            return false;
        };
        before.retain(|&(port, queue, n_put)| {
            let txq = views.get(&port).and_then(|view| view.txqs.get(queue));
            txq.is_some_and(|txq| !txq.has_completed(n_put))
        });
        before.is_empty()
    }
}
