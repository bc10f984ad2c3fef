//! Metrics of the daemon itself, and of what all ports share.

use super::metric::{Metric, Subject, Value, size, whole};
use crate::api::flows::FlowReport;

/// The daemon, when it was asked.
#[derive(Debug)]
pub(super) struct Daemon {
    /// Seconds since 1970.
    pub(super) started: f64,
    pub(super) topology: u64,
    pub(super) n_ports: usize,
    pub(super) ports_max: usize,
    pub(super) flows: FlowReport,
    pub(super) n_addresses: u64,
    pub(super) addresses_max: usize,
}

impl Subject for Daemon {
    const LABELS: &'static [&'static str] = &[];

    fn label_values(&self) -> [&str; 2] {
        ["", ""]
    }
}

pub(super) const METRICS: &[Metric<Daemon>] = &[
    Metric::gauge("weir_build_info", "1. Which weir this is.", |_, sample| {
        sample(&[("version", env!("CARGO_PKG_VERSION"))], Value::Whole(1));
    })
    .by(&["version"]),
    Metric::gauge(
        "weir_start_time_seconds",
        "When the daemon started, in seconds since 1970.",
        |daemon, sample| sample(&[], Value::Real(daemon.started)),
    ),
    Metric::gauge(
        "weir_topology_number",
        "Number of the topology in force, counted from 1 at the start.",
        |daemon, sample| sample(&[], whole(daemon.topology)),
    ),
    Metric::gauge(
        "weir_ports",
        "NICs and uplinks of the topology.",
        |daemon, sample| sample(&[], size(daemon.n_ports)),
    ),
    Metric::gauge(
        "weir_ports_max",
        "NICs and uplinks that there is room for: `ports` of the topology.",
        |daemon, sample| sample(&[], size(daemon.ports_max)),
    ),
    Metric::gauge(
        "weir_mac_addresses",
        "Addresses in the MAC table.",
        |daemon, sample| sample(&[], whole(daemon.n_addresses)),
    ),
    Metric::gauge(
        "weir_mac_addresses_max",
        "Addresses that the MAC table has room for.",
        |daemon, sample| sample(&[], size(daemon.addresses_max)),
    ),
    Metric::gauge(
        "weir_flows",
        "Flows in the flow table.",
        |daemon, sample| sample(&[], whole(daemon.flows.used)),
    ),
    Metric::gauge(
        "weir_flows_max",
        "Flows that the flow table has room for: `flows` of the topology.",
        |daemon, sample| sample(&[], whole(daemon.flows.capacity)),
    ),
    Metric::gauge(
        "weir_flows_quota",
        "Flows that each port may have once three quarters of the table are in use.",
        |daemon, sample| sample(&[], whole(daemon.flows.quota)),
    ),
    Metric::counter(
        "weir_flow_lookups",
        "Frames whose flow was looked up, by where the decision was found: core-cache, table, or \
        miss (it was decided anew).",
        |daemon: &Daemon, sample| {
            let flows = &daemon.flows;
            sample(&[("found", "core-cache")], whole(flows.core_cache_hits));
            sample(&[("found", "table")], whole(flows.table_hits));
            sample(&[("found", "miss")], whole(flows.misses));
        },
    )
    .by(&["found"]),
    Metric::counter(
        "weir_flow_inserts",
        "Misses that were put into the flow table.",
        |daemon, sample| sample(&[], whole(daemon.flows.inserted)),
    ),
    Metric::counter(
        "weir_flow_updates",
        "Flows in the table that were decided anew.",
        |daemon, sample| sample(&[], whole(daemon.flows.updated)),
    ),
    Metric::counter(
        "weir_flow_evictions",
        "Flows evicted for others: outdated ones, the port's own oldest, or those of a port over \
        its quota.",
        |daemon: &Daemon, sample| {
            let flows = &daemon.flows;
            sample(&[("evicted", "outdated")], whole(flows.evicted_outdated));
            sample(&[("evicted", "own")], whole(flows.evicted_own));
            sample(
                &[("evicted", "over-quota")],
                whole(flows.evicted_over_quota),
            );
        },
    )
    .by(&["evicted"]),
    Metric::counter(
        "weir_flow_not_cached",
        "Misses for which the flow table had no place: such a flow is decided anew for each frame.",
        |daemon, sample| sample(&[], whole(daemon.flows.not_cached)),
    ),
];
