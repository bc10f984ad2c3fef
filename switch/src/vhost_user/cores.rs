//! What control needs of the polling cores, as a trait, so that the vhost-user state machine runs
//! in a test without any.
//!
//! [`CoresPort`] is the real one: the only place where queues are built and handed to the cores.

use std::sync::Arc;

use flowtable::PortId;
use pmd::control::{PortDown, PortUp};
use pmd::port::vhost::Features;
use pmd::port::{RxQueue, TxQueue};
use pmd::ring::QueueSpec;
use pmd::shm::GuestMemory;
use pmd::{Cores, GuestFault, SetupError};

use super::port::Port;
use crate::pins::Pins;

/// The polling cores, for one port's control thread.
pub(crate) trait DataPlane {
    /// Lets the cores poll these queues of the port, which is down. Those that can't be built are
    /// left out.
    fn up(&mut self, memory: &Arc<GuestMemory>, features: u64, queues: &[QueueSpec]) -> Raised;

    /// Takes all queues of the port back and waits until no core uses them or their memory.
    fn down(&mut self) -> Vec<Parked>;

    /// Memory regions that the port's front-end may have at a time.
    fn memory_slots(&self) -> usize;

    /// Bytes of all of them together.
    fn memory_bytes(&self) -> u64;

    /// None of the guest's receive rings is started: its addresses may be behind the uplink.
    fn rest(&mut self);

    /// The front-end is gone: removes the addresses learned from the guest, but not its own one.
    fn forget(&mut self);
}

/// A queue that was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) index: u16,
    /// The position at which it resumes.
    pub(crate) base: u16,
    /// The fault that stopped it until it is set up again.
    pub(crate) fault: Option<GuestFault>,
}

/// Exceptions in the result of [`DataPlane::up`], by queue index.
#[derive(Debug, Default)]
pub(crate) struct Raised {
    /// Queues that can't be built, and why.
    pub(crate) failed: Vec<(u16, SetupError)>,
    /// Queues that resume at another position than their spec says: the used index, which is right
    /// after a crash.
    pub(crate) elsewhere: Vec<(u16, u16)>,
}

/// One port of the cores.
#[derive(Clone, Debug)]
pub(crate) struct CoresPort {
    cores: Arc<Cores>,
    pins: Arc<Pins>,
    port: Arc<Port>,
}

impl CoresPort {
    /// This one.
    pub(crate) fn new(cores: Arc<Cores>, pins: Arc<Pins>, port: Arc<Port>) -> Self {
        Self { cores, pins, port }
    }

    fn port(&self) -> PortId {
        self.port.id()
    }
}

impl DataPlane for CoresPort {
    fn up(&mut self, memory: &Arc<GuestMemory>, features: u64, queues: &[QueueSpec]) -> Raised {
        let (mut rxqs, mut txqs, mut raised) = (Vec::new(), Vec::new(), Raised::default());
        let features = Features::from_bits(features);
        for spec in queues {
            // The guest's transmit virtqueues have the odd numbers: what it transmits, the switch
            // receives.
            let built = if spec.index % 2 == 1 {
                RxQueue::vhost(self.port(), memory.clone(), spec, features)
                    .map(|queue| (queue.base(), rxqs.push(queue)).0)
            } else {
                TxQueue::vhost(memory.clone(), spec, features)
                    .map(|queue| (queue.base(), txqs.push(queue)).0)
            };
            match built {
                Err(error) => raised.failed.push((spec.index, error)),
                Ok(base) if spec.base.is_some_and(|said| said != base) => {
                    raised.elsewhere.push((spec.index, base))
                }
                Ok(_) => {}
            }
        }
        if !rxqs.is_empty() || !txqs.is_empty() {
            self.port.spec.hold(|spec| {
                self.pins.meet(&spec.ingress, memory);
                self.cores.up(PortUp {
                    ingress: spec.ingress,
                    rxqs,
                    txqs,
                });
            });
        }
        raised
    }

    fn down(&mut self) -> Vec<Parked> {
        let PortDown { rxqs, txqs, .. } = self.cores.down(self.port());
        let parked = |index, base, fault| Parked { index, base, fault };
        let rx = rxqs
            .iter()
            .map(|queue| parked(queue.index(), queue.base(), queue.stopped_for()));
        let tx = txqs
            .iter()
            .map(|queue| parked(queue.index(), queue.base(), queue.stopped_for()));
        rx.chain(tx).collect()
    }

    fn memory_slots(&self) -> usize {
        pmd::shm::mappings_of_a_port(self.cores.n_ports())
    }

    fn memory_bytes(&self) -> u64 {
        pmd::shm::bytes_of_a_port(self.cores.n_ports())
    }

    fn rest(&mut self) {
        self.cores.macs().rest(self.port());
    }

    fn forget(&mut self) {
        self.cores.macs().forget_port(self.port());
    }
}
