//! A receive queue on its way from one core to another.

use flowtable::PortId;

use crate::limit::queue::{Held, QUEUES_MAX};
use crate::port::RxQueue;
use crate::stats::CoreStats;

/// A receive queue on its way, with all that the core had of it: what it has peeked and what is
/// known of its receivers are in the queue; with it go its frames that wait at limits of VMs. Made
/// by control, filled by one core, emptied by another, freed by control.
#[derive(Debug)]
pub struct Parcel {
    /// The port that the queue is of.
    pub(crate) port: PortId,
    /// What receivers know the queue by.
    pub(crate) who: u32,
    pub(crate) rxq: Option<Box<RxQueue>>,
    pub(crate) held: Vec<Held>,
}

impl Parcel {
    /// An empty one with room for all that a core may have of the queue, which is touched as far as
    /// it has some.
    pub(crate) fn new(port: PortId, who: u32) -> Self {
        Self {
            port,
            who,
            rxq: None,
            held: Vec::with_capacity(QUEUES_MAX),
        }
    }

    /// A port goes down while the queue is on no core: drops what waits from or for it.
    pub(crate) fn drop_all_of(&mut self, port: PortId, stats: &CoreStats) {
        let is_of_port = self.port == port;
        self.held.retain_mut(|held| {
            let is_dropped = is_of_port || held.to() == port;
            if is_dropped {
                held.drop_between_cores(stats);
            }
            !is_dropped
        });
    }
}
