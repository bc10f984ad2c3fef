//! The flow table, as operators see it.

use super::sources::Sources;
use crate::api::flows::{FlowReport, PortFlows};

/// The flow table now.
pub(crate) fn flows(sources: &Sources) -> FlowReport {
    let flowtable::FlowCounters {
        capacity,
        used,
        share,
        by_port,
        front_hits,
        hits,
        misses,
        inserts,
        evicted_stale,
        evicted_own,
        evicted_over_share,
        updates,
        uncached,
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
        share,
        by_port,
        front_hits,
        hits,
        misses,
        inserts,
        evicted_stale,
        evicted_own,
        evicted_over_share,
        updates,
        uncached,
    }
}
