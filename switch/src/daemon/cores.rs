//! Builds control's side of the polling cores, and their tables, from the topology.

use std::sync::Arc;

use config::Topology;
use pmd::Cores;
use pmd::control::CoresOptions;
use tracing::{info, warn};

use crate::plan::ids::Ids;
use crate::plan::networks::networks;
use crate::plan::ports::PortSpec;
use crate::plan::room::{fits_at_start, n_macs};

/// Builds control's side of the cores, which knows all ports and networks; of cores there is none
/// yet.
///
/// # Errors
/// A sentence: there is too little memory.
pub(super) fn new_cores(
    topology: &Topology,
    ids: &Ids,
    ports: &[PortSpec],
) -> Result<Cores, String> {
    let sources = || ports.iter().map(|port| port.ingress.source);
    let options = CoresOptions {
        n_cores: 0,
        n_ports: topology.ports,
        n_flows: topology.flows,
        n_macs: n_macs(sources(), topology.networks.len(), topology.ports),
        networks: Arc::new(networks(topology, ids, ports)),
        seeds: seeds(),
    };
    let (cores, _) = Cores::new(&options).map_err(|e| e.to_string())?;
    fits_at_start(sources(), topology.networks.len(), cores.macs().capacity())?;
    for port in ports {
        let added = cores.add_port(&port.ingress);
        added.map_err(|e| format!("{}: {e}", port.name))?;
    }
    Ok(cores)
}

/// Populates the tables now, so that a lack of memory shows at the start, in large pages if
/// possible: in small ones, look-ups among many flows are slower.
pub(super) fn settle_tables(cores: &Cores) {
    const SETTING: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let are_off = std::fs::read_to_string(SETTING).is_ok_and(|text| text.contains("[never]"));
    match cores.settle() {
        Err(why) => {
            warn!("the flow and MAC tables are not all in large pages, or not populated yet: {why}")
        }
        Ok(()) if are_off => {
            info!("the flow and MAC tables use small pages, as {SETTING} says")
        }
        Ok(()) => {}
    }
}

/// Unpredictable: the standard library seeds its hash maps with them.
fn seeds() -> [u64; 2] {
    use std::hash::{BuildHasher, RandomState};
    [0, 1].map(|n: u64| RandomState::new().hash_one(n))
}
