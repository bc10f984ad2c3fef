//! A device's control thread: takes it, watches it, and takes it again when it was lost.
//!
//! A device that is down or without carrier keeps its sockets and program: many drivers reset the
//! link when a program is attached, which must not look like a loss that is answered by attaching
//! it again. Only its port goes down, so that nobody waits for it. What the kernel says of devices
//! is only a hint to look: whatever was missed is seen at the next look.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use pmd::Fleet;
use pmd::fleet::{PortDown, PortUp};
use pmd::port::tap::TapWatch;

use super::attach::Queues;
use super::attached::AttachedDevice;
use super::ledger::imbalances;
use super::netlink::link::{Device, Gone, gone};
use super::netlink::socket::{Netlink, News};
use super::port::{DevicePort, DeviceView, Standing};
use super::probe::{Unfit, is_down, probe};
use crate::api::uplink::FetchedReport;
use crate::base::folder::Folder;
use crate::base::stop::Stop;
use crate::pins::Pins;

/// Between two looks when nothing is heard: a device that was refused may be used now, and news can
/// be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A device that isn't found is said to be gone by the kernel soon.
const SAYS_WITHIN: Duration = Duration::from_millis(200);

/// Serves the port until the end is requested. `attached`: the device, if it is taken already.
pub(crate) fn run(
    port: &Arc<DevicePort>,
    (fleet, pins): (&Fleet, &Pins),
    attached: Option<AttachedDevice>,
    run_dir: &Arc<Folder>,
    stop: &Stop,
) {
    let opened = Netlink::open().and_then(|netlink| Ok((netlink, News::open()?)));
    let (netlink, news) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            return port
                .notes
                .warn(format_args!("the device can't be watched: {e}"));
        }
    };
    let mut worker = DeviceWorker {
        port,
        fleet,
        pins,
        run_dir,
        stop,
        netlink,
        news,
        attached: None,
        refused: None,
    };
    if let Some(attached) = attached {
        worker.attach(attached);
    }
    while !stop.is_requested() {
        worker.look();
        stop.wait([worker.news.as_fd()], Some(LOOK_EVERY));
    }
    worker.leave("the daemon ends");
}

struct DeviceWorker<'a> {
    port: &'a DevicePort,
    fleet: &'a Fleet,
    pins: &'a Pins,
    run_dir: &'a Arc<Folder>,
    stop: &'a Stop,
    netlink: Netlink,
    news: News,
    attached: Option<AttachedDevice>,
    /// What was last said of a device that can't be taken.
    refused: Option<String>,
}

