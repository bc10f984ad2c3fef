//! Hits and misses of the flow caches: counted by each core for itself, added up by control.

use crate::cache::table::{Entered, FlowTable};
use crate::ids::PortId;
use crate::memory::cache_line::Count;

/// One core's counts. Written by that core alone.
#[derive(Debug, Default)]
pub struct Tally {
    pub(crate) front_hits: Count,
    pub(crate) hits: Count,
    pub(crate) misses: Count,
    inserts: Count,
    over_stale: Count,
    over_own: Count,
    over_greedy: Count,
    updates: Count,
    uncached: Count,
}

/// The flow table now, and what all cores did with it since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCounters {
    /// Flows that the table can hold.
    pub capacity: u32,
    /// Flows that it holds.
    pub used: u32,
    /// How many each port may have when three quarters are in use.
    pub share: u32,
    /// Flows by ingress port; ports without any are left out.
    pub by_port: Vec<(PortId, u32)>,
    /// Hits in a core's own cache, in frames.
    pub front_hits: u64,
    /// Hits in the shared table, in frames.
    pub hits: u64,
    /// Misses, in frames: the flow was not in the table, or stale. `updates`, `inserts`, evictions
    /// and `uncached` say what became of the decision.
    pub misses: u64,
    /// Flows entered into free entries.
    pub inserts: u64,
    /// Flows entered in place of one that was outdated, or silent for a minute.
    pub evicted_stale: u64,
    /// Flows entered in place of the oldest of their own port.
    pub evicted_own: u64,
    /// Flows entered in place of the oldest of a port that had more than its share.
    pub evicted_over_share: u64,
    /// Flows whose decision was replaced.
    pub updates: u64,
    /// Decisions that were not cached.
    pub uncached: u64,
}

impl Tally {
    /// Counts the result of entering a flow.
    pub(crate) fn entered(&self, entered: Entered) {
        let count = match entered {
            Entered::Free => &self.inserts,
            Entered::OverStale => &self.over_stale,
            Entered::OverOwn => &self.over_own,
            Entered::OverGreedy => &self.over_greedy,
            Entered::No => &self.uncached,
        };
        count.add(1);
    }

    /// A flow's decision was replaced; `is_done` false: another core did it.
    pub(crate) fn updated(&self, is_done: bool) {
        if is_done {
            self.updates.add(1)
        } else {
            self.uncached.add(1)
        }
    }

    /// A decision was not cached.
    pub(crate) fn not_cached(&self) {
        self.uncached.add(1);
    }
}

impl FlowCounters {
    /// For a table that ports below `n_ports` use, with all cores' counts.
    pub fn new<'a>(
        table: &FlowTable,
        n_ports: usize,
        tallies: impl IntoIterator<Item = &'a Tally>,
    ) -> Self {
        let used_by = |port: usize| {
            let port = PortId::try_from(port).ok()?;
            Some((port, table.n_used_by(port))).filter(|&(_, n)| n > 0)
        };
        let mut report = Self {
            capacity: table.capacity(),
            used: table.n_used(),
            share: table.share(),
            by_port: (0..n_ports).filter_map(used_by).collect(),
            ..Self::default()
        };
        tallies.into_iter().for_each(|tally| report.add(tally));
        report
    }

    fn add(&mut self, tally: &Tally) {
        for (sum, count) in [
            (&mut self.front_hits, &tally.front_hits),
            (&mut self.hits, &tally.hits),
            (&mut self.misses, &tally.misses),
            (&mut self.inserts, &tally.inserts),
            (&mut self.evicted_stale, &tally.over_stale),
            (&mut self.evicted_own, &tally.over_own),
            (&mut self.evicted_over_share, &tally.over_greedy),
            (&mut self.updates, &tally.updates),
            (&mut self.uncached, &tally.uncached),
        ] {
            *sum += count.now();
        }
    }
}
