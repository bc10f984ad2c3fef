//! An attached device, from its set-up until it is restored.

use std::sync::Arc;

use super::attach::{Opened, Queues, open, open_tap};
use super::netlink::link::Device;
use super::netlink::socket::Netlink;
use super::port::DevicePort;
use super::probe::{Unfit, probe, probe_device};
use super::restore::retry;
use super::setup::Prepared;
use crate::base::all::all;
use crate::base::folder::Folder;
use crate::plan::devices::{DeviceKind, DeviceSpec};

/// An attached device. Fields drop in this order: program, sockets, then the device is restored.
#[derive(Debug)]
pub(crate) struct AttachedDevice {
    pub(super) device: Device,
    pub(super) opened: Opened,
    /// The queues while the cores don't have them.
    pub(super) queues: Option<Queues>,
    pub(super) driver: String,
    /// Whether it is a tap that was moved into another network namespace: it works there, but can't
    /// be seen from here.
    pub(super) is_elsewhere: bool,
    /// None: it is a tap, which is not changed.
    _prepared: Option<Prepared>,
}

/// Attaches every device that is there and up, and reports all errors at once. None: the device is
/// down.
///
/// # Errors
/// A sentence for each; no device is attached then.
pub(crate) fn attach_all(
    ports: &[Arc<DevicePort>],
    run_dir: &Arc<Folder>,
) -> Result<Vec<Option<AttachedDevice>>, Vec<String>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    // A tap may be open to an unprivileged user.
    if ports
        .iter()
        .any(|port| port.spec.get().enabled && port.device().kind == DeviceKind::AfXdp)
    {
        super::capabilities::check().map_err(|why| vec![why])?;
    }
    let mut netlink =
        Netlink::open().map_err(|e| vec![format!("cannot ask the kernel about devices: {e}")])?;
    let named = |port: &DevicePort, why: String| format!("{}: {why}", port.spec.get().name);
    // First without changing anything.
    let enabled = ports.iter().filter(|port| port.spec.get().enabled);
    let look = |port: &Arc<DevicePort>| {
        let looked = probe_with_retry(&mut netlink, &port.device());
        looked.map_err(|why| named(port, why.into_text()))
    };
    all(enabled.map(look))?;
    let attach = |port: &Arc<DevicePort>| {
        if !port.spec.get().enabled {
            return Ok(None);
        }
        let attached = AttachedDevice::attach(port, &mut netlink, run_dir);
        attached.map_err(|why| named(port, why.into_text()))
    };
    all(ports.iter().map(attach))
}

/// [`probe`], retried while a killed daemon may still hold the device.
fn probe_with_retry(netlink: &mut Netlink, spec: &DeviceSpec) -> Result<Option<Device>, Unfit> {
    retry(|why| matches!(why, Unfit::Busy(_)), || probe(netlink, spec))
}

impl AttachedDevice {
    /// Attaches the device of `port`. None: it is down; its name is in the port's view.
    pub(super) fn attach(
        port: &DevicePort,
        netlink: &mut Netlink,
        run_dir: &Arc<Folder>,
    ) -> Result<Option<Self>, Unfit> {
        match port.device().kind {
            DeviceKind::AfXdp => Self::attach_device(port, netlink, run_dir),
            DeviceKind::Tap => Self::attach_tap(port, netlink).map(Some),
        }
    }

    fn attach_tap(port: &DevicePort, netlink: &mut Netlink) -> Result<Self, Unfit> {
        probe(netlink, &port.device())?;
        let (opened, queues) = open_tap(port.id(), &port.device().device).map_err(Unfit::Wrong)?;
        let device = Device::named(netlink, &port.device().device).ok().flatten();
        let device = device
            .ok_or_else(|| Unfit::Wrong(format!("{} is gone already", port.device().device)))?;
        let (queues, driver) = (Some(queues), "tun".to_owned());
        Ok(Self {
            device,
            opened,
            queues,
            driver,
            is_elsewhere: false,
            _prepared: None,
        })
    }

    fn attach_device(
        port: &DevicePort,
        netlink: &mut Netlink,
        run_dir: &Arc<Folder>,
    ) -> Result<Option<Self>, Unfit> {
        let device = probe_device(netlink, &port.device())?;
        if !device.is_up {
            port.link.update(|view| view.show(&device));
            return Ok(None);
        }
        let mut prepared =
            Prepared::prepare(run_dir, &device, port.device().queues).map_err(Unfit::Wrong)?;
        let (opened, queues) =
            open(port.id(), &device, &port.device(), &mut prepared).map_err(Unfit::Wrong)?;
        let (driver, queues) = (prepared.driver.clone(), Some(queues));
        Ok(Some(Self {
            device,
            opened,
            queues,
            driver,
            is_elsewhere: false,
            _prepared: Some(prepared),
        }))
    }
}
