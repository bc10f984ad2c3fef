//! The state of a device, and what was lost on the way between it and the switch.

use pmd::sys::xdp::XdpStatistics;

use super::netlink::link::Device;
use super::netlink::socket::Netlink;
use super::port::{DevicePort, DeviceState, DeviceView, Fetched};
use crate::api::device::{LostReport, XdpMode, XdpReport};
use crate::api::state::State;
use crate::plan::devices::DeviceKind;

/// The state of a device's port.
pub(crate) fn state(view: &DeviceView) -> State {
    match view.state {
        DeviceState::Waiting => State::Waiting,
        DeviceState::Idle => State::Connected,
        DeviceState::Up => State::Up,
    }
}

/// What was lost between the device of an uplink, or of a NIC by AF_XDP, and the switch; none: it
/// is a tap.
pub(crate) fn port_lost(port: &DevicePort, view: &DeviceView) -> Option<LostReport> {
    if port.device().kind != DeviceKind::AfXdp {
        return None;
    }
    let netlink = Netlink::open().ok();
    let device =
        netlink.and_then(|mut netlink| Device::with_index(&mut netlink, view.index).ok().flatten());
    Some(lost(view.lost, device.as_ref()))
}

/// What was lost at the sockets of a device, and at the device as the kernel describes it now.
fn lost(at_sockets: LostReport, device: Option<&Device>) -> LostReport {
    LostReport {
        device_dropped_frames: device.map_or(0, |device| device.rx_dropped),
        device_missed_frames: device.map_or(0, |device| device.rx_missed),
        ..at_sockets
    }
}

/// What the kernel lost at one socket.
impl From<XdpStatistics> for LostReport {
    fn from(socket: XdpStatistics) -> Self {
        let XdpStatistics {
            rx_dropped,
            rx_invalid_descs,
            tx_invalid_descs,
            rx_ring_full,
            rx_fill_ring_empty,
            tx_ring_empty,
        } = socket;
        Self {
            rx_no_buffer_frames: rx_dropped,
            rx_fill_ring_empty_frames: rx_fill_ring_empty,
            rx_ring_full_frames: rx_ring_full,
            rx_invalid_descriptors: rx_invalid_descs,
            tx_invalid_descriptors: tx_invalid_descs,
            tx_ring_empty_times: tx_ring_empty,
            device_dropped_frames: 0,
            device_missed_frames: 0,
        }
    }
}

impl From<Fetched> for XdpReport {
    fn from(fetched: Fetched) -> Self {
        let Fetched {
            is_native,
            is_zero_copy: zero_copy,
            n_queues: queues,
        } = fetched;
        Self {
            mode: if is_native {
                XdpMode::Native
            } else {
                XdpMode::Skb
            },
            zero_copy,
            queues,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_frame_is_counted_once() {
        let xdp = XdpStatistics {
            rx_dropped: 5,
            rx_fill_ring_empty: 4,
            rx_ring_full: 2,
            ..XdpStatistics::default()
        };
        let device = Device {
            rx_dropped: 5,
            rx_missed: 1,
            ..Device::default()
        };
        let lost = lost(xdp.into(), Some(&device));
        assert_eq!(lost.n_frames(), 8);
        assert!(
            lost.to_string()
                .starts_with("5 no buffer (4 fill ring empty), 2 rx ring full"),
            "{lost}"
        );
    }
}
