//! What control remembers of cores, and of ports that are up or going down.

use std::sync::Arc;

use flowtable::{Ingress, Networks, PortId};
use hashbrown::HashMap;

use super::completed::Completion;
use crate::limit::VmLimits;
use crate::limit::flood_budget::FloodBudget;
use crate::poll::parcel::Parcel;
use crate::port::{PortView, RxQueue};
use crate::stats::QueueStats;
use crate::time::Nanos;

/// Transmit queues that a device has at most: numbers for receive queues are below this.
const TX_INDEXES: usize = 16;

/// What control remembers.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) cores: Vec<CoreBook>,
    /// How many receive queues have which `tx_index`.
    pub(super) tx_used: [usize; TX_INDEXES],
    /// The receive queues of each port that is up.
    pub(super) placed: HashMap<PortId, Vec<Placed>>,
    /// What all cores know of each port that is up. So a core is never the last to let go of one.
    pub(super) views: HashMap<PortId, Arc<PortView>>,
    pub(super) leaving: HashMap<PortId, Leaving>,
    /// Receive queues on their way, by what receivers know them by.
    pub(super) moving: HashMap<u32, Moving>,
    /// Those of the VM that a port belongs to.
    pub(super) limits: HashMap<PortId, Arc<VmLimits>>,
    /// What a port's floods may copy, however often it comes up.
    pub(super) copies: HashMap<PortId, Arc<FloodBudget>>,
    pub(super) networks: Arc<Networks>,
    /// Ports that exist, up or not, with how they come up; none: that is said when they do.
    pub(super) present: HashMap<PortId, Option<Ingress>>,
    /// Moments that cores are asked to pass: those that have not.
    pub(super) marks: HashMap<u64, Vec<usize>>,
    pub(super) n_marks: u64,
    /// The greatest number of a change so far.
    pub(super) generation: u32,
}

/// One core.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoreBook {
    pub(super) state: CoreState,
    /// Receive queues that are there, or on their way there.
    pub(super) n_rxqs: usize,
}

/// How a core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoreState {
    /// It polls, and gets queues.
    Polls,
    /// It polls and is to go: its queues move away.
    Leaves,
    /// It was told to end, and hears nothing any more.
    Ends,
    /// It is no more; its place is free.
    Gone,
}

/// One receive queue of a port that is up.
#[derive(Debug)]
pub(super) struct Placed {
    /// Its number, as [`RxQueue::index`] says.
    pub(super) index: u16,
    pub(super) who: u32,
    /// Where it is, or is on its way to.
    pub(super) core: usize,
    pub(super) tx_index: u16,
    /// Its core was given it. Until then it goes nowhere else.
    pub(super) is_there: bool,
    pub(super) stats: Arc<QueueStats>,
    pub(super) sample: LoadSample,
}

/// What was read of a queue's load the last time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LoadSample {
    pub(super) of_queue: u64,
    pub(super) of_core: u64,
    pub(super) part: f64,
}

impl Placed {
    /// A queue that its core will be given.
    pub(super) fn new(rxq: &RxQueue, (core, tx_index): (usize, u16)) -> Self {
        Self {
            index: rxq.index(),
            who: rxq.who,
            core,
            tx_index,
            is_there: false,
            stats: rxq.load.clone(),
            sample: LoadSample::default(),
        }
    }

    /// It is given to its core, which this gives.
    pub(super) fn is_there_now(&mut self) -> usize {
        self.is_there = true;
        self.core
    }
}

/// A port that goes down.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Cores that have not let go of it.
    pub(super) unanswered: Vec<usize>,
    pub(super) views: Vec<Arc<PortView>>,
    /// Each with the core that it was on.
    pub(super) rxqs: Vec<(usize, RxQueue)>,
}

/// A receive queue on its way from one core to another.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) port: PortId,
    pub(super) from: usize,
    pub(super) to: usize,
    /// What the old core has given away; none: it has not yet.
    pub(super) parcel: Option<Box<Parcel>>,
    /// Since that, what the queue has sent to devices is waited for.
    pub(super) completion: Option<Completion>,
    /// Ports that went to another network meanwhile: what waits from or for them goes nowhere.
    pub(super) elsewhere: Vec<PortId>,
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

    /// Cores that hear commands.
    pub(super) fn hearing(&self) -> Vec<usize> {
        self.cores_that(|state| matches!(state, CoreState::Polls | CoreState::Leaves))
    }

    /// Cores that get queues.
    pub(super) fn polling(&self) -> Vec<usize> {
        self.cores_that(|state| state == CoreState::Polls)
    }

    pub(super) fn cores_that(&self, is: impl Fn(CoreState) -> bool) -> Vec<usize> {
        let cores = self.cores.iter().enumerate();
        cores
            .filter(|(_, core)| is(core.state))
            .map(|(id, _)| id)
            .collect()
    }

    /// A core has ended: it uses nothing of any port.
    pub(super) fn has_ended(&mut self, core: usize) {
        self.cores[core].state = CoreState::Gone;
        for leaving in self.leaving.values_mut() {
            leaving.unanswered.retain(|&other| other != core);
        }
        for cores in self.marks.values_mut() {
            cores.retain(|&other| other != core);
        }
    }

    /// Chooses a core for one more receive queue, the one that has the fewest, and by which
    /// transmit queue of a device its frames leave: one that few others have, and none of another
    /// core if that can be.
    pub(super) fn place_one(&mut self) -> (usize, u16) {
        let cores = self.polling();
        let fewest = (0..cores.len()).min_by_key(|&nth| self.cores[cores[nth]].n_rxqs);
        let nth = fewest.unwrap_or(0);
        let core = cores.get(nth).copied().unwrap_or(0);
        let tx_index = (0..TX_INDEXES)
            .filter(|tx_index| tx_index % cores.len().clamp(1, TX_INDEXES) == nth % TX_INDEXES)
            .min_by_key(|&tx_index| self.tx_used[tx_index])
            .unwrap_or(0);
        self.cores[core].n_rxqs += 1;
        self.tx_used[tx_index] += 1;
        (core, u16::try_from(tx_index).unwrap_or(0))
    }

    /// The core with the fewest receive queues; of several, the one whose queues use this transmit
    /// queue of devices.
    pub(super) fn fewest(&self, tx_index: u16) -> usize {
        let cores = self.polling();
        let best = (0..cores.len()).min_by_key(|&nth| {
            let is_other = usize::from(tx_index) % cores.len() != nth;
            (self.cores[cores[nth]].n_rxqs, is_other)
        });
        best.map_or(0, |nth| cores[nth])
    }

    /// The queues of a port that goes down have no place any more.
    pub(super) fn displace(&mut self, port: PortId) {
        for queue in self.placed.remove(&port).unwrap_or_default() {
            self.cores[queue.core].n_rxqs -= 1;
            self.tx_used[usize::from(queue.tx_index)] -= 1;
        }
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
