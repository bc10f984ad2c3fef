//! A device as operators see it.

use std::fmt;

use pmd::sys::xdp::XdpStatistics;
use serde::{Deserialize, Serialize};

use crate::control::ports::{CounterReport, DropReport, RateReport, Sources, State, report_counters, report_drops};
use crate::device::netlink::link::Device;
use crate::device::netlink::socket::Netlink;
use crate::device::port::{DevicePort, DeviceView, Fetched, Standing};
use crate::device::probe::Kind;

/// An uplink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UplinkReport {
    pub(crate) name: String,
    /// What the device is called now, or shall be called.
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
    /// Times the device was taken into use.
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

/// Frames that never came to the switch, or never left it: in the kernel since the daemon's start, at the device since its.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LostReport {
    /// The frame did not fit, or there was no memory to put it into.
    pub(crate) rx_dropped: u64,
    /// Those of them for which there was no memory, since the switch had not given any back.
    pub(crate) rx_fill_ring_empty: u64,
    /// The switch had not taken those before.
    pub(crate) rx_ring_full: u64,
    pub(crate) rx_invalid: u64,
    pub(crate) tx_invalid: u64,
    /// Times the kernel wanted to send and found nothing: no loss.
    pub(crate) tx_ring_empty: u64,
    /// By the device's own counters; some drivers count here what the kernel lost as well.
    pub(crate) device_dropped: u64,
    pub(crate) device_missed: u64,
}

/// Every uplink, in the topology's order.
pub(crate) fn uplinks(sources: &Sources) -> Vec<UplinkReport> {
    let mut netlink = Netlink::open().ok();
    let uplinks = sources.devices.iter().filter(|port| port.is_uplink);
    uplinks.map(|port| report(sources, port, netlink.as_mut())).collect()
}

fn report(sources: &Sources, port: &DevicePort, netlink: Option<&mut Netlink>) -> UplinkReport {
    let view = port.link.view();
    let counters = sources.fleet.counters(port.id());
    let device = netlink.and_then(|netlink| Device::with_index(netlink, view.index).ok().flatten());
    UplinkReport {
        name: port.name.clone(),
        device: if view.device.is_empty() { port.wish.device.clone() } else { view.device.clone() },
        networks: port.networks.clone(),
        state: state(&view),
        waits_for: view.waits_for.clone(),
        driver: Some(view.driver.clone()).filter(|driver| !driver.is_empty()),
        mode: view.fetched.map(|fetched| FetchedReport::from(fetched).mode),
        zero_copy: view.fetched.is_some_and(|fetched| fetched.is_zero_copy),
        queues: view.fetched.map_or(0, |fetched| fetched.n_queues),
        mtu: view.mtu,
        carrier: view.has_carrier,
        taken: view.n_taken,
        remarks: view.remarks.clone(),
        rates: sources.rates.of(port.id()),
        counters: report_counters(&counters),
        drops: report_drops(&counters),
        lost: lost(&view.lost, device.as_ref()),
    }
}

/// How a device's port stands, in the words of all ports.
pub(crate) fn state(view: &DeviceView) -> State {
    match view.standing {
        Standing::Waiting => State::Waiting,
        Standing::Idle => State::Connected,
        Standing::Up => State::Up,
    }
}

/// What was lost between the device of an uplink, or of a NIC by AF_XDP, and the switch; none: it is a tap.
pub(crate) fn port_lost(port: &DevicePort, view: &DeviceView) -> Option<LostReport> {
    if port.wish.kind != Kind::AfXdp {
        return None;
    }
    let netlink = Netlink::open().ok();
    let device = netlink.and_then(|mut netlink| Device::with_index(&mut netlink, view.index).ok().flatten());
    Some(lost(&view.lost, device.as_ref()))
}

/// Frames of all these devices that the kernel lost.
pub(crate) fn n_lost<'a>(ports: impl Iterator<Item = &'a DevicePort>) -> u64 {
    ports.map(|port| lost(&port.link.view().lost, None).n_frames()).sum()
}

fn lost(xdp: &XdpStatistics, device: Option<&Device>) -> LostReport {
    LostReport {
        rx_dropped: xdp.rx_dropped,
        rx_ring_full: xdp.rx_ring_full,
        rx_fill_ring_empty: xdp.rx_fill_ring_empty,
        rx_invalid: xdp.rx_invalid_descs,
        tx_invalid: xdp.tx_invalid_descs,
        tx_ring_empty: xdp.tx_ring_empty,
        device_dropped: device.map_or(0, |device| device.rx_dropped),
        device_missed: device.map_or(0, |device| device.rx_missed),
    }
}

impl LostReport {
    /// Frames that were lost on their way to the switch or from it.
    pub(crate) fn n_frames(&self) -> u64 {
        self.rx_dropped + self.rx_ring_full + self.tx_invalid + self.device_missed
    }
}

impl From<Fetched> for FetchedReport {
    fn from(fetched: Fetched) -> Self {
        let Fetched { is_native, is_zero_copy: zero_copy, n_queues: queues } = fetched;
        Self { mode: if is_native { "native" } else { "skb" }.to_owned(), zero_copy, queues }
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
            "{} no room ({} for want of memory), {} ring full, {} bad to send; at the device {} dropped, {} missed",
            self.rx_dropped,
            self.rx_fill_ring_empty,
            self.rx_ring_full,
            self.tx_invalid,
            self.device_dropped,
            self.device_missed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_frame_is_counted_once() {
        let xdp = XdpStatistics { rx_dropped: 5, rx_fill_ring_empty: 4, rx_ring_full: 2, ..XdpStatistics::default() };
        let device = Device { rx_dropped: 5, rx_missed: 1, ..Device::default() };
        let lost = lost(&xdp, Some(&device));
        assert_eq!(lost.n_frames(), 8);
        assert!(lost.to_string().starts_with("5 no room (4 for want of memory), 2 ring full"), "{lost}");
    }
}
