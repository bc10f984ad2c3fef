//! Ports with their control threads: started and ended one by one.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use pmd::Cores;

use super::threads::spawn;
use crate::base::folder::Folder;
use crate::base::place::Place;
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
    /// None: it is a device.
    guest: Option<Arc<Port>>,
    /// Where its guest connects; none: weir connects, or it is a device.
    pub(super) place: Option<Place>,
    /// Of this port alone.
    stop: Stop,
    thread: JoinHandle<()>,
}

/// A thread that waits to begin. Dropped, it ends without having done anything.
#[derive(Debug)]
pub(super) struct Gate(Sender<Option<JoinHandle<()>>>);

/// What serving a port needs of the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Means {
    pub(crate) cores: Arc<Cores>,
    pub(crate) pins: Arc<Pins>,
    pub(crate) run_dir: Arc<Folder>,
}

impl Gate {
    /// Lets it begin, once the thread `after` has ended: what served the same port before.
    pub(super) fn open(self, after: Option<JoinHandle<()>>) {
        // It fails if the thread is gone, which takes a panic.
        let _ = self.0.send(after);
    }
}

impl Running {
    /// Serves a guest's port, once the gate is opened. `listening`: where its front-ends connect;
    /// none: weir connects.
    ///
    /// # Errors
    /// A sentence: there are no more threads or files.
    pub(super) fn guest(
        port: Arc<Port>,
        listening: Option<Listening>,
        means: &Means,
    ) -> Result<(Self, Gate), String> {
        let cores = CoresPort::new(means.cores.clone(), means.pins.clone(), port.clone());
        let (guest, place) = (Some(port.clone()), listening.as_ref().map(Listening::place));
        let name = port.spec.get().name.clone();
        Self::start(name, guest, place, move |stop| {
            vhost_user::worker::run(&port, &cores, listening.as_ref(), stop);
            // Closed here: connections that wait there may hold files that take long to close.
            drop(listening);
        })
    }

    /// Serves a device's port, once the gate is opened. `attached`: the device, if it is attached
    /// already.
    ///
    /// # Errors
    /// A sentence: there are no more threads or files.
    pub(super) fn device(
        port: Arc<DevicePort>,
        attached: Option<AttachedDevice>,
        means: &Means,
    ) -> Result<(Self, Gate), String> {
        let (name, means) = (port.spec.get().name.clone(), means.clone());
        Self::start(name, None, None, move |stop| {
            let Means {
                cores,
                pins,
                run_dir,
            } = &means;
            device::worker::run(&port, (cores, pins), attached, run_dir, stop);
        })
    }

    fn start(
        name: String,
        guest: Option<Arc<Port>>,
        place: Option<Place>,
        work: impl FnOnce(&Stop) + Send + 'static,
    ) -> Result<(Self, Gate), String> {
        let stop = Stop::new().map_err(|e| e.to_string())?;
        let (gate, opened) = channel::<Option<JoinHandle<()>>>();
        let ends = stop.clone();
        let thread = spawn(name, move || {
            if let Ok(after) = opened.recv() {
                // A panic was logged already.
                after.map(JoinHandle::join);
                work(&ends);
            }
        })?;
        let running = Self {
            guest,
            place,
            stop,
            thread,
        };
        Ok((running, Gate(gate)))
    }

    /// Ends it. `why`: for the log and for reports. The thread ends soon.
    pub(super) fn end(self, why: &str) -> JoinHandle<()> {
        self.request_end(why);
        self.thread
    }

    /// Requests its end, for callers that end several.
    pub(super) fn request_end(&self, why: &str) {
        self.stop.request();
        if let Some(port) = &self.guest {
            port.link.close(why);
        }
    }

    /// Whether it is a device, which is restored at the end.
    pub(super) fn is_device(&self) -> bool {
        self.guest.is_none()
    }
}
