//! A port that is a device of this host: its specification and its state, shared by control
//! threads.
//!
//! Its control thread writes it, reports read it; polling cores never touch it.

use std::sync::Mutex;

use flowtable::PortId;
use pmd::port::afxdp::XskWatch;

use super::netlink::link::Device;
use crate::api::device::LostReport;
use crate::base::lock::lock;
use crate::base::log::PortLog;
use crate::plan::devices::DeviceSpec;
use crate::plan::ports::{CurrentSpec, PortKind, PortSpec};

/// An uplink, or a NIC by AF_XDP or a tap.
#[derive(Debug)]
pub(crate) struct DevicePort {
    id: PortId,
    /// What the topology says of it.
    pub(crate) spec: CurrentSpec,
    /// The state of the device.
    pub(crate) link: DeviceLink,
    /// Its log.
    pub(crate) log: PortLog,
}

impl DevicePort {
    /// A port that is a device; none: it isn't one.
    pub(crate) fn new(spec: &PortSpec) -> Option<Self> {
        if !matches!(spec.kind, PortKind::Device(_)) {
            return None;
        }
        let log = PortLog::new(&spec.name);
        Some(Self {
            id: spec.id(),
            spec: CurrentSpec::new(spec),
            link: DeviceLink::default(),
            log,
        })
    }

    /// What the topology requires of the device.
    pub(crate) fn device(&self) -> DeviceSpec {
        match &self.spec.get().kind {
            PortKind::Device(device) => device.clone(),
            PortKind::Socket(_) => unreachable!("a port keeps its kind"),
        }
    }

    /// Its place in every per-port table.
    pub(crate) fn id(&self) -> PortId {
        #[cfg(test)]
        crate::base::looks::look();
        self.id
    }
}

/// The state of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceState {
    /// It isn't there, or can't be used.
    #[default]
    Waiting,
    /// It is attached, but down or without carrier.
    Idle,
    /// Frames pass.
    Up,
}

/// The device as its control thread saw it last.
#[derive(Debug, Default)]
pub(crate) struct DeviceLink(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    view: DeviceView,
    /// The sockets that are open.
    watches: Vec<XskWatch>,
    /// What the kernel lost at sockets that were closed since.
    lost_before: LostReport,
}

/// A device as an operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceView {
    pub(crate) state: DeviceState,
    /// What it waits for; none: nothing.
    pub(crate) waits_for: Option<String>,
    /// Its present name; empty: it isn't there.
    pub(crate) device: String,
    pub(crate) index: u32,
    pub(crate) driver: String,
    /// How its frames are fetched; none: they are not.
    pub(crate) fetched: Option<Fetched>,
    pub(crate) mtu: u32,
    pub(crate) is_up: bool,
    pub(crate) has_carrier: bool,
    /// Times it was attached.
    pub(crate) n_attached: u64,
    /// What an operator should know, a sentence each.
    pub(crate) remarks: Vec<String>,
    /// What the kernel lost on the way to and from the switch, since the daemon's start.
    pub(crate) lost: LostReport,
}

impl DeviceView {
    /// Copies a device's state into the view.
    pub(crate) fn show(&mut self, device: &Device) {
        self.device.clone_from(&device.name);
        self.index = device.index;
        self.mtu = device.mtu;
        self.is_up = device.is_up;
        self.has_carrier = device.has_carrier;
    }
}

/// How a device's frames are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// In the driver, not in skb mode.
    pub(crate) is_native: bool,
    pub(crate) is_zero_copy: bool,
    pub(crate) n_queues: u32,
}

impl DeviceLink {
    /// Applies `change` to the view; returns whether it changed.
    pub(crate) fn update(&self, change: impl FnOnce(&mut DeviceView)) -> bool {
        let mut state = lock(&self.0);
        let before = state.view.clone();
        change(&mut state.view);
        state.view != before
    }

    /// The device's sockets are open.
    pub(crate) fn opened(&self, watches: Vec<XskWatch>) {
        lock(&self.0).watches = watches;
    }

    /// The device's sockets are about to be closed.
    pub(crate) fn closing(&self) {
        let mut state = lock(&self.0);
        state.lost_before = state.lost();
        state.watches.clear();
    }

    /// A snapshot for reports.
    pub(crate) fn view(&self) -> DeviceView {
        #[cfg(test)]
        crate::base::looks::look();
        let state = lock(&self.0);
        DeviceView {
            lost: state.lost(),
            ..state.view.clone()
        }
    }
}

impl State {
    fn lost(&self) -> LostReport {
        // Nothing is known of a socket that can't be asked.
        let now = self
            .watches
            .iter()
            .filter_map(|watch| watch.statistics().ok());
        now.map(LostReport::from)
            .fold(self.lost_before, std::ops::Add::add)
    }
}
