//! All that the page shows, in one report. It belongs to the page of the same version: programs
//! read `/v1` or metrics.

use std::collections::BTreeMap;

use flowtable::DropReason;
use hashbrown::HashMap;
use serde::Serialize;

use crate::api::core::CoreReport;
use crate::api::counters::DropReport;
use crate::api::port::{PortReport, PortRow};
use crate::api::state::State;
use crate::api::version::VersionReport;
use crate::api::vm::{LimitReport, VmReport};
use crate::control::cores::cores;
use crate::control::ports::{ports, uplinks};
use crate::control::sources::Sources;
use crate::control::version::version;
use crate::control::vms::vms;

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Status {
    pub(super) version: String,
    /// Number of the topology.
    pub(super) topology: u64,
    pub(super) started_at: String,
    pub(super) uptime_seconds: u64,
    /// Since the daemon's start, by the cores' clock, when the counters were read.
    pub(super) at_nanoseconds: u64,
    pub(super) vms: Vec<Vm>,
    pub(super) uplinks: Vec<Uplink>,
    pub(super) cores: Vec<Core>,
    /// Drops of all ports, by reason; reasons without any are left out.
    pub(super) drops: Vec<DropReport>,
}

/// A VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Vm {
    pub(super) name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    pub(super) nics: Vec<Nic>,
    pub(super) from_vm: Way,
    pub(super) to_vm: Way,
    /// Part of the last second for which it was throttled, 0 to 1.
    pub(super) throttled_ratio: f64,
    /// Frames from it that were dropped.
    pub(super) dropped_frames: u64,
    /// The same by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) drops: BTreeMap<String, u64>,
    /// Frames dropped before delivery to it.
    pub(super) missed_frames: u64,
    /// Frames that the kernel lost between its devices and the switch.
    pub(super) lost_frames: u64,
}

/// What passes in one direction, and what may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Way {
    pub(super) bits_per_second: f64,
    pub(super) frames_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit_bits_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit_packets_per_second: Option<u64>,
}

/// A NIC of a VM.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Nic {
    pub(super) name: String,
    pub(super) network: String,
    pub(super) state: State,
    /// What it waits for, or what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sentence: Option<String>,
}

/// An uplink; rx is what it receives from the wire.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Uplink {
    pub(super) name: String,
    pub(super) state: State,
    /// What it waits for, or what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sentence: Option<String>,
    pub(super) rx: Way,
    pub(super) tx: Way,
    pub(super) dropped_frames: u64,
    /// Frames lost in the kernel or at the device.
    pub(super) lost_frames: u64,
}

/// A polling core.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Core {
    pub(super) cpu: usize,
    pub(super) busy_ratio: f64,
    pub(super) cpu_ratio: f64,
    pub(super) frames_per_second: f64,
}

/// What there is to show now. Its cost grows with the number of ports, and with nothing else.
pub(super) fn status(sources: &Sources) -> Status {
    let topology = sources.topology_number();
    let VersionReport {
        version,
        started_at,
        uptime_seconds,
        ..
    } = version(sources.started);
    let at_nanoseconds = sources.clock.now();
    let (vms, uplinks) = (vms(sources), uplinks(sources));
    let of_vms = vms.iter().flat_map(|vm| &vm.drops);
    let drops = total(of_vms.chain(uplinks.iter().flat_map(|uplink| &uplink.drops)));
    let mut nics = nics_by_vm(ports(sources));
    let vm = |vm: VmReport| {
        let nics = nics.remove(&vm.name).unwrap_or_default();
        // A change of the topology came between: it has gone, and so will its row.
        (!nics.is_empty()).then(|| report_vm(vm, nics))
    };
    Status {
        version,
        topology,
        started_at,
        uptime_seconds,
        at_nanoseconds,
        vms: vms.into_iter().filter_map(vm).collect(),
        uplinks: uplinks.into_iter().map(report_uplink).collect(),
        cores: cores(sources).iter().map(report_core).collect(),
        drops,
    }
}

fn nics_by_vm(ports: Vec<PortRow>) -> HashMap<String, Vec<Nic>> {
    let mut nics: HashMap<String, Vec<Nic>> = HashMap::new();
    for port in ports {
        let (Some(vm), Some(name)) = (port.vm, port.nic) else {
            continue;
        };
        nics.entry(vm).or_default().push(Nic {
            name,
            network: port.networks.into_iter().next().unwrap_or_default(),
            state: port.state,
            sentence: port.sentence,
        });
    }
    nics
}

fn report_vm(vm: VmReport, nics: Vec<Nic>) -> Vm {
    let drops = vm.drops.into_iter();
    let (rates, limit) = (&vm.rates, &vm.limit);
    Vm {
        name: vm.name,
        labels: vm.labels,
        nics,
        from_vm: way(
            (rates.rx_bits_per_second, rates.rx_frames_per_second),
            limit.from_vm,
        ),
        to_vm: way(
            (rates.tx_bits_per_second, rates.tx_frames_per_second),
            limit.to_vm,
        ),
        throttled_ratio: rounded(vm.throttled_ratio),
        dropped_frames: vm.counters.dropped_frames,
        drops: drops.map(|drop| (drop.reason, drop.frames)).collect(),
        missed_frames: vm.counters.missed_frames,
        lost_frames: vm.lost_frames,
    }
}

fn report_uplink(uplink: PortReport) -> Uplink {
    let lost = uplink.device.and_then(|device| device.lost);
    let PortRow {
        name,
        state,
        sentence,
        rates,
        counters,
        ..
    } = uplink.row;
    Uplink {
        name,
        state,
        sentence,
        rx: way((rates.rx_bits_per_second, rates.rx_frames_per_second), None),
        tx: way((rates.tx_bits_per_second, rates.tx_frames_per_second), None),
        dropped_frames: counters.dropped_frames,
        lost_frames: lost.map_or(0, |lost| lost.n_frames()),
    }
}

fn report_core(core: &CoreReport) -> Core {
    Core {
        cpu: core.cpu,
        busy_ratio: rounded(core.load.busy_ratio),
        cpu_ratio: rounded(core.load.cpu_ratio),
        frames_per_second: core.load.frames_per_second.round(),
    }
}

fn way((bits, frames): (f64, f64), limit: Option<LimitReport>) -> Way {
    Way {
        bits_per_second: bits.round(),
        frames_per_second: rounded(frames),
        limit_bits_per_second: limit.and_then(|limit| limit.bits_per_second),
        limit_packets_per_second: limit.and_then(|limit| limit.packets_per_second),
    }
}

/// As exact as is shown.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Sums by reason.
fn total<'a>(drops: impl Iterator<Item = &'a DropReport>) -> Vec<DropReport> {
    let mut sums: HashMap<&str, u64> = HashMap::new();
    for drop in drops {
        *sums.entry(&drop.reason).or_default() += drop.frames;
    }
    let report = |reason: &DropReason| {
        let frames = *sums.get(reason.text())?;
        Some(DropReport {
            reason: reason.text().to_owned(),
            frames,
            sentence: reason.sentence().to_owned(),
        })
    };
    DropReason::ALL.iter().filter_map(report).collect()
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
