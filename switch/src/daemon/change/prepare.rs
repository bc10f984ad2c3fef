//! All of a change that can fail. What was prepared is undone by being dropped.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use config::Topology;
use flowtable::PortId;
use pmd::Cores;
use tracing::warn;

use super::cores::NewCores;
use super::plan::Plan;
use super::service::{Served, Service};
use super::switch::Switch;
use crate::base::all::all;
use crate::base::place::{Permitted, Place};
use crate::daemon::operators::Next;
use crate::daemon::sockets::{listened, open_sockets};
use crate::device::attached::{AttachedDevice, attach_all};
use crate::device::port::DevicePort;
use crate::device::probe;
use crate::plan::ports::{PortKind, PortSpec};

/// What a change needs, ready to be put in force.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// First, since what is dropped first is undone first: the others have what they had then.
    moved: Vec<Moved>,
    /// Ports that the cores know already, and don't know any more if this is dropped.
    ports: Vec<AddedPort>,
    pub(super) services: Vec<Service>,
    /// Ports whose devices were given back, since others want them.
    given_back: Vec<Arc<DevicePort>>,
    permitted: Vec<Permitted>,
    pub(super) operators: Next,
    /// None: the cores stay as they are.
    pub(super) cores: Option<NewCores>,
}

/// A port that the cores know, until this is dropped.
#[derive(Debug)]
struct AddedPort {
    /// None: they know it from now on.
    cores: Option<Arc<Cores>>,
    port: PortId,
}

impl AddedPort {
    fn keep(mut self) {
        self.cores = None;
    }
}

impl Drop for AddedPort {
    fn drop(&mut self) {
        if let Some(cores) = &self.cores {
            cores.remove_port(self.port);
        }
    }
}

/// A socket that has taken the place of the one that served its path before; dropped, each is where
/// it was.
#[derive(Debug)]
struct Moved {
    place: Place,
    /// None: it stays.
    from: Option<PathBuf>,
    /// None: nothing was there.
    before: Option<Place>,
}

impl Drop for Moved {
    fn drop(&mut self) {
        let Some(from) = &self.from else { return };
        if let Err(why) = self.place.move_to(from, self.before.as_ref()) {
            warn!("{why}");
        }
    }
}

impl Prepared {
    /// Prepares all that can fail.
    ///
    /// # Errors
    /// A sentence for each mistake of the first step that has any. Nothing has changed then.
    pub(super) fn new(
        switch: &mut Switch,
        plan: &Plan,
        topology: &Topology,
    ) -> Result<Self, Vec<String>> {
        let mut prepared = Self::default();
        match prepared.prepare(switch, plan, topology) {
            Ok(()) => Ok(prepared),
            Err(why) => {
                prepared.undo(switch);
                Err(why)
            }
        }
    }

    fn prepare(
        &mut self,
        switch: &mut Switch,
        plan: &Plan,
        topology: &Topology,
    ) -> Result<(), Vec<String>> {
        let cores = switch.prepare_cores(&topology.cores);
        self.cores = cores.map_err(|why| vec![why])?;
        for port in &plan.added {
            let added = switch.means.cores.add_port(&port.ingress);
            added.map_err(|e| vec![format!("{}: {e}", port.name)])?;
            self.ports.push(AddedPort {
                cores: Some(switch.means.cores.clone()),
                port: port.id(),
            });
        }
        self.permit(switch, plan)?;
        let ours = listened(switch.specs.iter(), &switch.topology).collect();
        let topologies = (&*switch.topology, topology);
        let operators = switch.operators.prepare(topologies, &ours);
        self.operators = operators.map_err(|why| vec![why])?;
        let services = plan.added.iter().chain(&plan.renewed);
        let sockets = open_sockets(services.clone(), &ours)?;
        let services: Vec<_> = services.filter_map(Served::new).collect();
        check_mtus(plan)?;
        let mut devices = self.attach(switch, plan, &services)?.into_iter();
        for (port, listening) in services.into_iter().zip(sockets) {
            let attached = match &port {
                Served::Guest(_) => None,
                Served::Device(_) => devices.next().flatten(),
            };
            let name = port.spec().name.clone();
            let service = Service::new(port, listening, attached, &switch.means);
            let service = service.map_err(|why| vec![format!("{name}: {why}")])?;
            self.services.push(service);
        }
        self.take_places(switch)
    }

