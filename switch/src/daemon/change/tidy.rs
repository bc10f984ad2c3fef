//! What a change leaves to be done: ids of ports that end later, and devices that are not served.

use config::Topology;

use super::leaving::Leaving;
use super::switch::Switch;
use crate::daemon::sockets::listened;

impl Switch {
    /// Frees the ids of ports that have ended meanwhile, and serves devices whose thread could not
    /// be started. Called again and again.
    pub(crate) fn tidy(&mut self) {
        if self.has_ended {
            return;
        }
        if self.leaving.iter().any(Leaving::has_ended) {
            self.finish_leaving();
            self.note_sockets();
        }
        for port in std::mem::take(&mut self.unserved) {
            self.serve_again(port);
        }
    }

    /// The port of this topology that is still being removed, so that its id is not free.
    pub(super) fn leaving_of(&self, topology: &Topology) -> Option<&str> {
        let leaving = self
            .leaving
            .iter()
            .map(|leaving| leaving.port.name.as_str());
        let mut leaving = leaving.filter(|name| match name.split_once('/') {
            Some((vm, nic)) => topology
                .nics()
                .any(|(of, there)| of.name == vm && there.name == nic),
            None => topology.uplinks.iter().any(|uplink| uplink.name == *name),
        });
        leaving.next()
    }

    /// Notes the sockets that there are: those of the topology, and of ports that are still being
    /// removed.
    pub(super) fn note_sockets(&mut self) {
        let leaving = self.leaving.iter().map(|leaving| &leaving.port);
        let ports = self.specs.iter().chain(leaving);
        self.note.keep(listened(ports, &self.topology));
    }
}
