//! The flow table: `/v1/flows`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The flow table now, in flows, and what all cores did with it since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Flows)]
pub(crate) struct FlowReport {
    pub(crate) capacity: u32,
    pub(crate) used: u32,
    /// How many each port may have when three quarters are in use.
    pub(crate) quota: u32,
    /// By ingress port, the most first; ports without any are left out.
    pub(crate) by_port: Vec<PortFlows>,
    /// Frames decided by a core's own cache.
    pub(crate) core_cache_hits: u64,
    /// Frames decided by the table.
    pub(crate) table_hits: u64,
    /// Frames decided anew.
    pub(crate) misses: u64,
    /// Misses that were put into the table.
    pub(crate) inserted: u64,
    /// Flows evicted since what they rested on had changed.
    pub(crate) evicted_outdated: u64,
    /// The port's own oldest, evicted.
    pub(crate) evicted_own: u64,
    /// Flows of a port over its quota, evicted.
    pub(crate) evicted_over_quota: u64,
    /// Flows in the table that were decided anew.
    pub(crate) updated: u64,
    /// Misses for which there was no place.
    pub(crate) not_cached: u64,
}

/// One port's flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PortFlows {
    /// Name of the port.
    pub(crate) port: String,
    pub(crate) flows: u32,
}