    /// Undoes it, but for what being dropped undoes.
    pub(super) fn undo(mut self, switch: &mut Switch) {
        // Before a thread that ends closes its socket, wherever that is.
        self.moved.clear();
        let running = self
            .services
            .drain(..)
            .filter_map(|service| service.running);
        let ended: Vec<_> = running
            .map(|(running, gate)| {
                drop(gate);
                running.end("the change is undone")
            })
            .collect();
        for thread in ended {
            // A panic was logged already.
            let _ = thread.join();
        }
        for port in self.given_back.drain(..) {
            switch.serve_again(port);
        }
        if let Some(new) = self.cores.take() {
            switch.undo_cores(new);
        }
    }

    /// Attaches the devices among `services`, in order; none: it is down, or disabled. One that
    /// another port has is given back first.
    fn attach(
        &mut self,
        switch: &mut Switch,
        plan: &Plan,
        services: &[Served],
    ) -> Result<Vec<Option<AttachedDevice>>, Vec<String>> {
        let devices: Vec<_> = services.iter().filter_map(Served::device).collect();
        let wanted: BTreeSet<_> = devices.iter().map(|port| port.device().device).collect();
        let leaving = plan.renewed.iter().chain(&plan.removed);
        self.given_back = leaving
            .filter_map(|port| switch.device_of(&port.name))
            .filter(|port| wanted.contains(&port.device().device))
            .collect();
        for port in &self.given_back {
            switch.stop(&port.spec.get().name, "the topology changes");
        }
        attach_all(&devices, &switch.means.run_dir)
    }

    /// Sockets that were made beside others take their places, before any of these is closed: who
    /// closes one removes its path, and must not remove that of its successor.
    fn take_places(&mut self, switch: &Switch) -> Result<(), Vec<String>> {
        let of_guests = self.services.iter().filter_map(|service| {
            let (running, _) = service.running.as_ref()?;
            match &service.port {
                Served::Guest(port) => Some((
                    port.spec.get().name.clone(),
                    running.place.as_ref()?,
                    &*port.socket.path,
                )),
                Served::Device(_) => None,
            }
        });
        let of_operators = self.operators.place().into_iter();
        let of_operators = of_operators.map(|(place, path)| ("control".to_owned(), place, path));
        for (name, place, path) in of_guests.chain(of_operators) {
            if place.is_at(path) {
                continue;
            }
            let of_guests = switch.running.values().filter_map(|at| at.place.as_ref());
            let mut there = of_guests.chain([switch.operators.place()]);
            let before = there.find(|there| there.is_at(path)).cloned();
            let from = Some(place.path());
            place
                .move_to(path, before.as_ref())
                .map_err(|why| vec![format!("{name}: {why}")])?;
            self.moved.push(Moved {
                place: place.clone(),
                from,
                before,
            });
        }
        Ok(())
    }

    /// The change is in force from now on: nothing of it is undone any more.
    pub(super) fn keep(&mut self) {
        self.moved.iter_mut().for_each(|moved| moved.from = None);
        self.ports.drain(..).for_each(AddedPort::keep);
        self.permitted.drain(..).for_each(Permitted::keep);
    }

    /// Gives sockets that stay to others.
    fn permit(&mut self, switch: &Switch, plan: &Plan) -> Result<(), Vec<String>> {
        for (old, new) in &plan.kept {
            let (PortKind::Socket(before), PortKind::Socket(after)) = (&old.kind, &new.kind) else {
                continue;
            };
            let running = switch.running.get(&new.name);
            let place = running.and_then(|running| running.place.clone());
            let [before, after] = [before, after].map(|of| (of.group.as_deref(), of.mode));
            if let (Some(place), true) = (place, before != after) {
                let permitted = place.permit_until_dropped(after, before);
                let permitted = permitted.map_err(|why| vec![format!("{}: {why}", new.name)])?;
                self.permitted.push(permitted);
            }
        }
        Ok(())
    }
}

/// Whether devices that stay attached carry the longest frames of their networks.
fn check_mtus(plan: &Plan) -> Result<(), Vec<String>> {
    let changed = plan.kept.iter().filter(|(old, new)| old.kind != new.kind);
    let check = |(_, new): &(PortSpec, PortSpec)| match &new.kind {
        PortKind::Device(device) if new.enabled => {
            probe::check_attached(device).map_err(|why| format!("{}: {why}", new.name))
        }
        _ => Ok(()),
    };
    all(changed.map(check)).map(drop)
}
