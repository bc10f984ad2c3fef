//! Ports, as operators see them.

use flowtable::{DropReason, PortId};
use hashbrown::HashMap;
use pmd::GuestFault;
use pmd::stats::Counters;

use super::macs::report_addresses;
use super::sources::{Present, Sources};
use crate::api::counters::{CounterReport, DropReport};
use crate::api::device::{DeviceReport, XdpReport};
use crate::api::port::{ConnectionReport, Listens, PortKind, PortReport, PortRow, QueueReport};
use crate::api::state::{Direction, RingState, State};
use crate::device::health as device_health;
use crate::device::port::{DevicePort, DeviceView};
use crate::plan::devices::DeviceKind;
use crate::plan::ports::PortSpec;
use crate::vhost_user::health::{faults, judge};
use crate::vhost_user::port::{LastEnd, LinkView, Port};
use crate::vhost_user::view::{QueueState, QueueView};

/// Every port: NICs in the topology's order, then uplinks.
pub(crate) fn ports(sources: &Sources) -> Vec<PortRow> {
    rows(sources, &sources.present(), |_| true)
}

/// NICs of the VM of this name, in the topology's order.
pub(super) fn nics(sources: &Sources, present: &Present, vm: &str) -> Vec<PortRow> {
    let is_its = |spec: &PortSpec| spec.vm.as_ref().is_some_and(|spec| spec.name == vm);
    rows(sources, present, is_its)
}

fn rows(
    sources: &Sources,
    present: &Present,
    is_wanted: impl Fn(&PortSpec) -> bool,
) -> Vec<PortRow> {
    let guests = present.ports.iter().filter_map(|port| {
        let spec = port.spec.get();
        is_wanted(&spec).then(|| row(sources, &spec, judged_guest(sources, &spec, port)))
    });
    let devices = present.devices.iter().filter_map(|port| {
        let spec = port.spec.get();
        is_wanted(&spec).then(|| row(sources, &spec, judged(&spec, &port.link.view())))
    });
    let mut ports: Vec<_> = guests.chain(devices).collect();
    let places = places(present);
    ports.sort_by_key(|port| places.get(&port.name).copied().unwrap_or(usize::MAX));
    ports
}

/// Where each port comes in the topology's order, by name: NICs, then uplinks.
pub(super) fn places(present: &Present) -> HashMap<String, usize> {
    let topology = &present.topology;
    let nics = topology.nics().map(|(vm, nic)| config::port_name(vm, nic));
    let uplinks = topology.uplinks.iter().map(|uplink| uplink.name.clone());
    nics.chain(uplinks).zip(0..).collect()
}

/// The port of this name.
pub(crate) fn port(sources: &Sources, name: &str) -> Option<PortReport> {
    let present = sources.present();
    let mut guests = present.ports.iter();
    if let Some(port) = guests.find(|port| port.spec.get().name == name) {
        return Some(report_port(sources, port));
    }
    let mut devices = present.devices.iter();
    let device = devices.find(|port| port.spec.get().name == name)?;
    Some(report_device(sources, device))
}

/// Every uplink, in the topology's order.
pub(crate) fn uplinks(sources: &Sources) -> Vec<PortReport> {
    let present = sources.present();
    let devices = present.devices.iter();
    let uplinks = devices.filter(|port| port.spec.get().vm.is_none());
    uplinks.map(|port| report_device(sources, port)).collect()
}

/// The uplink of this name.
pub(crate) fn uplink(sources: &Sources, name: &str) -> Option<PortReport> {
    port(sources, name).filter(|port| port.row.vm.is_none())
}

fn row(sources: &Sources, spec: &PortSpec, (state, sentence): (State, Option<String>)) -> PortRow {
    let counters = sources.cores.counters(spec.id());
    let (vm, nic) = spec
        .name
        .split_once('/')
        .filter(|_| spec.vm.is_some())
        .unzip();
    PortRow {
        name: spec.name.clone(),
        kind: kind(spec),
        vm: vm.map(str::to_owned),
        nic: nic.map(str::to_owned),
        networks: spec.networks.clone(),
        state,
        sentence,
        rates: sources.rates.of(spec.id()),
        at_nanoseconds: sources.clock.now(),
        counters: report_counters(&counters),
    }
}

