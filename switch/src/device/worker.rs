//! A device's control thread: attaches it, watches it, and attaches it again after a loss.
//!
//! A device that is down or without carrier keeps its sockets and program: many drivers reset the
//! link when a program is attached, which must not cause it to be attached again. Only its port
//! goes down, so that no sender waits for it. The kernel's notifications only trigger a check: what
//! they miss, the next check finds.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use pmd::Cores;
use pmd::control::{PortDown, PortUp};
use pmd::port::tap::TapWatch;

use super::attach::Queues;
use super::attached::AttachedDevice;
use super::ledger::imbalances;
use super::netlink::link::{Device, Gone, gone};
use super::netlink::socket::{Netlink, Notifications};
use super::port::{DevicePort, DeviceState, DeviceView};
use super::probe::{Unfit, is_down, probe};
use crate::api::device::XdpReport;
use crate::base::folder::Folder;
use crate::base::stop::Stop;
use crate::pins::Pins;

/// Interval between checks without a notification: a refused device may be usable by now, and
/// notifications can be lost.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time for the kernel to say how a missing device disappeared.
const NOTIFIES_WITHIN: Duration = Duration::from_millis(200);

/// Serves the port until the stop request. `attached`: the device, if it is attached already.
pub(crate) fn run(
    port: &Arc<DevicePort>,
    (cores, pins): (&Cores, &Pins),
    attached: Option<AttachedDevice>,
    run_dir: &Arc<Folder>,
    stop: &Stop,
) {
    let opened = Netlink::open().and_then(|netlink| Ok((netlink, Notifications::open()?)));
    let (netlink, notifications) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            return port
                .log
                .warn(format_args!("the device can't be watched: {e}"));
        }
    };
    let mut worker = DeviceWorker {
        port,
        cores,
        pins,
        run_dir,
        stop,
        netlink,
        notifications,
        attached: None,
        refused: None,
    };
    if let Some(attached) = attached {
        worker.attach(attached);
    }
    while !stop.is_requested() {
        worker.check();
        stop.wait([worker.notifications.as_fd()], Some(CHECK_EVERY));
    }
    worker.leave("the daemon ends");
}

struct DeviceWorker<'a> {
    port: &'a DevicePort,
    cores: &'a Cores,
    pins: &'a Pins,
    run_dir: &'a Arc<Folder>,
    stop: &'a Stop,
    netlink: Netlink,
    notifications: Notifications,
    attached: Option<AttachedDevice>,
    /// Why the device can't be attached, as last logged.
    refused: Option<String>,
}

