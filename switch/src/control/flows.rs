//! The flow table, as operators see it.

use super::sources::Sources;
use crate::api::flows::{FlowReport, PortFlows};

/// The flow table now.
pub(crate) fn flows(sources: &Sources) -> FlowReport {
    let flowtable::FlowCounters {
        capacity,
        used,
        share: quota,
        by_port,
        front_hits: core_cache_hits,
        hits: table_hits,
        misses,
        inserts: inserted,
        evicted_stale: evicted_outdated,
        evicted_own,
        evicted_over_share: evicted_over_quota,
        updates: updated,
        uncached: not_cached,
    } = sources.cores.flows();
    let present = sources.present();
    let name = |id| {
        let name = present.names.port(id);
        name.map_or_else(|| format!("port {id}"), str::to_owned)
    };
    let mut by_port: Vec<_> = by_port
        .into_iter()
        .map(|(port, flows)| PortFlows {
            port: name(port),
            flows,
        })
        .collect();
    by_port.sort_by_key(|port| std::cmp::Reverse(port.flows));
    FlowReport {
        capacity,
        used,
        quota,
        by_port,
        core_cache_hits,
        table_hits,
        misses,
        inserted,
        evicted_outdated,
        evicted_own,
        evicted_over_quota,
        updated,
        not_cached,
    }
}