impl DeviceWorker<'_> {
    /// Acts upon how things are now.
    fn look(&mut self) {
        let Some(index) = self.attached.as_ref().map(|attached| attached.device.index) else {
            // What is found is as new as can be.
            let _ = self.news.read();
            return self.try_to_attach();
        };
        let how = self.how_gone(index);
        if self
            .attached
            .as_ref()
            .is_some_and(|attached| attached.opened.tap.is_some())
        {
            return self.look_after_tap(index, how);
        }
        match how {
            Some(how) => self.lose(how.text()),
            None => self.look_after(index),
        }
    }

    /// What the kernel has said since this was asked before of the device's going.
    fn how_gone(&self, index: u32) -> Option<Gone> {
        self.news
            .read()
            .iter()
            .find_map(|message| gone(message, index))
    }

    /// A tap lives as long as its file has a device, wherever that is.
    fn look_after_tap(&mut self, index: u32, how: Option<Gone>) {
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
            // Whether it is up there can't be seen, so it is taken to be.
            None => {
                attached.is_elsewhere = true;
                let device = Device {
                    is_up: true,
                    has_carrier: true,
                    ..attached.device.clone()
                };
                self.port.notes.info(format_args!(
                    "{} {}, and serves there",
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
            Ok(None) => self.wait_for(is_down(&self.port.device.device)),
            Err(why) => self.wait_for(why.into_text()),
        }
    }

    /// Says why the device isn't taken, once.
    fn wait_for(&mut self, why: String) {
        self.port
            .link
            .update(|view| view.waits_for = Some(why.clone()));
        if self.refused.as_ref() != Some(&why) {
            self.port.notes.warn(&why);
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
            view.n_taken += 1;
        });
        let driver = if attached.driver.is_empty() {
            String::new()
        } else {
            format!(" ({})", attached.driver)
        };
        let fetched = fetched.map_or_else(String::new, |fetched| {
            format!(": {}", FetchedReport::from(fetched))
        });
        self.port
            .notes
            .info(format_args!("{}{driver} is taken{fetched}", device.name));
        for remark in &attached.opened.remarks {
            self.port.notes.warn(remark);
        }
        let device = device.clone();
        self.attached = Some(attached);
        self.follow(&device);
    }

    /// The device is taken: what state is it in?
    fn look_after(&mut self, index: u32) {
        let device = match Device::with_index(&mut self.netlink, index) {
            Ok(device) => device,
            Err(e) => {
                return self
                    .port
                    .notes
                    .warn(format_args!("the device can't be looked at: {e}"));
            }
        };
        match device {
            // It can be gone before the kernel has said how.
            None => {
                self.stop.wait([self.news.as_fd()], Some(SAYS_WITHIN));
                self.lose(self.how_gone(index).map_or("is gone", Gone::text));
            }
            // Moved away and back, or somebody took the program off.
            Some(device) if device.xdp_program.is_none() => self.lose("lost its XDP program"),
            Some(device) => self.follow(&device),
        }
    }

    /// Takes note of what changed at a device that is taken.
    fn follow(&mut self, device: &Device) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if attached.device.name != device.name {
            let (was, is, wished) = (
                &attached.device.name,
                &device.name,
                &self.port.device.device,
            );
            let then = if is == wished {
                ""
            } else {
                "; it is kept, but the next start looks for it by the topology's name"
            };
            self.port
                .notes
                .warn(format_args!("{was} is called {is} now{then}"));
        }
        attached.device = device.clone();
        self.port.link.update(|view| view.show(device));
        let carries = device.is_up && device.has_carrier;
        match (carries, attached.queues.is_some()) {
            (true, true) => self.raise(),
            (false, false) => {
                self.lower();
                self.port.notes.warn(idle_text(device));
            }
            (false, true) => self.show_idle(device),
            (true, false) => {}
        }
    }

    fn show_idle(&mut self, device: &Device) {
        let why = idle_text(device);
        let changed = self.port.link.update(|view| {
            view.standing = Standing::Idle;
            view.waits_for = Some(why.clone());
        });
        if changed {
            self.port.notes.warn(why);
        }
    }

    fn raise(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let Some(Queues { rxqs, txqs, .. }) = attached.queues.take() else {
            return;
        };
        self.pins
            .meet_device(&self.port.spec.ingress, attached.device.index);
        self.fleet.up(PortUp {
            ingress: self.port.spec.ingress,
            rxqs,
            txqs,
        });
        let mut was_idle = false;
        self.port.link.update(|view| {
            was_idle = view.standing == Standing::Idle;
            view.standing = Standing::Up;
            view.waits_for = None;
        });
        if was_idle {
            self.port.notes.info("up again");
        }
    }

    /// Takes the queues back from the cores, and forgets who was heard by them.
    fn lower(&mut self) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        if attached.queues.is_none() {
            let down = self.fleet.down(self.port.id());
            imbalances(&down)
                .into_iter()
                .for_each(|why| self.port.notes.warn(why));
            let PortDown { rxqs, txqs } = down;
            attached.queues = Some(Queues {
                rxqs,
                txqs,
                watches: Vec::new(),
            });
            self.fleet.macs().rest(self.port.id());
            self.fleet.macs().forget_port(self.port.id());
        }
        let why = idle_text(&attached.device);
        self.port.link.update(|view| {
            view.standing = Standing::Idle;
            view.waits_for = Some(why);
        });
    }

    /// The device went.
    fn lose(&mut self, how: &str) {
        let name = self
            .attached
            .as_ref()
            .map(|attached| attached.device.name.clone())
            .unwrap_or_default();
        let said = format!("{name} {how}: waiting for {}", self.port.device.device);
        self.leave(&said);
        self.pins.gone(self.port.id());
        self.port.notes.warn(said);
        // That it isn't there need not be said again.
        if let Err(Unfit::Absent(why)) = probe(&mut self.netlink, &self.port.device) {
            self.port
                .link
                .update(|view| view.waits_for = Some(why.clone()));
            self.refused = Some(why);
        }
    }

    /// Lets go of the device, if it is taken.
    fn leave(&mut self, why: &str) {
        self.lower();
        self.port.link.closing();
        drop(self.attached.take());
        self.port.link.update(|view| {
            let (n_taken, lost) = (view.n_taken, view.lost);
            *view = DeviceView {
                n_taken,
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
