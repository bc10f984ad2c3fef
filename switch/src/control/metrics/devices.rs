//! Metrics of devices: of uplinks, and of NICs by AF_XDP or tap.

use std::sync::Arc;

use super::metric::{Metric, Subject, Value, flag, whole};
use super::ports::label_values;
use crate::api::device::{LostReport, XdpReport};
use crate::plan::ports::PortSpec;

/// A device, when it was asked.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) spec: Arc<PortSpec>,
    pub(super) name: String,
    pub(super) driver: String,
    /// None: its frames are not fetched, or it is a tap.
    pub(super) xdp: Option<XdpReport>,
    /// 0: the device isn't there.
    pub(super) mtu_bytes: u32,
    pub(super) has_carrier: bool,
    pub(super) n_attached: u64,
    /// None: it is a tap.
    pub(super) lost: Option<LostReport>,
}

impl Subject for Device {
    const LABELS: &'static [&'static str] = &["port", "vm"];

    fn label_values(&self) -> [&str; 2] {
        label_values(&self.spec)
    }
}

/// One value of what was lost.
macro_rules! lost {
    ($field:ident) => {
        |device: &Device, sample| {
            if let Some(lost) = &device.lost {
                sample(&[], whole(lost.$field));
            }
        }
    };
}

pub(super) const METRICS: &[Metric<Device>] = &[
    Metric::gauge(
        "weir_device_info",
        "1. The device behind the port, and how its frames are fetched: mode is native or skb.",
        |device: &Device, sample| {
            let mut labels = vec![("device", device.name.as_str())];
            if !device.driver.is_empty() {
                labels.push(("driver", &device.driver));
            }
            if let Some(xdp) = &device.xdp {
                labels.push(("mode", xdp.mode.text()));
                labels.push(("zero_copy", if xdp.zero_copy { "true" } else { "false" }));
            }
            sample(&labels, Value::Whole(1));
        },
    )
    .by(&["device", "driver", "mode", "zero_copy"]),
    Metric::gauge(
        "weir_device_carrier",
        "1: the device has a carrier.",
        |device, sample| sample(&[], flag(device.has_carrier)),
    ),
    Metric::gauge(
        "weir_device_mtu_bytes",
        "The device's MTU; 0: it isn't there.",
        |device, sample| sample(&[], whole(device.mtu_bytes)),
    ),
    Metric::counter(
        "weir_device_attached",
        "Times that the device was attached.",
        |device, sample| sample(&[], whole(device.n_attached)),
    ),
    Metric::counter(
        "weir_device_rx_no_buffer_frames",
        "Frames that the kernel lost: they did not fit, or there was no buffer for them.",
        lost!(rx_no_buffer_frames),
    ),
    Metric::counter(
        "weir_device_rx_fill_ring_empty_frames",
        "Those of the frames without a buffer for which the fill ring was empty.",
        lost!(rx_fill_ring_empty_frames),
    ),
    Metric::counter(
        "weir_device_rx_ring_full_frames",
        "Frames that the kernel lost since the receive ring was full: the core is too slow.",
        lost!(rx_ring_full_frames),
    ),
    Metric::counter(
        "weir_device_rx_invalid_descriptors",
        "Descriptors of the fill ring that the kernel refused.",
        lost!(rx_invalid_descriptors),
    ),
    Metric::counter(
        "weir_device_tx_invalid_descriptors",
        "Descriptors of the transmit ring that the kernel refused: a frame each.",
        lost!(tx_invalid_descriptors),
    ),
    Metric::counter(
        "weir_device_tx_ring_empty",
        "Times that the kernel found the transmit ring empty: no loss.",
        lost!(tx_ring_empty_times),
    ),
    Metric::counter(
        "weir_device_dropped_frames",
        "The device's own counter, since its own start; some drivers count here what the kernel \
        lost as well.",
        lost!(device_dropped_frames),
    ),
    Metric::counter(
        "weir_device_missed_frames",
        "The device's own counter of frames that it missed, since its own start.",
        lost!(device_missed_frames),
    ),
];
