//! Ports: `/v1/ports`, `/v1/vms/{vm}/nics/{nic}`, `/v1/uplinks`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::counters::{CounterReport, DropReport, RateReport};
use super::device::DeviceReport;
use super::state::{Direction, RingState, State};

/// A port, in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Port)]
pub(crate) struct PortRow {
    /// `VM/NIC`, or the uplink's name.
    pub(crate) name: String,
    pub(crate) kind: PortKind,
    /// Name of the VM. Absent: it is an uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) vm: Option<String>,
    /// Its name within the VM. Absent: it is an uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) nic: Option<String>,
    /// Names of its networks: one of a NIC, all that it carries of an uplink.
    pub(crate) networks: Vec<String>,
    pub(crate) state: State,
    /// What it waits for, or what is wrong. Absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) sentence: Option<String>,
    pub(crate) rates: RateReport,
    /// Since the daemon's start, by the cores' clock, when the counters were read.
    pub(crate) at_nanoseconds: u64,
    pub(crate) counters: CounterReport,
}

/// All there is to know of a port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortDetail)]
pub(crate) struct PortReport {
    #[serde(flatten)]
    pub(crate) row: PortRow,
    /// Frames from it that were dropped, by reason; reasons without any are left out.
    pub(crate) drops: Vec<DropReport>,
    pub(crate) addresses: AddressReport,
    /// In the order in which they are checked.
    pub(crate) rules: Vec<String>,
    /// Absent: the port is a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) connection: Option<ConnectionReport>,
    /// Absent: the port is a vhost-user socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) device: Option<DeviceReport>,
    /// What should be known of it, a sentence each.
    pub(crate) remarks: Vec<String>,
    /// Virtqueues; none of a device.
    pub(crate) queues: Vec<QueueReport>,
}

/// Kind of a port; a NIC's by its key in the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PortKind {
    VhostUser,
    Tap,
    #[serde(rename = "afxdp")]
    AfXdp,
    Uplink,
}

impl PortKind {
    /// As in the topology and in JSON.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::VhostUser => "vhost-user",
            Self::Tap => "tap",
            Self::AfXdp => "afxdp",
            Self::Uplink => "uplink",
        }
    }
}

/// The vhost-user connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Connection)]
pub(crate) struct ConnectionReport {
    /// Path of the socket.
    pub(crate) path: String,
    pub(crate) listens: Listens,
    /// Front-ends that were served since the daemon's start.
    pub(crate) connections: u64,
    pub(crate) refused_connections: u64,
    /// How many the guest may enable.
    pub(crate) queue_pairs: u16,
    /// Feature bits in hexadecimal. Absent: the guest's driver has not chosen yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) features: Option<String>,
    /// Feature bits in hexadecimal.
    pub(crate) protocol_features: String,
    pub(crate) memory_regions: usize,
    pub(crate) memory_bytes: u64,
    /// Why the last refused message was refused. Absent: none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) last_refusal: Option<String>,
    /// Why the switch closed the last connection. Absent: it didn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) last_closed_for: Option<String>,
    /// How the last front-end left, if it did before any queue ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) last_left: Option<String>,
}

/// Which side creates a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Listens {
    Weir,
    Guest,
}

impl Listens {
    /// As it is in JSON.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Guest => "guest",
        }
    }
}

/// A virtqueue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueReport {
    pub(crate) index: usize,
    pub(crate) direction: Direction,
    /// In descriptors. Absent: not set yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) size: Option<u16>,
    pub(crate) state: RingState,
    /// Why it stopped. Absent: it didn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) sentence: Option<String>,
    pub(crate) has_kick: bool,
    pub(crate) has_call: bool,
}

/// A port's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Addresses)]
pub(crate) struct AddressReport {
    /// Its own: from the topology, or the first that it sent from. Absent: none yet, or it may have
    /// several.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) own: Option<String>,
    /// How many it has in the MAC table.
    pub(crate) known: u32,
    /// Addresses lost to the uplink, where frames from them arrived while the port was silent.
    pub(crate) lost: u32,
    /// Addresses taken from the uplink: the port sent from them while the wire was silent.
    pub(crate) won: u32,
    /// Times that its own address was used behind the uplink while no receive ring was started.
    pub(crate) away: u32,
}
