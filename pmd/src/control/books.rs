//! What control remembers of ports that are up or going down.

use std::sync::Arc;

use flowtable::{Ingress, Networks, PortId};
use hashbrown::{HashMap, HashSet};

use crate::limit::VmLimits;
use crate::limit::flood_budget::FloodBudget;
use crate::port::{PortView, RxQueue};
use crate::time::Nanos;

/// What control remembers of ports that are up or going down.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Receive queues on each core.
    pub(super) n_rxqs: Vec<usize>,
    /// Where each port's receive queues went.
    pub(super) placed: HashMap<PortId, Vec<usize>>,
    pub(super) leaving: HashMap<PortId, Leaving>,
    /// Those of the VM that a port belongs to.
    pub(super) limits: HashMap<PortId, Arc<VmLimits>>,
    /// What a port's floods may copy, however often it comes up.
    pub(super) copies: HashMap<PortId, Arc<FloodBudget>>,
    pub(super) networks: Arc<Networks>,
    /// Ports that exist, up or not.
    pub(super) present: HashSet<PortId>,
}

#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) n_answered: usize,
    pub(super) views: Vec<Arc<PortView>>,
    /// Each with the core that it was on.
    pub(super) rxqs: Vec<(usize, RxQueue)>,
}

impl Books {
    /// What the floods of a port may copy. It is made once: a guest that sets up its queues anew
    /// must not get it anew.
    pub(super) fn flood_budget(&mut self, ingress: &Ingress, now: Nanos) -> Arc<FloodBudget> {
        let Self {
            copies, networks, ..
        } = self;
        copies
            .entry(ingress.port)
            .or_insert_with(|| Arc::new(FloodBudget::new(ingress, networks, now)))
            .clone()
    }
}
