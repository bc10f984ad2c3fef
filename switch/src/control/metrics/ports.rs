//! Metrics of ports: NICs and uplinks. rx and tx are from the switch's side, as everywhere: rx is
//! what the guest, or the wire, sends.

use std::sync::Arc;

use flowtable::DropReason;
use flowtable::mac::owner::Moves;
use pmd::stats::Counters;

use super::metric::{Metric, Subject, Value, flag, whole};
use crate::api::port::PortKind;
use crate::api::state::State;
use crate::plan::ports::PortSpec;

/// A port, when it was asked.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) spec: Arc<PortSpec>,
    pub(super) kind: PortKind,
    pub(super) state: State,
    pub(super) counters: Counters,
    pub(super) n_addresses: u32,
    pub(super) moves: Moves,
    pub(super) n_flows: u32,
    /// None: it is a device.
    pub(super) connection: Option<Connection>,
}

/// Its vhost-user connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) n_connects: u64,
    pub(super) n_refused: u64,
    pub(super) memory_bytes: u64,
}

impl Subject for Port {
    const LABELS: &'static [&'static str] = &["port", "vm"];

    fn label_values(&self) -> [&str; 2] {
        label_values(&self.spec)
    }
}

/// Of the labels `port` and `vm`; an uplink belongs to no VM.
pub(super) fn label_values(spec: &PortSpec) -> [&str; 2] {
    let vm = spec.vm.as_ref().map_or("", |vm| &vm.name);
    [&spec.name, vm]
}

/// One value.
macro_rules! value {
    ($port:ident, $value:expr) => {
        |$port, sample| sample(&[], $value)
    };
}

/// One value, of a port with a guest behind a socket.
macro_rules! of_connection {
    ($field:ident) => {
        |port: &Port, sample| {
            if let Some(connection) = &port.connection {
                sample(&[], whole(connection.$field));
            }
        }
    };
}

pub(super) const METRICS: &[Metric<Port>] = &[
    Metric::gauge(
        "weir_port_info",
        "1. Kind of the port (vhost-user, tap, afxdp, uplink), and the network of a NIC.",
        |port: &Port, sample| {
            let network = port
                .spec
                .networks
                .first()
                .filter(|_| port.spec.vm.is_some());
            let labels = [
                ("kind", kind(port.kind)),
                ("network", network.map_or("", String::as_str)),
            ];
            sample(
                &labels[..if network.is_some() { 2 } else { 1 }],
                Value::Whole(1),
            );
        },
    )
    .by(&["kind", "network"]),
    Metric::gauge(
        "weir_port_state",
        "1 for the state that the port is in, 0 for all others: disabled, waiting (there is no \
        guest or no device), connected (and no queue runs), impaired (a queue that should run \
        doesn't), up.",
        |port: &Port, sample| {
            for state in State::ALL {
                sample(&[("state", state.text())], flag(state == port.state));
            }
        },
    )
    .by(&["state"]),
    Metric::counter(
        "weir_port_rx_frames",
        "Frames that the port sent.",
        value!(port, whole(port.counters.rx_frames)),
    ),
    Metric::counter(
        "weir_port_rx_bytes",
        "Bytes that the port sent, without FCS.",
        value!(port, whole(port.counters.rx_bytes)),
    ),
    Metric::counter(
        "weir_port_tx_frames",
        "Frames that the port was given.",
        value!(port, whole(port.counters.tx_frames)),
    ),
    Metric::counter(
        "weir_port_tx_bytes",
        "Bytes that the port was given, without FCS.",
        value!(port, whole(port.counters.tx_bytes)),
    ),
    Metric::counter(
        "weir_port_copied_frames",
        "Copies beyond the first that floods of its frames made.",
        value!(port, whole(port.counters.copies)),
    ),
    Metric::counter(
        "weir_port_forwarded_frames",
        "Frames from it that reached a destination, each copy counted.",
        value!(port, whole(port.counters.forwarded)),
    ),
    Metric::counter(
        "weir_port_dropped_frames",
        "Frames from it that were dropped, by reason.",
        |port: &Port, sample| {
            for (reason, n) in DropReason::ALL.iter().zip(port.counters.drops) {
                sample(&[("reason", reason.text())], whole(n));
            }
        },
    )
    .by(&["reason"]),
    Metric::counter(
        "weir_port_missed_frames",
        "Frames dropped before delivery to it; they are among their sender's drops.",
        value!(port, whole(port.counters.missed)),
    ),
    Metric::counter(
        "weir_port_missed_denied_frames",
        "Those of the missed frames that its own rules denied.",
        value!(port, whole(port.counters.refused)),
    ),
    Metric::counter(
        "weir_port_missed_limit_frames",
        "Those of the missed frames that were over its VM's limit.",
        value!(port, whole(port.counters.limited)),
    ),
    Metric::counter(
        "weir_port_queued_frames",
        "Frames from it that were queued in the switch at the limit of a receiving VM.",
        value!(port, whole(port.counters.queued)),
    ),
    Metric::gauge(
        "weir_port_held_frames",
        "Frames from it that are queued in the switch now.",
        value!(port, whole(port.counters.held)),
    ),
    Metric::counter(
        "weir_port_held_turns",
        "Turns of a core in which frames stayed in the port's ring, since their receiver had no \
        room.",
        value!(port, whole(port.counters.held_turns)),
    ),
    Metric::counter(
        "weir_port_faults",
        "Times that its guest broke VIRTIO's rules.",
        value!(port, whole(port.counters.faults)),
    ),
    Metric::gauge(
        "weir_port_addresses",
        "Addresses of the port in the MAC table.",
        value!(port, whole(port.n_addresses)),
    ),
    Metric::counter(
        "weir_port_addresses_lost",
        "Addresses that it lost to the uplink, where frames from them arrived while it was silent.",
        value!(port, whole(port.moves.n_lost)),
    ),
    Metric::counter(
        "weir_port_addresses_won",
        "Addresses that it took from the uplink: it sent from them while the wire was silent.",
        value!(port, whole(port.moves.n_won)),
    ),
    Metric::counter(
        "weir_port_address_away",
        "Times that its own address was used behind the uplink while none of its receive rings was \
        started.",
        value!(port, whole(port.moves.n_away)),
    ),
    Metric::gauge(
        "weir_port_flows",
        "Flows of its frames in the flow table.",
        value!(port, whole(port.n_flows)),
    ),
    Metric::counter(
        "weir_port_connections",
        "Front-ends that were served on its socket.",
        of_connection!(n_connects),
    ),
    Metric::counter(
        "weir_port_refused_connections",
        "Front-ends that were refused on its socket.",
        of_connection!(n_refused),
    ),
    Metric::gauge(
        "weir_port_memory_bytes",
        "Memory that its guest shares with the switch.",
        of_connection!(memory_bytes),
    ),
];

fn kind(kind: PortKind) -> &'static str {
    match kind {
        PortKind::VhostUser => "vhost-user",
        PortKind::Tap => "tap",
        PortKind::AfXdp => "afxdp",
        PortKind::Uplink => "uplink",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_as_they_are_in_json() {
        use PortKind::{AfXdp, Tap, Uplink, VhostUser};
        for of in [VhostUser, Tap, AfXdp, Uplink] {
            assert_eq!(serde_json::to_value(of).unwrap(), kind(of));
        }
    }
}
