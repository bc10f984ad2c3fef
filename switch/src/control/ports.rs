//! What operators are told: values with a fixed shape in JSON, made from what control and cores know. How they look as text
//! is in `table`.
//!
//! rx and tx are said from the switch's side, as everywhere: rx is what the guest sends.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flowtable::mac::entry::{Kind, Row};
use flowtable::{DropReason, Ingress, PortId, SourcePolicy};
use pmd::stats::Counters;
use pmd::time::{Clock, Nanos};
use pmd::{Fleet, GuestFault};
use serde::{Deserialize, Serialize};

use super::limits::{VmReport, Vms};
use super::loads::{Load, Loads};
use crate::api::uplink;
use crate::api::uplink::{FetchedReport, LostReport};
use crate::base::lock::lock;
use crate::device::port::DevicePort;
use crate::pins::Pins;
use crate::vhost_user::device::{QueueState, QueueView};
use crate::vhost_user::port::{LastEnd, LinkView, Port};

/// After so long without memory, a guest whose features are agreed upon has none to share.
const MEMORY_WITHIN: Duration = Duration::from_secs(1);
const NO_MEMORY: &str = "no shared memory: start it with memory-backend-memfd,share=on";

/// Where reports come from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Counters and cores.
    pub(crate) fleet: Arc<Fleet>,
    /// Whose addresses stuck.
    pub(crate) pins: Arc<Pins>,
    /// Ports with a guest behind a socket, by id.
    pub(crate) ports: Vec<Arc<Port>>,
    /// Ports that are devices, by id.
    pub(crate) devices: Vec<Arc<DevicePort>>,
    /// Names of all ports, by id.
    pub(crate) names: Vec<String>,
    /// Names of the networks by id.
    pub(crate) networks: Vec<String>,
    /// CPUs that are polled on, by core.
    pub(crate) cpus: Vec<usize>,
    /// Frames and bytes a second.
    pub(crate) rates: Rates,
    /// VMs, with the limits on what they send and get.
    pub(crate) vms: Vms,
    /// What the cores are busy with.
    pub(crate) loads: Loads,
    /// The cores' clock.
    pub(crate) clock: SwitchClock,
}

/// The clock that the cores go by.
#[derive(Clone, Debug)]
pub(crate) struct SwitchClock(pub(crate) Clock);

impl SwitchClock {
    /// Whole seconds since the start.
    pub(crate) fn seconds(&self) -> u32 {
        pmd::time::seconds(self.now())
    }

    /// Nanoseconds since the start.
    pub(crate) fn now(&self) -> Nanos {
        self.0.now()
    }
}

/// How a port stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// There is no front-end.
    Waiting,
    /// There is one, and no queue runs.
    Connected,
    /// Queues run, and one that should doesn't.
    Impaired,
    /// Queues run.
    Up,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PortReport {
    pub(crate) name: String,
    pub(crate) network: String,
    pub(crate) state: State,
    /// What it waits for, or what is wrong. None: nothing.
    pub(crate) waits_for: Option<String>,
    pub(crate) rates: RateReport,
    /// Nanoseconds since the daemon's start by the cores' clock when the counters were read, for those who make rates of them.
    pub(crate) at_ns: Nanos,
    pub(crate) counters: CounterReport,
    #[serde(default)]
    pub(crate) addresses: AddressReport,
    /// By reason, all of them.
    pub(crate) drops: Vec<DropReport>,
    /// In the order in which they are asked.
    pub(crate) rules: Vec<String>,
    /// None: the port is a device.
    pub(crate) connection: Option<ConnectionReport>,
    /// How a device's frames are fetched. None: they are not, or there is no device.
    pub(crate) fetched: Option<FetchedReport>,
    /// What was lost between a device and the switch. None: there is none that is fetched from by AF_XDP.
    pub(crate) lost: Option<LostReport>,
    /// What should be known of a device, a sentence each.
    pub(crate) remarks: Vec<String>,
    pub(crate) queues: Vec<QueueReport>,
}

/// Frames and bits a second, over the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateReport {
    pub(crate) rx_pps: f64,
    pub(crate) rx_bps: f64,
    pub(crate) tx_pps: f64,
    pub(crate) tx_bps: f64,
}

