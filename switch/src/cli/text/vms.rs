//! VMs: `show vms`, and the rows of `top`.

use crate::api::vm::VmReport;
use crate::cli::format::{align, limit, percent, rx_rate, tx_rate};

/// Columns of a table of VMs.
pub(crate) const VM_HEAD: [&str; 8] = [
    "VM",
    "NICS",
    "FROM-VM",
    "LIMIT",
    "THROTTLED",
    "TO-VM",
    "LIMIT",
    "DROPPED",
];

/// `show vms`.
pub(crate) fn vms(vms: &[VmReport]) -> String {
    let mut rows = vec![VM_HEAD.map(str::to_owned).to_vec()];
    rows.extend(vms.iter().map(vm_row));
    align(&rows)
}

/// A VM's row.
pub(crate) fn vm_row(vm: &VmReport) -> Vec<String> {
    let throttled = if vm.limit.from_vm.is_some() {
        percent(vm.throttled_ratio)
    } else {
        "-".to_owned()
    };
    vec![
        vm.name.clone(),
        format!("{}/{}", vm.nics_up, vm.nics_total),
        rx_rate(&vm.rates),
        limit(vm.limit.from_vm),
        throttled,
        tx_rate(&vm.rates),
        limit(vm.limit.to_vm),
        drops(vm),
    ]
}

/// The VM's drops by reason, then frames dropped before delivery to it, then frames lost in the
/// kernel.
fn drops(vm: &VmReport) -> String {
    let (missed, limited) = (vm.counters.missed_frames, vm.counters.missed_limit_frames);
    let mut parts: Vec<_> = vm
        .drops
        .iter()
        .map(|drop| format!("{} {}", drop.frames, drop.reason))
        .collect();
    if limited > 0 {
        parts.push(format!("{limited} to-vm limit"));
    }
    if missed > limited {
        parts.push(format!("{} to-vm other", missed - limited));
    }
    if vm.lost_frames > 0 {
        parts.push(format!("{} lost in the kernel", vm.lost_frames));
    }
    if parts.is_empty() {
        "0".to_owned()
    } else {
        parts.join(", ")
    }
}
