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
    let counts = [
        (topology.networks.len(), "network"),
        (topology.vms.len(), "VM"),
        (topology.nics().count(), "NIC"),
        (topology.uplinks.len(), "uplink"),
    ];
    let counts: Vec<_> = counts
        .into_iter()
        .filter(|(n, what)| *n > 0 || *what != "uplink")
        .map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }))
        .collect();
    let mut text = format!("{}: no errors ({})\n", file.display(), counts.join(", "));
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
