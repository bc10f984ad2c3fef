//! What control remembers of ports that are up or going down.

use std::sync::Arc;

use flowtable::{Ingress, Networks, PortId};
use hashbrown::HashMap;

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
    /// Ports that exist, up or not, with how they come up; none: that is said when they do.
    pub(super) present: HashMap<PortId, Option<Ingress>>,
    /// What all cores know of each port that is up.
    pub(super) views: HashMap<PortId, Arc<PortView>>,
    /// Moments that cores are asked to pass: those that have not.
    pub(super) marks: HashMap<u64, Vec<usize>>,
    pub(super) n_marks: u64,
    /// The greatest number of a change so far.
    pub(super) generation: u32,
}

#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) n_answered: usize,
    pub(super) views: Vec<Arc<PortView>>,
    /// Each with the core that it was on.
    pub(super) rxqs: Vec<(usize, RxQueue)>,
}

impl Books {
    /// How a port comes up, if that was said when it was added.
    pub(super) fn ingress(&self, port: PortId) -> Option<Ingress> {
        self.present.get(&port).copied().flatten()
    }

    /// The number of another change, greater than all before.
    pub(super) fn next_generation(&mut self) -> u32 {
        let networks = self.networks.clone();
        self.saw(&networks);
        self.generation += 1;
        self.generation
    }

    /// Changes had these numbers already.
    pub(super) fn saw(&mut self, networks: &Networks) {
        self.generation = self.generation.max(networks.generation());
    }

    /// The same of a port that comes up.
    pub(super) fn saw_port(&mut self, ingress: &Ingress) {
        self.generation = self.generation.max(ingress.generation);
    }

    /// Networks have changed: trunks that carry others than before have budgets for these. Gives
    /// their ports.
    pub(super) fn carry_on(&mut self, before: &Networks, now: Nanos) -> Vec<PortId> {
        let mut changed = Vec::new();
        for (&port, budget) in &mut self.copies {
            let known = self.present.get(&port).copied().flatten();
            let ingress = known.or_else(|| Some(self.views.get(&port)?.ingress));
            let other = ingress
                .and_then(|ingress| budget.following(&ingress, (before, &self.networks), now));
            if let Some(other) = other {
                *budget = Arc::new(other);
                changed.push(port);
            }
        }
        changed
    }

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