/// Since the daemon's start. rx_frames + copies = forwarded + dropped + held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CounterReport {
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_frames: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) copies: u64,
    pub(crate) forwarded: u64,
    pub(crate) dropped: u64,
    pub(crate) missed: u64,
    /// Those of `missed` that this port's rules denied.
    pub(crate) refused: u64,
    /// Those of `missed` that were over the VM's limit.
    pub(crate) limited: u64,
    /// Frames of its that waited in the switch, at the limits of the VMs they were for; and those that do now.
    pub(crate) queued: u64,
    pub(crate) held: u64,
    /// Turns in which frames had to stay in its ring.
    pub(crate) held_turns: u64,
    pub(crate) faults: u64,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DropReport {
    pub(crate) reason: String,
    pub(crate) frames: u64,
    pub(crate) sentence: String,
}

/// The vhost-user connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionReport {
    pub(crate) path: String,
    /// `weir` or `guest`.
    pub(crate) listens: String,
    pub(crate) connects: u64,
    pub(crate) refused_connects: u64,
    pub(crate) queue_pairs: u16,
    /// Feature bits in hexadecimal; none: the guest's driver has not chosen yet.
    pub(crate) features: Option<String>,
    pub(crate) protocol_features: String,
    pub(crate) memory_regions: usize,
    pub(crate) memory_bytes: u64,
    /// Why the last message that was refused was.
    pub(crate) refusal: Option<String>,
    /// Why the last connection was closed by the switch.
    pub(crate) last_closed_for: Option<String>,
    /// How the last front-end left, if it did before any queue ran.
    pub(crate) last_left: Option<String>,
}

/// A virtqueue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueReport {
    pub(crate) index: usize,
    /// `rx`: what the guest sends; `tx`: what it is sent.
    pub(crate) direction: String,
    pub(crate) size: Option<u16>,
    pub(crate) state: String,
    pub(crate) has_kick: bool,
    pub(crate) has_call: bool,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MacReport {
    pub(crate) mac: String,
    pub(crate) network: String,
    pub(crate) port: String,
    /// `static`, `sticky` or `learned`.
    pub(crate) kind: String,
    /// Seconds since it last sent; none: it never ages.
    pub(crate) idle_s: Option<u32>,
    /// What is not as it mostly is. None: nothing.
    pub(crate) remark: Option<String>,
}

/// A port's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressReport {
    /// Its own: from the topology, or the first that it sent from. None: it has none yet, or may have several.
    pub(crate) own: Option<String>,
    /// How many it has in the MAC table.
    pub(crate) known: u32,
    /// Times that one was lost to the uplink, which sent from it while the port was silent.
    pub(crate) lost: u32,
    /// Times that one was taken from the uplink, from where nobody sent while the port did.
    pub(crate) won: u32,
    /// Times that its own was used behind the uplink while no receive ring was started.
    pub(crate) away: u32,
}

/// A polling core.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreReport {
    pub(crate) cpu: usize,
    pub(crate) rx_queues: u64,
    pub(crate) turns: u64,
    /// TSC cycles spent in turns that had packets.
    pub(crate) busy_cycles: u64,
    /// TSC cycles spent on packets none of which could go.
    pub(crate) held_cycles: u64,
    pub(crate) rx_frames: u64,
    pub(crate) bursts: u64,
    pub(crate) sleeps: u64,
    pub(crate) cpu_ns: u64,
    /// Over the last second.
    pub(crate) load: Load,
}

/// The program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionReport {
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
}

/// Every port, in the topology's order, uplinks behind all NICs.
pub(crate) fn ports(sources: &Sources) -> Vec<PortReport> {
    let guests = sources.ports.iter().map(|port| (port.id(), report_port(sources, port)));
    let devices = sources.devices.iter().map(|port| (port.id(), report_device(sources, port)));
    let mut ports: Vec<_> = guests.chain(devices).collect();
    ports.sort_by_key(|(id, _)| *id);
    ports.into_iter().map(|(_, port)| port).collect()
}

