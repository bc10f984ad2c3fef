//! Reads the counters when metrics are asked for, and writes them. Nothing here waits for a core,
//! and no core waits for it: what cores count, they count in memory that is theirs to write, and
//! control's to read.

use std::fmt;
use std::sync::Arc;

use flowtable::PortId;
use hashbrown::HashMap;
use pmd::stats::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::registry::Registry;

use super::cores::Core;
use super::daemon::Daemon;
use super::devices::Device;
use super::metric::encode;
#[cfg(test)]
use super::metric::{Description, describe};
use super::ports::{Connection, Port};
use super::vms::{Limit, Vm};
use super::{cores, daemon, devices, ports, vms};
use crate::api::device::XdpReport;
use crate::api::port::PortKind;
use crate::api::state::State;
use crate::control::cores::cores as core_reports;
use crate::control::flows::flows;
use crate::control::sources::{Present, Sources};
use crate::device::health as device_health;
use crate::device::port::DevicePort;
use crate::plan::devices::DeviceKind;
use crate::plan::ports::{PortKind as Planned, PortSpec};
use crate::vhost_user::health::{faults, judge};
use crate::vhost_user::port::Port as GuestPort;

/// Cycles for the constant part of a cycle in a second.
const MANY: u64 = 1 << 40;

/// All metrics.
#[derive(Debug)]
pub(super) struct Metrics(Registry);

impl Metrics {
    pub(super) fn new(sources: Arc<Sources>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Reader {
            seconds_per_cycle: seconds_per_cycle(sources.clock.span(MANY)),
            sources,
        }));
        Self(registry)
    }

    /// As they are now, in Prometheus' text format.
    ///
    /// # Errors
    /// None: it is written to memory.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

#[expect(clippy::cast_precision_loss, reason = "to one in 2^53")]
fn seconds_per_cycle(ns_of_many: u64) -> f64 {
    ns_of_many as f64 / MANY as f64 / 1e9
}

#[derive(Debug)]
struct Reader {
    sources: Arc<Sources>,
    seconds_per_cycle: f64,
}

impl Collector for Reader {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = &*self.sources;
        let present = sources.present();
        let all = All::read(sources, &present);
        let cores = core_reports(sources).into_iter();
        let cores: Vec<_> = cores
            .map(|report| Core::new(report, self.seconds_per_cycle))
            .collect();
        let encoder = &mut encoder;
        encode(encoder, daemon::METRICS, &[all.daemon])?;
        encode(encoder, ports::METRICS, &all.ports)?;
        encode(encoder, devices::METRICS, &all.devices)?;
        encode(encoder, vms::METRICS, &all.vms)?;
        encode(encoder, vms::LIMITS, &all.limits)?;
        encode(encoder, cores::METRICS, &cores)
    }
}

/// What all metrics are.
#[cfg(test)]
pub(crate) fn descriptions() -> Vec<Description> {
    let mut all = describe(daemon::METRICS);
    all.extend(describe(ports::METRICS));
    all.extend(describe(devices::METRICS));
    all.extend(describe(vms::METRICS));
    all.extend(describe(vms::LIMITS));
    all.extend(describe(cores::METRICS));
    all
}

/// All but the cores.
struct All {
    daemon: Daemon,
    ports: Vec<Port>,
    devices: Vec<Device>,
    vms: Vec<Vm>,
    limits: Vec<Limit>,
}

impl All {
    fn read(sources: &Sources, present: &Present) -> Self {
        let mut flows = flows(sources);
        let by_port = std::mem::take(&mut flows.by_port).into_iter();
        let by_port: HashMap<_, _> = by_port.map(|port| (port.port, port.flows)).collect();
        let n_flows = |spec: &PortSpec| by_port.get(&spec.name).copied().unwrap_or(0);
        let guests = present.ports.iter();
        let mut ports: Vec<_> = guests.map(|port| guest(sources, port, n_flows)).collect();
        let mut devices = Vec::new();
        for port in &present.devices {
            let (port, device) = read_device(sources, port, n_flows);
            ports.push(port);
            devices.push(device);
        }
        let (vms, limits) = read_vms(sources, present);
        let macs = sources.cores.macs();
        let daemon = Daemon {
            started: sources.started.unix_seconds(),
            topology: present.number,
            n_ports: ports.len(),
            ports_max: present.topology.ports,
            n_addresses: ports.iter().map(|port| u64::from(port.n_addresses)).sum(),
            addresses_max: macs.capacity(),
            flows,
        };
        Self {
            daemon,
            ports,
            devices,
            vms,
            limits,
        }
    }
}

fn guest(sources: &Sources, port: &GuestPort, n_flows: impl Fn(&PortSpec) -> u32) -> Port {
    let (link, spec) = (port.link.view(), port.spec.get());
    let state = if spec.enabled {
        judge(&link, &faults(&sources.cores, port, &link)).0
    } else {
        State::Disabled
    };
    Port {
        kind: PortKind::VhostUser,
        state,
        n_flows: n_flows(&spec),
        connection: Some(Connection {
            n_connects: link.n_connects,
            n_refused: link.n_refused,
            memory_bytes: link.device.memory_bytes,
        }),
        ..counted(sources, spec)
    }
}

fn read_device(
    sources: &Sources,
    port: &DevicePort,
    n_flows: impl Fn(&PortSpec) -> u32,
) -> (Port, Device) {
    let (view, spec) = (port.link.view(), port.spec.get());
    let state = if spec.enabled {
        device_health::state(&view)
    } else {
        State::Disabled
    };
    let kind = match &spec.kind {
        _ if spec.vm.is_none() => PortKind::Uplink,
        Planned::Device(device) if device.kind == DeviceKind::Tap => PortKind::Tap,
        _ => PortKind::AfXdp,
    };
    let lost = device_health::port_lost(port, &view);
    let device = Device {
        spec: spec.clone(),
        name: if view.device.is_empty() {
            port.device().device
        } else {
            view.device
        },
        driver: view.driver,
        xdp: view.fetched.map(XdpReport::from),
        mtu_bytes: view.mtu,
        has_carrier: view.has_carrier,
        n_attached: view.n_attached,
        lost,
    };
    let port = Port {
        kind,
        state,
        n_flows: n_flows(&spec),
        ..counted(sources, spec)
    };
    (port, device)
}

/// What all kinds of ports have.
fn counted(sources: &Sources, spec: Arc<PortSpec>) -> Port {
    let (id, macs): (PortId, _) = (spec.id(), sources.cores.macs());
    let counters: Counters = sources.cores.counters(id);
    Port {
        spec,
        kind: PortKind::VhostUser,
        state: State::Waiting,
        counters,
        n_addresses: macs.n_addresses(id),
        moves: macs.moves(id),
        n_flows: 0,
        connection: None,
    }
}

fn read_vms(sources: &Sources, present: &Present) -> (Vec<Vm>, Vec<Limit>) {
    let now = sources.clock.now();
    let (mut vms, mut limits) = (Vec::new(), Vec::new());
    for vm in present.vms.iter() {
        vms.push(Vm {
            name: vm.name.clone(),
            labels: vm.labels.clone(),
            throttled_ns: vm.limits.throttled_ns(),
        });
        let both = [
            ("from-vm", vm.limits.from_report(now)),
            ("to-vm", vm.limits.to_report(now)),
        ];
        for (direction, report) in both {
            limits.extend(report.map(|report| Limit {
                vm: vm.name.clone(),
                direction,
                report: report.into(),
            }));
        }
    }
    (vms, limits)
}
