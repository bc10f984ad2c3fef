//! Ports: `/v1/ports`.

use serde::{Deserialize, Serialize};

use super::counters::{CounterReport, DropReport, RateReport};
use super::state::State;
use super::uplink::{FetchedReport, LostReport};

/// A port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PortReport {
    pub(crate) name: String,
    pub(crate) network: String,
    pub(crate) state: State,
    /// What it waits for, or what is wrong. None: nothing.
    pub(crate) waits_for: Option<String>,
    pub(crate) rates: RateReport,
    /// Nanoseconds since the daemon's start, by the cores' clock, when the counters were read: for
    /// rates.
    pub(crate) at_ns: u64,
    pub(crate) counters: CounterReport,
    #[serde(default)]
    pub(crate) addresses: AddressReport,
    /// By reason, all of them.
    pub(crate) drops: Vec<DropReport>,
    /// In the order in which they are checked.
    pub(crate) rules: Vec<String>,
    /// None: the port is a device.
    pub(crate) connection: Option<ConnectionReport>,
    /// How a device's frames are fetched. None: they are not, or there is no device.
    pub(crate) fetched: Option<FetchedReport>,
    /// What was lost between a device and the switch. None: the port is not an AF_XDP device.
    pub(crate) lost: Option<LostReport>,
    /// What should be known of a device, a sentence each.
    pub(crate) remarks: Vec<String>,
    pub(crate) queues: Vec<QueueReport>,
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
    /// Why the last refused message was refused.
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
    /// `rx`: the guest sends on it; `tx`: it receives.
    pub(crate) direction: String,
    pub(crate) size: Option<u16>,
    pub(crate) state: String,
    pub(crate) has_kick: bool,
    pub(crate) has_call: bool,
}

/// A port's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressReport {
    /// Its own: from the topology, or the first that it sent from. None: none yet, or it may have
    /// several.
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