/// The port of that name.
pub(crate) fn port(sources: &Sources, name: &str) -> Option<PortReport> {
    let guest = sources.ports.iter().find(|port| port.name == name).map(|port| report_port(sources, port));
    guest.or_else(|| sources.devices.iter().find(|port| port.name == name).map(|port| report_device(sources, port)))
}

fn report_device(sources: &Sources, port: &DevicePort) -> PortReport {
    let view = port.link.view();
    let counters = sources.fleet.counters(port.id());
    PortReport {
        name: port.name.clone(),
        network: port.networks.join(","),
        state: uplink::state(&view),
        fetched: view.fetched.map(FetchedReport::from),
        lost: uplink::port_lost(port, &view),
        remarks: view.remarks,
        waits_for: view.waits_for,
        rates: sources.rates.of(port.id()),
        at_ns: sources.clock.now(),
        counters: report_counters(&counters),
        addresses: report_addresses(sources, &port.ingress),
        drops: report_drops(&counters),
        rules: port.rules.clone(),
        connection: None,
        queues: Vec::new(),
    }
}

fn report_port(sources: &Sources, port: &Port) -> PortReport {
    let link = port.link.view();
    let faults = faults(&sources.fleet, port, &link);
    let (state, waits_for) = judge(&link, &faults);
    let counters = sources.fleet.counters(port.id());
    PortReport {
        name: port.name.clone(),
        network: port.network.clone(),
        state,
        waits_for,
        rates: sources.rates.of(port.id()),
        at_ns: sources.clock.now(),
        counters: report_counters(&counters),
        addresses: report_addresses(sources, &port.ingress),
        drops: report_drops(&counters),
        rules: port.rules.clone(),
        queues: link.device.queues.iter().map(|queue| report_queue(queue, &faults)).collect(),
        connection: Some(report_connection(port, link)),
        fetched: None,
        lost: None,
        remarks: Vec::new(),
    }
}

/// How a port stands; none: there is none.
pub(crate) fn state(sources: &Sources, id: PortId) -> Option<State> {
    if let Some(port) = sources.ports.iter().find(|port| port.id() == id) {
        let link = port.link.view();
        return Some(judge(&link, &faults(&sources.fleet, port, &link)).0);
    }
    let device = sources.devices.iter().find(|port| port.id() == id)?;
    Some(uplink::state(&device.link.view()))
}

/// Faults that stopped queues of the guest that is there now. The cores keep a fault until the port comes up again, which
/// may be in the hands of another guest.
pub(crate) fn faults(fleet: &Fleet, port: &Port, link: &LinkView) -> Vec<(u16, GuestFault)> {
    let mut faults = fleet.stopped(port.id());
    faults.retain(|(index, _)| {
        let queue = link.device.queues.get(usize::from(*index));
        queue.is_some_and(|queue| queue.state == QueueState::Runs)
    });
    faults
}

/// How a port stands, and the one thing to say about it.
fn judge(link: &LinkView, faults: &[(u16, GuestFault)]) -> (State, Option<String>) {
    if !link.is_connected {
        let more = link.waits_for.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let last = link.last_end.as_ref().map(|end| match end {
            LastEnd::Closed(why) => format!(" (the last connection was closed: {why})"),
            LastEnd::Left(how) => format!(" (the last front-end {how})"),
        });
        return (State::Waiting, Some(format!("waiting for guest{more}{}", last.unwrap_or_default())));
    }
    let runs = link.device.queues.iter().any(|queue| queue.state == QueueState::Runs);
    let state = if runs { State::Impaired } else { State::Connected };
    if let Some((queue, fault)) = faults.first() {
        return (state, Some(format!("queue {queue} stopped: {fault}")));
    }
    let broken = link.device.queues.iter().find_map(|queue| match &queue.state {
        QueueState::Broken(why) => Some(format!("queue {} stopped: {why}", queue.index)),
        _ => None,
    });
    match broken {
        Some(broken) => (state, Some(broken)),
        None if runs => (State::Up, None),
        None => (State::Connected, Some(not_started(link))),
    }
}

