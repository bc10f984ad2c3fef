//! Puts a prepared change in force. Nothing here fails; what is removed goes last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flowtable::{Networks, SourcePolicy};
use hashbrown::HashMap;
use tracing::warn;

use super::leaving::Leaving;
use super::plan::Plan;
use super::prepare::Prepared;
use super::service::{Served, Service};
use super::switch::Switch;
use crate::control::limits::Vms;
use crate::control::sources::Present;
use crate::plan::names::Names;
use crate::plan::ports::PortSpec;

/// How long a change waits for a removed port. Closing a file that a front-end sent may take
/// longer; then the port's id is free only after that.
const ENDS_WITHIN: Duration = Duration::from_millis(300);
/// How often it is looked whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// Why a port is ended, for its log and for reports.
const WHY: &str = "the topology changed";

impl Switch {
    /// Puts the change in force. The switch's topology, ids and ports are the new ones already.
    /// `is_changed`: it has a number of its own.
    pub(super) fn commit(
        &mut self,
        mut prepared: Prepared,
        plan: Plan,
        networks: &Arc<Networks>,
        is_changed: bool,
    ) {
        prepared.keep();
        let cores = self.means.cores.clone();
        cores.set_networks(networks);
        let before = self.present();
        self.change_kept(&plan, &before);
        let vms = before
            .vms
            .following(&self.specs, &cores, self.sources.clock.now());
        let mut present = self.next_present(&before, &prepared.services, vms);
        present.number += u64::from(is_changed);
        self.means.pins.rename(&present.names);
        for service in prepared.services {
            self.serve(service);
        }
        self.pollers.set_idle(self.topology.idle);
        present.cores = self.exchange_cores(prepared.cores.take());
        self.set_present(present);
        self.remove(plan.removed);
        self.operators.commit(prepared.operators);
        // Whoever is told that it is done finds it so.
        cores.catch_up();
    }

    /// Ports that are served as before, with other addresses or in another network perhaps.
    fn change_kept(&self, plan: &Plan, present: &Present) {
        for (old, new) in plan.kept.iter().filter(|(old, new)| old != new) {
            let change = || {
                if old.ingress == new.ingress {
                    return;
                }
                if let Err(why) = self.means.cores.set_ingress(&new.ingress) {
                    warn!("{}: {why}", new.name);
                }
                if new.ingress.source != SourcePolicy::Sticky {
                    self.means.pins.gone(new.id());
                }
            };
            let guests = present.ports.iter().map(|port| &port.spec);
            let devices = present.devices.iter().map(|port| &port.spec);
            let mut specs = guests.chain(devices);
            if let Some(spec) = specs.find(|spec| spec.get().name == new.name) {
                spec.replace(new, change);
            }
        }
    }

    /// What there is after the change.
    fn next_present(&self, before: &Present, services: &[Service], vms: Vms) -> Present {
        let guests = before.ports.iter().cloned().map(Served::Guest);
        let devices = before.devices.iter().cloned().map(Served::Device);
        // Of two, the one that is new.
        let new = services.iter().map(|service| service.port.clone());
        let all = guests.chain(devices).chain(new);
        let mut all: HashMap<_, _> = all.map(|port| (port.id(), port)).collect();
        let mut present = Present {
            number: before.number,
            cores: before.cores.clone(),
            names: Arc::new(Names::of(&self.ids)),
            vms,
            topology: self.topology.clone(),
            ports: Vec::new(),
            devices: Vec::new(),
        };
        for port in self.specs.iter().filter_map(|spec| all.remove(&spec.id())) {
            match port {
                Served::Guest(port) => present.ports.push(port),
                Served::Device(port) => present.devices.push(port),
            }
        }
        present
    }

    /// Serves a port that is added, or again as it is now.
    pub(in crate::daemon) fn serve(&mut self, service: Service) {
        let name = service.port.spec().name.clone();
        let before = self.end_port(&name, WHY);
        let Some((running, gate)) = service.running else {
            // Disabled from now on. Whoever serves it next waits for that thread.
            self.ending.extend(before.map(|before| (name, before)));
            return;
        };
        gate.open(before.map(|before| before.thread));
        self.running.insert(name, running);
    }

    /// Ends ports that are not there any more, and frees their ids.
    fn remove(&mut self, removed: Vec<PortSpec>) {
        for port in &removed {
            if let Some(running) = self.running.get(&port.name) {
                running.request_end(WHY);
            }
        }
        for port in removed {
            let thread = self.end_port(&port.name, WHY).map(|ending| ending.thread);
            self.leaving.push(Leaving { port, thread });
        }
        let begin = Instant::now();
        while !self.leaving.iter().all(Leaving::has_ended) && begin.elapsed() < ENDS_WITHIN {
            std::thread::sleep(LOOK_AGAIN);
        }
        self.finish_leaving();
    }

    /// Frees the ids of what has been removed and has ended.
    pub(super) fn finish_leaving(&mut self) {
        let (ended, leaving) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition::<Vec<_>, _>(Leaving::has_ended);
        self.leaving = leaving;
        for Leaving { port, .. } in ended {
            self.means.pins.gone(port.id());
            self.means.cores.remove_port(port.id());
            self.ids.release_port(&port.name);
        }
        // Ports that have not ended may still be in them.
        if self.leaving.is_empty() {
            let departed = self.ids.departed(&self.topology);
            for (_, network) in &departed.networks {
                self.means.cores.remove_network(*network);
            }
            self.ids.release(&departed);
        }
    }
}