impl DeviceWorker<'_> {
    /// Checks the device, and acts on its state.
    fn check(&mut self) {
        let Some(index) = self.attached.as_ref().map(|attached| attached.device.index) else {
            // Older notifications don't matter: the device is probed now.
            let _ = self.notifications.read();
            return self.try_to_attach();
        };
        let how = self.how_gone(index);
        if self
            .attached
            .as_ref()
            .is_some_and(|attached| attached.opened.tap.is_some())
        {
            return self.check_tap(index, how);
        }
        match how {
            Some(how) => self.lose(how.text()),
            None => self.check_attached(index),
        }
    }

    /// How the device disappeared, if a notification since the last call says so.
    fn how_gone(&self, index: u32) -> Option<Gone> {
        self.notifications
            .read()
            .iter()
            .find_map(|message| gone(message, index))
    }

    /// A tap exists as long as its file has a device, in whatever namespace.
    fn check_tap(&mut self, index: u32, how: Option<Gone>) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if !attached.opened.tap.as_ref().is_some_and(TapWatch::is_there) {
            return self.lose("was removed");
        }
        if attached.is_elsewhere {
            return;
        }
        let device = Device::with_index(&mut self.netlink, index).ok().flatten();
        match device.filter(|device| how.is_none() && device.kind == "tun") {
            Some(device) => self.follow(&device),
            // Whether it is up there can't be seen, so it is assumed to be.
            None => {
                attached.is_elsewhere = true;
                let device = Device {
                    is_up: true,
                    has_carrier: true,
                    ..attached.device.clone()
                };
                self.port.log.info(format_args!(
                    "{} {}, and works there",
                    device.name,
                    Gone::Moved.text()
                ));
                self.follow(&device);
            }
        }
    }

    fn try_to_attach(&mut self) {
        match AttachedDevice::attach(self.port, &mut self.netlink, self.run_dir) {
            Ok(Some(attached)) => self.attach(attached),
            Ok(None) => self.wait_for(is_down(&self.port.device().device)),
            Err(why) => self.wait_for(why.into_text()),
        }
    }

    /// Logs once why the device isn't attached.
    fn wait_for(&mut self, why: String) {
        self.port
            .link
            .update(|view| view.waits_for = Some(why.clone()));
        if self.refused.as_ref() != Some(&why) {
            self.port.log.warn(&why);
            self.refused = Some(why);
        }
    }

    fn attach(&mut self, mut attached: AttachedDevice) {
        let watches = attached
            .queues
            .as_mut()
            .map(|queues| std::mem::take(&mut queues.watches));
        self.port.link.opened(watches.unwrap_or_default());
        self.refused = None;
        let (device, fetched) = (&attached.device, attached.opened.fetched);
        self.port.link.update(|view| {
            view.show(device);
            view.driver.clone_from(&attached.driver);
            view.fetched = fetched;
            view.remarks.clone_from(&attached.opened.remarks);
            view.n_attached += 1;
        });
        let driver = if attached.driver.is_empty() {
            String::new()
        } else {
            format!(" ({})", attached.driver)
        };
        let fetched = fetched.map_or_else(String::new, |fetched| {
            format!(": {}", XdpReport::from(fetched))
        });
        self.port
            .log
            .info(format_args!("{}{driver} attached{fetched}", device.name));
        for remark in &attached.opened.remarks {
            self.port.log.warn(remark);
        }
        let device = device.clone();
        self.attached = Some(attached);
        self.follow(&device);
    }

    /// Checks an attached device.
    fn check_attached(&mut self, index: u32) {
        let device = match Device::with_index(&mut self.netlink, index) {
            Ok(device) => device,
            Err(e) => {
                return self
                    .port
                    .log
                    .warn(format_args!("the device can't be looked at: {e}"));
            }
        };
        match device {
            // It can be missing before the notification arrives.
            None => {
                self.stop
                    .wait([self.notifications.as_fd()], Some(NOTIFIES_WITHIN));
                self.lose(self.how_gone(index).map_or("is gone", Gone::text));
            }
            // It was moved away and back, or its program was detached.
            Some(device) if device.xdp_program.is_none() => self.lose("lost its XDP program"),
            Some(device) => self.follow(&device),
        }
    }

    /// Follows changes of an attached device.
    fn follow(&mut self, device: &Device) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if attached.device.name != device.name {
            let (was, is, wanted) = (
                &attached.device.name,
                &device.name,
                &self.port.device().device,
            );
            let then = if is == wanted {
                ""
            } else {
                "; it stays attached, but the next start looks for the topology's name"
            };
            self.port
                .log
                .warn(format_args!("{was} was renamed to {is}{then}"));
        }
        attached.device = device.clone();
        self.port.link.update(|view| view.show(device));
        let carries = device.is_up && device.has_carrier;
        match (carries, attached.queues.is_some()) {
            (true, true) => self.raise(),
            (false, false) => {
                self.lower();
                self.port.log.warn(idle_text(device));
            }
            (false, true) => self.show_idle(device),
            (true, false) => {}
        }
    }

    fn show_idle(&mut self, device: &Device) {
        let why = idle_text(device);
        let changed = self.port.link.update(|view| {
            view.state = DeviceState::Idle;
            view.waits_for = Some(why.clone());
        });
        if changed {
            self.port.log.warn(why);
        }
    }

    fn raise(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let Some(Queues { rxqs, txqs, .. }) = attached.queues.take() else {
            return;
        };
        let index = attached.device.index;
        self.port.spec.hold(|spec| {
            self.pins.meet_device(&spec.ingress, index);
            self.cores.up(PortUp {
                ingress: spec.ingress,
                rxqs,
                txqs,
            });
        });
        let mut was_idle = false;
        self.port.link.update(|view| {
            was_idle = view.state == DeviceState::Idle;
            view.state = DeviceState::Up;
            view.waits_for = None;
        });
        if was_idle {
            self.port.log.info("up again");
        }
    }

    /// Takes the queues back from the cores, and removes the addresses learned by them.
    fn lower(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if attached.queues.is_none() {
            let down = self.cores.down(self.port.id());
            imbalances(&down)
                .into_iter()
                .for_each(|why| self.port.log.warn(why));
            let PortDown { rxqs, txqs } = down;
            attached.queues = Some(Queues {
                rxqs,
                txqs,
                watches: Vec::new(),
            });
            self.cores.macs().rest(self.port.id());
            self.cores.macs().forget_port(self.port.id());
        }
        let why = idle_text(&attached.device);
        self.port.link.update(|view| {
            view.state = DeviceState::Idle;
            view.waits_for = Some(why);
        });
    }

    /// The device disappeared.
    fn lose(&mut self, how: &str) {
        let name = self
            .attached
            .as_ref()
            .map(|attached| attached.device.name.clone())
            .unwrap_or_default();
        let text = format!("{name} {how}: waiting for {}", self.port.device().device);
        self.leave(&text);
        self.pins.gone(self.port.id());
        self.port.log.warn(text);
        // That it is missing was logged just now.
        if let Err(Unfit::Absent(why)) = probe(&mut self.netlink, &self.port.device()) {
            self.port
                .link
                .update(|view| view.waits_for = Some(why.clone()));
            self.refused = Some(why);
        }
    }

    /// Detaches the device, if it is attached.
    fn leave(&mut self, why: &str) {
        self.lower();
        self.port.link.closing();
        drop(self.attached.take());
        self.port.link.update(|view| {
            let (n_attached, lost) = (view.n_attached, view.lost);
            *view = DeviceView {
                n_attached,
                lost,
                waits_for: Some(why.to_owned()),
                ..DeviceView::default()
            };
        });
    }
}

fn idle_text(device: &Device) -> String {
    if device.is_up {
        format!("{} has no carrier", device.name)
    } else {
        is_down(&device.name)
    }
}