/// What to say of a port whose guest has had its time to share memory, and has not.
pub(crate) fn lacks_memory(link: &LinkView) -> Option<String> {
    let runs = link.device.queues.iter().any(|queue| queue.state == QueueState::Runs);
    let why = (link.is_connected && !runs).then(|| not_started(link))?;
    why.starts_with(NO_MEMORY).then_some(why)
}

/// Why a guest that is connected has no queue that runs.
fn not_started(link: &LinkView) -> String {
    match &link.refusal {
        Some(refusal) if refusal.is_memory => return format!("{NO_MEMORY} ({refusal})"),
        Some(refusal) => return format!("a message of the front-end was refused: {refusal}"),
        None => {}
    }
    if link.device.n_regions == 0 && link.negotiated_for.is_some_and(|time| time > MEMORY_WITHIN) {
        return NO_MEMORY.to_owned();
    }
    "connected, guest's driver not started".to_owned()
}

pub(crate) fn report_counters(counters: &Counters) -> CounterReport {
    CounterReport {
        rx_frames: counters.rx_frames,
        rx_bytes: counters.rx_bytes,
        tx_frames: counters.tx_frames,
        tx_bytes: counters.tx_bytes,
        copies: counters.copies,
        forwarded: counters.forwarded,
        dropped: counters.n_dropped(),
        missed: counters.missed,
        refused: counters.refused,
        limited: counters.limited,
        queued: counters.queued,
        held: counters.held,
        held_turns: counters.held_turns,
        faults: counters.faults,
    }
}

pub(crate) fn report_drops(counters: &Counters) -> Vec<DropReport> {
    let drop = |(reason, &frames): (&DropReason, &u64)| DropReport {
        reason: reason.text().to_owned(),
        frames,
        sentence: reason.sentence().to_owned(),
    };
    DropReason::ALL.iter().zip(&counters.drops).map(drop).collect()
}

fn report_queue(queue: &QueueView, faults: &[(u16, GuestFault)]) -> QueueReport {
    let fault = faults.iter().find(|(index, _)| usize::from(*index) == queue.index);
    let state = match (fault, &queue.state) {
        (Some((_, fault)), _) => format!("stopped: {fault}"),
        (None, QueueState::Broken(why)) => format!("stopped: {why}"),
        (None, QueueState::Runs) => "runs".to_owned(),
        (None, QueueState::Disabled) => "not enabled".to_owned(),
        (None, QueueState::Discards) => "disabled: what comes is dropped".to_owned(),
        (None, QueueState::Stopped) => "not started".to_owned(),
    };
    let direction = if queue.index % 2 == 1 { "rx" } else { "tx" }.to_owned();
    let QueueView { index, size, has_kick, has_call, .. } = *queue;
    QueueReport { index, direction, size, state, has_kick, has_call }
}

