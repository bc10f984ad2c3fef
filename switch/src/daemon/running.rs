//! Ports with their control threads: started and ended one by one.

use std::sync::Arc;
use std::thread::JoinHandle;

use pmd::Cores;

use super::threads::spawn;
use crate::base::folder::Folder;
use crate::base::socket::Listening;
use crate::base::stop::Stop;
use crate::device::attached::AttachedDevice;
use crate::device::port::DevicePort;
use crate::pins::Pins;
use crate::vhost_user::cores::CoresPort;
use crate::vhost_user::port::Port;
use crate::{device, vhost_user};

/// A port that is served by a thread of its own.
#[derive(Debug)]
pub(super) struct Running {
    port: Served,
    /// Of this port alone.
    stop: Stop,
    thread: JoinHandle<()>,
}

/// What is served.
#[derive(Clone, Debug)]
enum Served {
    Guest(Arc<Port>),
    Device,
}

/// What serving a port needs of the daemon.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub(super) cores: Arc<Cores>,
    pub(super) pins: Arc<Pins>,
    pub(super) run_dir: Arc<Folder>,
}

impl Running {
    /// Serves a guest's port. `listening`: where its front-ends connect; none: weir connects.
    ///
    /// # Errors
    /// A sentence: there are no more threads or files.
    pub(super) fn guest(
        port: Arc<Port>,
        listening: Option<Listening>,
        means: &Means,
    ) -> Result<Self, String> {
        let stop = Stop::new().map_err(|e| e.to_string())?;
        let cores = CoresPort::new(means.cores.clone(), means.pins.clone(), port.clone());
        let (name, served) = (port.spec.get().name.clone(), Served::Guest(port.clone()));
        let ends = stop.clone();
        let work = move || {
            vhost_user::worker::run(&port, &cores, listening.as_ref(), &ends);
            // Closed here: connections that wait there may hold files that take long to close.
            drop(listening);
        };
        Ok(Self {
            port: served,
            stop,
            thread: spawn(name, work)?,
        })
    }

    /// Serves a device's port. `attached`: the device, if it is attached already.
    ///
    /// # Errors
    /// A sentence: there are no more threads or files.
    pub(super) fn device(
        port: Arc<DevicePort>,
        attached: Option<AttachedDevice>,
        means: &Means,
    ) -> Result<Self, String> {
        let stop = Stop::new().map_err(|e| e.to_string())?;
        let (name, served) = (port.spec.get().name.clone(), Served::Device);
        let (means, ends) = (means.clone(), stop.clone());
        let work = move || {
            let Means {
                cores,
                pins,
                run_dir,
            } = &means;
            device::worker::run(&port, (cores, pins), attached, run_dir, &ends);
        };
        Ok(Self {
            port: served,
            stop,
            thread: spawn(name, work)?,
        })
    }

    /// Requests its end. `why`: for the log and for reports.
    pub(super) fn request_end(&self, why: &str) {
        self.stop.request();
        if let Served::Guest(port) = &self.port {
            port.link.close(why);
        }
    }

    /// The thread, which ends soon after [`Running::request_end`].
    pub(super) fn into_thread(self) -> JoinHandle<()> {
        self.thread
    }

    /// Whether it is a device, which is restored at the end.
    pub(super) fn is_device(&self) -> bool {
        matches!(self.port, Served::Device)
    }
}
