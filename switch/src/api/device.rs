//! Devices of this host that are ports.

use std::fmt;
use std::ops::Add;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A device that is a port: an uplink's, or a NIC's by AF_XDP or tap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Device)]
pub(crate) struct DeviceReport {
    /// Its present name, or that in the topology.
    pub(crate) name: String,
    /// Absent: the device isn't there, or doesn't tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) driver: Option<String>,
    /// How its frames are fetched. Absent: they are not, or it is a tap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) xdp: Option<XdpReport>,
    /// 0: the device isn't there.
    pub(crate) mtu_bytes: u32,
    pub(crate) has_carrier: bool,
    /// Times that it was attached since the daemon's start.
    pub(crate) attached_times: u64,
    /// Absent: it is a tap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) lost: Option<LostReport>,
}

/// How a device's frames are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Xdp)]
pub(crate) struct XdpReport {
    pub(crate) mode: XdpMode,
    pub(crate) zero_copy: bool,
    /// Queues of the device in use.
    pub(crate) queues: u32,
}

/// Where frames are fetched from a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum XdpMode {
    /// In its driver.
    Native,
    /// Behind its driver, from the kernel's own buffers.
    Skb,
}

impl XdpMode {
    /// As it is in JSON.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Skb => "skb",
        }
    }
}

/// Frames lost between device and switch: in the kernel since the daemon's start, at the device
/// since the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Lost)]
pub(crate) struct LostReport {
    /// The frame did not fit, or there was no buffer for it.
    pub(crate) rx_no_buffer_frames: u64,
    /// Those of `rx_no_buffer_frames` for which the fill ring was empty.
    pub(crate) rx_fill_ring_empty_frames: u64,
    /// The receive ring was full.
    pub(crate) rx_ring_full_frames: u64,
    /// Descriptors of the fill ring that the kernel refused.
    pub(crate) rx_invalid_descriptors: u64,
    /// Descriptors of the transmit ring that the kernel refused: a frame each.
    pub(crate) tx_invalid_descriptors: u64,
    /// Times the kernel found the transmit ring empty: no loss.
    pub(crate) tx_ring_empty_times: u64,
    /// By the device's own counter; some drivers count here what the kernel lost as well.
    pub(crate) device_dropped_frames: u64,
    /// By the device's own counter.
    pub(crate) device_missed_frames: u64,
}

impl LostReport {
    /// Frames that were lost between device and switch.
    pub(crate) fn n_frames(&self) -> u64 {
        self.rx_no_buffer_frames
            + self.rx_ring_full_frames
            + self.tx_invalid_descriptors
            + self.device_missed_frames
    }
}

impl Add for LostReport {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            rx_no_buffer_frames: self.rx_no_buffer_frames + other.rx_no_buffer_frames,
            rx_fill_ring_empty_frames: self.rx_fill_ring_empty_frames
                + other.rx_fill_ring_empty_frames,
            rx_ring_full_frames: self.rx_ring_full_frames + other.rx_ring_full_frames,
            rx_invalid_descriptors: self.rx_invalid_descriptors + other.rx_invalid_descriptors,
            tx_invalid_descriptors: self.tx_invalid_descriptors + other.tx_invalid_descriptors,
            tx_ring_empty_times: self.tx_ring_empty_times + other.tx_ring_empty_times,
            device_dropped_frames: self.device_dropped_frames + other.device_dropped_frames,
            device_missed_frames: self.device_missed_frames + other.device_missed_frames,
        }
    }
}

impl fmt::Display for XdpReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let copies = if self.zero_copy { "zero-copy" } else { "copy" };
        let queues = if self.queues == 1 { "queue" } else { "queues" };
        write!(
            f,
            "{} mode, {copies}, {} {queues}",
            self.mode.text(),
            self.queues
        )
    }
}

impl fmt::Display for LostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} no buffer ({} fill ring empty), {} rx ring full, {} invalid tx descriptors; at the \
            device {} dropped, {} missed",
            self.rx_no_buffer_frames,
            self.rx_fill_ring_empty_frames,
            self.rx_ring_full_frames,
            self.tx_invalid_descriptors,
            self.device_dropped_frames,
            self.device_missed_frames
        )
    }
}
