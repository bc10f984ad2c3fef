//! Uplinks: `/v1/uplinks`.

use std::fmt;
use std::ops::Add;

use serde::{Deserialize, Serialize};

use super::counters::{CounterReport, DropReport, RateReport};
use super::state::State;

/// An uplink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UplinkReport {
    pub(crate) name: String,
    /// Present name of the device, or its name in the topology.
    pub(crate) device: String,
    pub(crate) networks: Vec<String>,
    pub(crate) state: State,
    /// What it waits for. None: nothing.
    pub(crate) waits_for: Option<String>,
    /// None: the device isn't there, or doesn't tell.
    pub(crate) driver: Option<String>,
    /// `native` or `skb`; none: its frames are not fetched.
    pub(crate) mode: Option<String>,
    pub(crate) zero_copy: bool,
    pub(crate) queues: u32,
    pub(crate) mtu: u32,
    pub(crate) carrier: bool,
    /// Times the device was attached.
    pub(crate) taken: u64,
    /// What should be known, a sentence each.
    pub(crate) remarks: Vec<String>,
    pub(crate) rates: RateReport,
    pub(crate) counters: CounterReport,
    pub(crate) drops: Vec<DropReport>,
    pub(crate) lost: LostReport,
}

/// How a device's frames are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FetchedReport {
    /// `native` or `skb`.
    pub(crate) mode: String,
    pub(crate) zero_copy: bool,
    pub(crate) queues: u32,
}

/// Frames lost between device and switch: in the kernel since the daemon's start, at the device
/// since the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LostReport {
    /// The frame did not fit, or there was no buffer for it.
    pub(crate) rx_dropped: u64,
    /// Those of `rx_dropped` for which the fill ring was empty.
    pub(crate) rx_fill_ring_empty: u64,
    /// The receive ring was full.
    pub(crate) rx_ring_full: u64,
    pub(crate) rx_invalid: u64,
    pub(crate) tx_invalid: u64,
    /// Times the kernel found the transmit ring empty: no loss.
    pub(crate) tx_ring_empty: u64,
    /// By the device's own counters; some drivers count here what the kernel lost as well.
    pub(crate) device_dropped: u64,
    pub(crate) device_missed: u64,
}

impl LostReport {
    /// Frames that were lost between device and switch.
    pub(crate) fn n_frames(&self) -> u64 {
        self.rx_dropped + self.rx_ring_full + self.tx_invalid + self.device_missed
    }
}

impl Add for LostReport {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_dropped: self.rx_dropped + other.rx_dropped,
            rx_fill_ring_empty: self.rx_fill_ring_empty + other.rx_fill_ring_empty,
            rx_ring_full: self.rx_ring_full + other.rx_ring_full,
            rx_invalid: self.rx_invalid + other.rx_invalid,
            tx_invalid: self.tx_invalid + other.tx_invalid,
            tx_ring_empty: self.tx_ring_empty + other.tx_ring_empty,
            device_dropped: self.device_dropped + other.device_dropped,
            device_missed: self.device_missed + other.device_missed,
        }
    }
}

impl fmt::Display for FetchedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copies = if self.zero_copy { "zero-copy" } else { "copy" };
        let queues = if self.queues == 1 { "queue" } else { "queues" };
        write!(f, "{} mode, {copies}, {} {queues}", self.mode, self.queues)
    }
}

impl fmt::Display for LostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} no buffer ({} fill ring empty), {} rx ring full, {} invalid tx descriptors; at the \
            device {} dropped, {} missed",
            self.rx_dropped,
            self.rx_fill_ring_empty,
            self.rx_ring_full,
            self.tx_invalid,
            self.device_dropped,
            self.device_missed
        )
    }
}
