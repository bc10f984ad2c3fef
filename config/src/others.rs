//! The state in which one VM is checked: all else of a topology, as it is in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::context::{Context, Mistakes, NetworkSeen, claim};
use crate::diagnostics::At;
use crate::object::ObjectKind;
use crate::topology::{MacPolicy, PortKind, Topology, port_name};

/// What all of `topology` but the VM `without` uses. To be made after the file of the VM's text has
/// been added to `mistakes`, so that its mistakes come first.
pub(crate) fn context<'m>(
    topology: &Topology,
    without: &str,
    mistakes: &'m mut Mistakes,
) -> Context<'m> {
    let mut others = Others {
        topology,
        context: Context::new(mistakes),
        files: HashMap::new(),
    };
    others.context.ports_max = topology.ports;
    for (idx, network) in topology.networks.iter().enumerate() {
        let mtu = Some(network.mtu);
        others
            .context
            .networks
            .insert(network.name.clone(), NetworkSeen { idx, mtu });
    }
    let at = others.at(ObjectKind::Daemon, "");
    let path = topology.control.path.clone();
    claim(
        &mut others.context.claims.sockets,
        path,
        "the control socket".to_owned(),
        at,
    );
    others.uplinks();
    others.nics(without);
    others.context
}

struct Others<'t, 'm> {
    topology: &'t Topology,
    context: Context<'m>,
    /// Indexes of the files that things are written in.
    files: HashMap<PathBuf, usize>,
}

impl Others<'_, '_> {
    fn uplinks(&mut self) {
        for uplink in &self.topology.uplinks {
            let at = self.at(ObjectKind::Uplink, &uplink.name);
            self.context.count_port(at);
            let user = format!("uplink `{}`", uplink.name);
            self.context.claim_device(uplink.device.clone(), user, at);
        }
    }

    fn nics(&mut self, without: &str) {
        let topology = self.topology;
        for (vm, nic) in topology.nics().filter(|(vm, _)| vm.name != without) {
            let port = port_name(vm, nic);
            let at = self.at(ObjectKind::Nic, &port);
            self.context.count_port(at);
            let claims = &mut self.context.claims;
            *claims.nics_of_network.entry(nic.network_idx).or_default() += 1;
            if let MacPolicy::Fixed(mac) = nic.mac {
                claim(&mut claims.macs, (nic.network_idx, mac), port.clone(), at);
            }
            let user = format!("`{port}`");
            match &nic.port {
                PortKind::VhostUser { path, .. } => {
                    claim(&mut claims.sockets, path.clone(), user, at);
                }
                PortKind::Tap { name } | PortKind::AfXdp { device: name, .. } => {
                    self.context.claim_device(name.clone(), user, at);
                }
            }
        }
    }

    /// Where something is written; line 0 where it is a default.
    fn at(&mut self, kind: ObjectKind, name: &str) -> At {
        let Some(place) = self.topology.origin.place(kind, name) else {
            return At::file(0);
        };
        let file: &Path = &place.file;
        let file_idx = match self.files.get(file) {
            Some(file_idx) => *file_idx,
            None => {
                // Nothing is read from it, so no excerpt is shown of it.
                let file_idx = self
                    .context
                    .mistakes
                    .add_file(file.display().to_string(), String::new());
                self.files.insert(file.to_owned(), file_idx);
                file_idx
            }
        };
        At::char(file_idx, place.line, 1)
    }
}