pub(super) fn kind(spec: &PortSpec) -> PortKind {
    use crate::plan::ports::PortKind as Planned;
    match &spec.kind {
        Planned::Socket(_) => PortKind::VhostUser,
        Planned::Device(_) if spec.vm.is_none() => PortKind::Uplink,
        Planned::Device(device) => match device.kind {
            DeviceKind::AfXdp => PortKind::AfXdp,
            DeviceKind::Tap => PortKind::Tap,
        },
    }
}

fn judged(spec: &PortSpec, view: &DeviceView) -> (State, Option<String>) {
    let judge = || (device_health::state(view), view.waits_for.clone());
    unless_disabled(spec, judge)
}

fn report_device(sources: &Sources, port: &DevicePort) -> PortReport {
    let (view, spec) = (port.link.view(), port.spec.get());
    PortReport {
        row: row(sources, &spec, judged(&spec, &view)),
        drops: report_drops(&sources.cores.counters(port.id())),
        addresses: report_addresses(sources, &spec.ingress),
        rules: spec.rule_texts(),
        connection: None,
        device: Some(DeviceReport {
            name: if view.device.is_empty() {
                port.device().device
            } else {
                view.device.clone()
            },
            driver: Some(view.driver.clone()).filter(|driver| !driver.is_empty()),
            xdp: view.fetched.map(XdpReport::from),
            mtu_bytes: view.mtu,
            has_carrier: view.has_carrier,
            attached_times: view.n_attached,
            lost: device_health::port_lost(port, &view),
        }),
        remarks: view.remarks,
        queues: Vec::new(),
    }
}

fn report_port(sources: &Sources, port: &Port) -> PortReport {
    let (link, spec) = (port.link.view(), port.spec.get());
    let faults = faults(&sources.cores, port, &link);
    let judged = unless_disabled(&spec, || judge(&link, &faults));
    PortReport {
        row: row(sources, &spec, judged),
        drops: report_drops(&sources.cores.counters(port.id())),
        addresses: report_addresses(sources, &spec.ingress),
        rules: spec.rule_texts(),
        queues: link
            .device
            .queues
            .iter()
            .map(|queue| report_queue(queue, &faults))
            .collect(),
        connection: Some(report_connection(port, link)),
        device: None,
        remarks: Vec::new(),
    }
}

/// What a VM's report needs of each of its ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Brief {
    pub(super) state: State,
    /// Frames that the kernel lost between its device and the switch.
    pub(super) lost_frames: u64,
}

/// Every port by its id, each looked at once.
pub(super) fn briefs(sources: &Sources, present: &Present) -> HashMap<PortId, Brief> {
    let guests = present.ports.iter().map(|port| {
        let (state, _) = judged_guest(sources, &port.spec.get(), port);
        let lost_frames = 0;
        (port.id(), Brief { state, lost_frames })
    });
    let devices = present.devices.iter().map(|port| {
        let view = port.link.view();
        let (state, _) = judged(&port.spec.get(), &view);
        let lost_frames = view.lost.n_frames();
        (port.id(), Brief { state, lost_frames })
    });
    guests.chain(devices).collect()
}

fn judged_guest(sources: &Sources, spec: &PortSpec, port: &Port) -> (State, Option<String>) {
    unless_disabled(spec, || {
        let link = port.link.view();
        judge(&link, &faults(&sources.cores, port, &link))
    })
}

/// The state of a port and the reason for it, which `judge` finds for one that is not disabled.
fn unless_disabled(
    spec: &PortSpec,
    judge: impl FnOnce() -> (State, Option<String>),
) -> (State, Option<String>) {
    if spec.enabled {
        return judge();
    }
    let why = "disabled: the topology says `enabled: false`";
    (State::Disabled, Some(why.to_owned()))
}

