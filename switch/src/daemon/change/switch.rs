//! What runs, and by which topology.

use std::sync::Arc;
use std::thread::JoinHandle;

use config::Topology;
use hashbrown::HashMap;
use tracing::warn;

use super::leaving::Leaving;
use super::service::{Served, Service};
use crate::base::lock::lock;
use crate::control::sources::{Present, Sources};
use crate::daemon::operators::Operators;
use crate::daemon::pollers::Pollers;
use crate::daemon::running::{Means, Running};
use crate::daemon::socket_note::SocketNote;
use crate::device::port::DevicePort;
use crate::plan::ids::Ids;
use crate::plan::ports::PortSpec;

/// All that a topology describes and that can change while the daemon runs. Whoever changes it
/// holds its lock, so that changes come one after another.
#[derive(Debug)]
pub(crate) struct Switch {
    /// In force.
    pub(super) topology: Arc<Topology>,
    pub(super) ids: Ids,
    /// Its ports, by id.
    pub(super) specs: Vec<PortSpec>,
    /// Those that are served, by name.
    pub(super) running: HashMap<String, Running>,
    /// What has been removed, but whose thread has not ended.
    pub(super) leaving: Vec<Leaving>,
    pub(super) pollers: Pollers,
    pub(super) means: Means,
    pub(super) note: SocketNote,
    pub(super) operators: Operators,
    pub(super) sources: Arc<Sources>,
    /// What served ports that are disabled now, and has not ended perhaps; by name.
    pub(super) ending: HashMap<String, Ending>,
    /// Devices whose thread could not be started when a change was undone.
    pub(super) unserved: Vec<Arc<DevicePort>>,
    has_logged_unserved: bool,
    /// A change is being put in force; if it is so between two, the daemon is neither of both.
    pub(super) is_half_way: bool,
    /// Nothing is changed any more.
    pub(super) has_ended: bool,
}

impl Switch {
    /// What a daemon runs that starts with this topology, whose ids, ports and cores these are.
    /// Nothing is served yet.
    pub(in crate::daemon) fn new(
        topology: Arc<Topology>,
        (ids, specs, pollers): (Ids, Vec<PortSpec>, Pollers),
        (means, note): (Means, SocketNote),
        (operators, sources): (Operators, Arc<Sources>),
    ) -> Self {
        Self {
            topology,
            ids,
            specs,
            running: HashMap::new(),
            leaving: Vec::new(),
            pollers,
            means,
            note,
            operators,
            sources,
            ending: HashMap::new(),
            unserved: Vec::new(),
            has_logged_unserved: false,
            is_half_way: false,
            has_ended: false,
        }
    }

    /// What serving a port needs.
    pub(crate) fn means(&self) -> &Means {
        &self.means
    }

    /// What there is now.
    pub(super) fn present(&self) -> Arc<Present> {
        self.sources.present()
    }

    /// Another takes its place.
    pub(super) fn set_present(&self, present: Present) {
        *lock(&self.sources.present) = Arc::new(present);
    }

    /// The device that serves this port, if it is one.
    pub(super) fn device_of(&self, name: &str) -> Option<Arc<DevicePort>> {
        let present = self.present();
        let mut devices = present.devices.iter();
        let is_it = |port: &&Arc<DevicePort>| port.spec.get().name == name;
        devices
            .find(is_it)
            .filter(|_| self.running.contains_key(name))
            .cloned()
    }

    /// Ends what serves the port, and waits for it.
    pub(super) fn stop(&mut self, name: &str, why: &str) {
        if let Some(running) = self.running.remove(name) {
            // A panic was logged already.
            let _ = running.end(why).join();
        }
    }

    /// Serves a device again that [`Switch::stop`] has given back.
    pub(super) fn serve_again(&mut self, port: Arc<DevicePort>) {
        let name = port.spec.get().name.clone();
        match Service::new(Served::Device(port.clone()), None, None, &self.means) {
            Ok(service) => {
                self.has_logged_unserved = false;
                self.serve(service);
            }
            Err(why) => {
                // It is tried again and again.
                if !self.has_logged_unserved {
                    warn!("{name}: {why}; it is tried again");
                }
                self.has_logged_unserved = true;
                self.unserved.push(port);
            }
        }
    }

    /// Takes all ports down, for the end of the daemon. Their threads end soon: first those of
    /// devices, which have to be restored, then the others.
    pub(crate) fn end(&mut self) -> (Vec<JoinHandle<()>>, Vec<JoinHandle<()>>) {
        const WHY: &str = "the daemon ends";
        self.has_ended = true;
        self.running
            .values()
            .for_each(|running| running.request_end(WHY));
        let (devices, guests): (Vec<_>, Vec<_>) = self
            .running
            .drain()
            .map(|(_, running)| running)
            .partition(Running::is_device);
        let end = |all: Vec<Running>| all.into_iter().map(|running| running.end(WHY));
        let mut devices: Vec<_> = end(devices).collect();
        let mut guests: Vec<_> = end(guests).collect();
        for (_, ending) in self.ending.drain() {
            match ending.is_device {
                true => devices.push(ending.thread),
                false => guests.push(ending.thread),
            }
        }
        guests.extend(self.leaving.drain(..).filter_map(|leaving| leaving.thread));
        (devices, guests)
    }

    /// Ends what serves the port. None: nothing does.
    pub(super) fn end_port(&mut self, name: &str, why: &str) -> Option<Ending> {
        let running = self.running.remove(name).map(|running| Ending {
            is_device: running.is_device(),
            thread: running.end(why),
        });
        running.or_else(|| self.ending.remove(name))
    }

    /// Stops all cores, when nothing is served any more.
    pub(crate) fn stop_cores(&mut self) {
        self.pollers.stop();
    }
}

/// A port's thread that has been told to end.
#[derive(Debug)]
pub(super) struct Ending {
    is_device: bool,
    pub(super) thread: JoinHandle<()>,
}
