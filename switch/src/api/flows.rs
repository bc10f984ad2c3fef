//! The flow table: `/v1/flows`.

use serde::{Deserialize, Serialize};

/// The flow table now, and what all cores did with it since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlowReport {
    /// Capacity of the table, and flows in it.
    pub(crate) capacity: u32,
    pub(crate) used: u32,
    /// How many each port may have when three quarters are in use.
    pub(crate) share: u32,
    /// By ingress port, the most first; ports without any are left out.
    pub(crate) by_port: Vec<PortFlows>,
    /// Frames by per-core cache hits, table hits and misses.
    pub(crate) front_hits: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Outcomes of misses, in flows.
    pub(crate) inserts: u64,
    pub(crate) evicted_stale: u64,
    pub(crate) evicted_own: u64,
    pub(crate) evicted_over_share: u64,
    pub(crate) updates: u64,
    pub(crate) uncached: u64,
}

/// One port's flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortFlows {
    pub(crate) port: String,
    pub(crate) flows: u32,
}
