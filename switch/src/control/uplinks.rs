//! Uplinks, as operators see them.

use super::ports::{report_counters, report_drops};
use super::sources::Sources;
use crate::api::uplink::{FetchedReport, UplinkReport};
use crate::device::health::{lost, state};
use crate::device::netlink::link::Device;
use crate::device::netlink::socket::Netlink;
use crate::device::port::DevicePort;

/// Every uplink, in the topology's order.
pub(crate) fn uplinks(sources: &Sources) -> Vec<UplinkReport> {
    let mut netlink = Netlink::open().ok();
    let present = sources.present();
    let devices = present.devices.iter();
    let uplinks = devices.filter(|port| port.spec.get().vm.is_none());
    uplinks
        .map(|port| report(sources, port, netlink.as_mut()))
        .collect()
}

fn report(sources: &Sources, port: &DevicePort, netlink: Option<&mut Netlink>) -> UplinkReport {
    let (view, spec) = (port.link.view(), port.spec.get());
    let counters = sources.cores.counters(port.id());
    let device = netlink.and_then(|netlink| Device::with_index(netlink, view.index).ok().flatten());
    UplinkReport {
        name: spec.name.clone(),
        device: if view.device.is_empty() {
            port.device.device.clone()
        } else {
            view.device.clone()
        },
        networks: spec.networks.clone(),
        state: state(&view),
        waits_for: view.waits_for.clone(),
        driver: Some(view.driver.clone()).filter(|driver| !driver.is_empty()),
        mode: view
            .fetched
            .map(|fetched| FetchedReport::from(fetched).mode),
        zero_copy: view.fetched.is_some_and(|fetched| fetched.is_zero_copy),
        queues: view.fetched.map_or(0, |fetched| fetched.n_queues),
        mtu: view.mtu,
        carrier: view.has_carrier,
        taken: view.n_attached,
        remarks: view.remarks.clone(),
        rates: sources.rates.of(port.id()),
        counters: report_counters(&counters),
        drops: report_drops(&counters),
        lost: lost(view.lost, device.as_ref()),
    }
}
