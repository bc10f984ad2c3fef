//! Ports, as operators see them.

use flowtable::{DropReason, PortId};
use pmd::GuestFault;
use pmd::stats::Counters;

use super::macs::report_addresses;
use super::sources::{Present, Sources};
use crate::api::counters::{CounterReport, DropReport};
use crate::api::port::{ConnectionReport, PortReport, QueueReport};
use crate::api::state::State;
use crate::api::uplink::FetchedReport;
use crate::device::health as device_health;
use crate::device::port::DevicePort;
use crate::plan::ports::PortSpec;
use crate::vhost_user::health::{faults, judge};
use crate::vhost_user::port::{LastEnd, LinkView, Port};
use crate::vhost_user::view::{QueueState, QueueView};

/// Every port, in the topology's order, uplinks behind all NICs.
pub(crate) fn ports(sources: &Sources) -> Vec<PortReport> {
    let present = sources.present();
    let guests = present
        .ports
        .iter()
        .map(|port| (port.id(), report_port(sources, port)));
    let devices = present
        .devices
        .iter()
        .map(|port| (port.id(), report_device(sources, port)));
    let mut ports: Vec<_> = guests.chain(devices).collect();
    ports.sort_by_key(|(id, _)| *id);
    ports.into_iter().map(|(_, port)| port).collect()
}

/// The port of that name.
pub(crate) fn port(sources: &Sources, name: &str) -> Option<PortReport> {
    let present = sources.present();
    let guest = present
        .ports
        .iter()
        .find(|port| port.spec.get().name == name)
        .map(|port| report_port(sources, port));
    guest.or_else(|| {
        present
            .devices
            .iter()
            .find(|port| port.spec.get().name == name)
            .map(|port| report_device(sources, port))
    })
}

fn report_device(sources: &Sources, port: &DevicePort) -> PortReport {
    let (view, spec) = (port.link.view(), port.spec.get());
    let counters = sources.cores.counters(port.id());
    let waits_for = view.waits_for.clone();
    let (state, waits_for) = unless_disabled(&spec, || (device_health::state(&view), waits_for));
    PortReport {
        name: spec.name.clone(),
        network: spec.networks.join(","),
        state,
        fetched: view.fetched.map(FetchedReport::from),
        lost: device_health::port_lost(port, &view),
        remarks: view.remarks,
        waits_for,
        rates: sources.rates.of(port.id()),
        at_ns: sources.clock.now(),
        counters: report_counters(&counters),
        addresses: report_addresses(sources, &spec.ingress),
        drops: report_drops(&counters),
        rules: spec.rule_texts(),
        connection: None,
        queues: Vec::new(),
    }
}

fn report_port(sources: &Sources, port: &Port) -> PortReport {
    let (link, spec) = (port.link.view(), port.spec.get());
    let faults = faults(&sources.cores, port, &link);
    let (state, waits_for) = unless_disabled(&spec, || judge(&link, &faults));
    let counters = sources.cores.counters(port.id());
    PortReport {
        name: spec.name.clone(),
        network: spec.networks.join(","),
        state,
        waits_for,
        rates: sources.rates.of(port.id()),
        at_ns: sources.clock.now(),
        counters: report_counters(&counters),
        addresses: report_addresses(sources, &spec.ingress),
        drops: report_drops(&counters),
        rules: spec.rule_texts(),
        queues: link
            .device
            .queues
            .iter()
            .map(|queue| report_queue(queue, &faults))
            .collect(),
        connection: Some(report_connection(port, link)),
        fetched: None,
        lost: None,
        remarks: Vec::new(),
    }
}

/// The state of a port; none: there is no such port.
pub(crate) fn state(sources: &Sources, present: &Present, id: PortId) -> Option<State> {
    if let Some(port) = present.ports.iter().find(|port| port.id() == id) {
        let link = port.link.view();
        let judge = || judge(&link, &faults(&sources.cores, port, &link));
        return Some(unless_disabled(&port.spec.get(), judge).0);
    }
    let device = present.devices.iter().find(|port| port.id() == id)?;
    let judge = || (device_health::state(&device.link.view()), None);
    Some(unless_disabled(&device.spec.get(), judge).0)
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

fn report_queue(queue: &QueueView, faults: &[(u16, GuestFault)]) -> QueueReport {
    let fault = faults
        .iter()
        .find(|(index, _)| usize::from(*index) == queue.index);
    let state = match (fault, &queue.state) {
        (Some((_, fault)), _) => format!("stopped: {fault}"),
        (None, QueueState::Broken(why)) => format!("stopped: {why}"),
        (None, QueueState::Runs) => "runs".to_owned(),
        (None, QueueState::Disabled) => "not enabled".to_owned(),
        (None, QueueState::Discards) => "disabled: what comes is dropped".to_owned(),
        (None, QueueState::Stopped) => "not started".to_owned(),
    };
    let direction = if queue.index % 2 == 1 { "rx" } else { "tx" }.to_owned();
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
        has_kick,
        has_call,
    }
}

fn report_connection(port: &Port, link: LinkView) -> ConnectionReport {
    ConnectionReport {
        path: port.socket.path.display().to_string(),
        listens: match port.socket.listens {
            config::Listens::Weir => "weir".to_owned(),
            config::Listens::Guest => "guest".to_owned(),
        },
        connects: link.n_connects,
        refused_connects: link.n_refused,
        queue_pairs: port.socket.n_pairs,
        features: link.device.features.map(|bits| format!("{bits:#x}")),
        protocol_features: format!("{:#x}", link.device.protocol),
        memory_regions: link.device.n_regions,
        memory_bytes: link.device.memory_bytes,
        refusal: link.refusal.map(|refusal| refusal.text),
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
        copies,
        forwarded,
        dropped: counters.n_dropped(),
        missed,
        refused,
        limited,
        queued,
        held,
        held_turns,
        faults,
    }
}

/// Drops by reason, all reasons.
pub(crate) fn report_drops(counters: &Counters) -> Vec<DropReport> {
    let drop = |(reason, &frames): (&DropReason, &u64)| DropReport {
        reason: reason.text().to_owned(),
        frames,
        sentence: reason.sentence().to_owned(),
    };
    DropReason::ALL
        .iter()
        .zip(&counters.drops)
        .map(drop)
        .collect()
}
