//! `weir check`: errors of a topology file, and notes about it on this host.

use std::path::Path;

use config::Topology;

use super::cpus::choose::Cpus;
use crate::device::probe;
use crate::plan::ids::Ids;
use crate::plan::ports::ports;

/// Summary and notes, if the topology in `file` has no errors.
///
/// # Errors
/// A sentence for each error.
pub(crate) fn check(file: &Path) -> Result<String, String> {
    let topology = config::load(file).map_err(|report| report.to_string())?;
    let mut remarks = topology.remarks();
    remarks.extend(topology.advice_on_macs());
    // The file may be meant for another machine.
    remarks.extend(
        Cpus::choose(&topology.cores)
            .err()
            .map(|why| format!("on this machine, {why}")),
    );
    let ids = Ids::of(&topology).map_err(|why| format!("error: {why}"))?;
    remarks.extend(
        probe::check(&ports(&topology, &ids))
            .map_err(|wrong| format!("error: {}", wrong.join("\nerror: ")))?,
    );
    Ok(checked(file, &topology, &remarks))
}

/// Summary of a topology without errors, and notes.
fn checked(file: &Path, topology: &Topology, remarks: &[String]) -> String {
    let (n_networks, n_vms, n_nics) = (
        topology.networks.len(),
        topology.vms.len(),
        topology.nics().count(),
    );
    let n_uplinks = match topology.uplinks.len() {
        0 => String::new(),
        n => format!(", {n} uplinks"),
    };
    let mut text = format!(
        "{}: no errors ({n_networks} networks, {n_vms} VMs, {n_nics} NICs{n_uplinks})\n",
        file.display()
    );
    let unused = topology
        .uplinks
        .iter()
        .enumerate()
        .filter(|(idx, _)| topology.networks_on(*idx).next().is_none());
    let unused = unused.map(|(_, uplink)| format!("uplink {} is used by no network", uplink.name));
    for remark in unused.chain(remarks.iter().cloned()) {
        text.push_str(&format!("note: {remark}\n"));
    }
    text
}