/// How many ports are up, of how many that are enabled.
pub(crate) fn n_up(sources: &Sources, present: &Present) -> (usize, usize) {
    let guests = present.ports.iter();
    let guests = guests.filter(|port| port.spec.get().enabled).map(|port| {
        let link = port.link.view();
        judge(&link, &faults(&sources.cores, port, &link)).0
    });
    let devices = present.devices.iter();
    let devices = devices.filter(|port| port.spec.get().enabled);
    let devices = devices.map(|port| device_health::state(&port.link.view()));
    let states: Vec<_> = guests.chain(devices).collect();
    let n_up = states.iter().filter(|state| **state == State::Up).count();
    (n_up, states.len())
}

fn report_queue(queue: &QueueView, faults: &[(u16, GuestFault)]) -> QueueReport {
    let fault = faults
        .iter()
        .find(|(index, _)| usize::from(*index) == queue.index);
    let (state, sentence) = match (fault, &queue.state) {
        (Some((_, fault)), _) => (RingState::Stopped, Some(fault.to_string())),
        (None, QueueState::Broken(why)) => (RingState::Stopped, Some(why.clone())),
        (None, QueueState::Runs) => (RingState::Runs, None),
        (None, QueueState::Disabled) => (RingState::NotEnabled, None),
        (None, QueueState::Discards) => (RingState::Discards, None),
        (None, QueueState::Stopped) => (RingState::NotStarted, None),
    };
    let direction = if queue.index % 2 == 1 {
        Direction::Rx
    } else {
        Direction::Tx
    };
    let QueueView {
        index,
        size,
        has_kick,
        has_call,
        ..
    } = *queue;
    QueueReport {
        index,
        direction,
        size,
        state,
        sentence,
        has_kick,
        has_call,
    }
}

fn report_connection(port: &Port, link: LinkView) -> ConnectionReport {
    ConnectionReport {
        path: port.socket.path.display().to_string(),
        listens: match port.socket.listens {
            config::Listens::Weir => Listens::Weir,
            config::Listens::Guest => Listens::Guest,
        },
        connections: link.n_connects,
        refused_connections: link.n_refused,
        queue_pairs: port.socket.n_pairs,
        features: link.device.features.map(|bits| format!("{bits:#x}")),
        protocol_features: format!("{:#x}", link.device.protocol),
        memory_regions: link.device.n_regions,
        memory_bytes: link.device.memory_bytes,
        last_refusal: link.refusal.map(|refusal| refusal.text),
        last_closed_for: match &link.last_end {
            Some(LastEnd::Closed(why)) => Some(why.clone()),
            _ => None,
        },
        last_left: match link.last_end {
            Some(LastEnd::Left(how)) => Some(how),
            _ => None,
        },
    }
}

/// Counters of a port, or sums of several.
pub(crate) fn report_counters(counters: &Counters) -> CounterReport {
    let Counters {
        rx_frames,
        rx_bytes,
        copies,
        forwarded,
        tx_frames,
        tx_bytes,
        missed,
        refused,
        limited,
        queued,
        held,
        held_turns,
        faults,
        drops: _,
    } = *counters;
    CounterReport {
        rx_frames,
        rx_bytes,
        tx_frames,
        tx_bytes,
        copied_frames: copies,
        forwarded_frames: forwarded,
        dropped_frames: counters.n_dropped(),
        missed_frames: missed,
        missed_denied_frames: refused,
        missed_limit_frames: limited,
        queued_frames: queued,
        held_frames: held,
        held_turns,
        faults,
    }
}

/// Drops by reason; reasons without any are left out.
pub(crate) fn report_drops(counters: &Counters) -> Vec<DropReport> {
    let dropped = DropReason::ALL.iter().zip(counters.drops);
    let dropped = dropped.filter(|(_, frames)| *frames > 0);
    let report = |(reason, frames): (&DropReason, u64)| DropReport {
        reason: reason.text().to_owned(),
        frames,
        sentence: reason.sentence().to_owned(),
    };
    dropped.map(report).collect()
}