fn report_connection(port: &Port, link: LinkView) -> ConnectionReport {
    ConnectionReport {
        path: port.path.display().to_string(),
        listens: match port.listens {
            config::Listens::Weir => "weir".to_owned(),
            config::Listens::Guest => "guest".to_owned(),
        },
        connects: link.n_connects,
        refused_connects: link.n_refused,
        queue_pairs: port.n_pairs,
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

/// Every address, by network, port and address.
pub(crate) fn macs(sources: &Sources) -> Vec<MacReport> {
    let now = sources.clock.seconds();
    let mut rows = sources.fleet.macs().rows();
    rows.sort_by_key(|row| (row.network, row.port, row.mac));
    let pins = sources.fleet.macs().pins();
    let name = |port: PortId| sources.names.get(usize::from(port)).cloned().unwrap_or_default();
    let remark = |row: &Row| {
        let loser = |&&(port, network, mac): &&(PortId, u16, [u8; 6])| {
            (network, mac) == (row.network, row.mac) && port != row.port && row.away_from != Some(port)
        };
        match (row.away_from, pins.iter().find(loser)) {
            (Some(owner), _) => Some(format!("{}'s own, which takes no frames now", name(owner))),
            (None, Some(&(loser, ..))) => Some(format!("{}'s own, which lost it", name(loser))),
            (None, None) if row.is_disputed => Some("another port has sent from it since".to_owned()),
            (None, None) => None,
        }
    };
    let report = |row: &Row| MacReport {
        remark: remark(row),
        mac: mac_text(row.mac),
        network: sources.networks.get(usize::from(row.network)).cloned().unwrap_or_default(),
        port: name(row.port),
        kind: kind_text(row.kind).to_owned(),
        idle_s: (row.kind < Kind::Sticky).then(|| now.saturating_sub(row.seen)),
    };
    rows.iter().map(report).collect()
}

fn report_addresses(sources: &Sources, ingress: &Ingress) -> AddressReport {
    let macs = sources.fleet.macs();
    let moves = macs.moves(ingress.port);
    let own = match ingress.source {
        SourcePolicy::Fixed(mac) => Some(mac),
        _ => macs.pins().into_iter().find(|&(port, ..)| port == ingress.port).map(|(_, _, mac)| mac),
    };
    AddressReport {
        own: own.map(mac_text),
        known: macs.n_addresses(ingress.port),
        lost: moves.n_lost,
        won: moves.n_won,
        away: moves.n_away,
    }
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::Static => "static",
        Kind::Sticky => "sticky",
        Kind::Learned | Kind::Counted => "learned",
    }
}

/// Every polling core, in the topology's order.
pub(crate) fn cores(sources: &Sources) -> Vec<CoreReport> {
    let report = |(core, (report, &cpu)): (usize, (pmd::stats::CoreReport, &usize))| CoreReport {
        cpu,
        load: sources.loads.of(core),
        rx_queues: report.n_rxqs,
        turns: report.turns,
        busy_cycles: report.busy_cycles,
        held_cycles: report.held_cycles,
        rx_frames: report.rx_frames,
        bursts: report.bursts,
        sleeps: report.sleeps,
        cpu_ns: report.cpu_ns,
    };
    sources.fleet.cores().into_iter().zip(&sources.cpus).enumerate().map(report).collect()
}

/// Every VM, in the topology's order.
pub(crate) fn vms(sources: &Sources) -> Vec<VmReport> {
    sources.vms.report(sources)
}

/// Those of them that have a limit.
pub(crate) fn limits(sources: &Sources) -> Vec<VmReport> {
    let mut vms = vms(sources);
    vms.retain(|vm| vm.from_vm.is_some() || vm.to_vm.is_some());
    vms
}

/// This program.
pub(crate) fn version() -> VersionReport {
    VersionReport { program: "weir".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
}

/// Frames and bytes a second of every port, as of the supervisor's last look.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<Vec<Sample>>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    counters: Counters,
    rates: RateReport,
}

impl Rates {
    /// Looks at all counters.
    pub(crate) fn sample(&self, fleet: &Fleet, n_ports: usize) {
        let at = Instant::now();
        let mut samples = lock(&self.0);
        for (idx, port) in (0..n_ports).zip(0..) {
            let counters = fleet.counters(port);
            match samples.get_mut(idx) {
                Some(last) => *last = Sample { at, counters, rates: rates_between(last, at, &counters) },
                None => samples.push(Sample { at, counters, rates: RateReport::default() }),
            }
        }
    }

    pub(crate) fn of(&self, port: PortId) -> RateReport {
        lock(&self.0).get(usize::from(port)).map_or_else(RateReport::default, |sample| sample.rates)
    }
}

fn rates_between(last: &Sample, at: Instant, now: &Counters) -> RateReport {
    let seconds = at.saturating_duration_since(last.at).as_secs_f64();
    // Exact up to 2^53 frames, which is more than a daemon lives to see.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |now: u64, then: u64| if seconds > 0.0 { now.saturating_sub(then) as f64 / seconds } else { 0.0 };
    RateReport {
        rx_pps: rate(now.rx_frames, last.counters.rx_frames),
        rx_bps: rate(now.rx_bytes, last.counters.rx_bytes) * 8.0,
        tx_pps: rate(now.tx_frames, last.counters.tx_frames),
        tx_bps: rate(now.tx_bytes, last.counters.tx_bytes) * 8.0,
    }
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
