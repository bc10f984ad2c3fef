//! Names of ports and networks by their ids.

use flowtable::{NetworkId, PortId};

use super::ids::Ids;

/// Names by id; empty where an id is not in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) ports: Vec<String>,
    pub(crate) networks: Vec<String>,
}

impl Names {
    /// Those that have an id.
    pub(crate) fn of(ids: &Ids) -> Self {
        Self {
            ports: ids.port_names(),
            networks: ids.network_names(),
        }
    }

    /// None: no port has this id.
    pub(crate) fn port(&self, id: PortId) -> Option<&str> {
        let name = self.ports.get(usize::from(id))?;
        (!name.is_empty()).then_some(name)
    }

    /// None: no network has this id.
    pub(crate) fn network(&self, id: NetworkId) -> Option<&str> {
        let name = self.networks.get(usize::from(id))?;
        (!name.is_empty()).then_some(name)
    }

    /// The port of this name.
    pub(crate) fn port_id(&self, name: &str) -> Option<PortId> {
        let place = self.ports.iter().position(|port| port == name)?;
        PortId::try_from(place).ok()
    }
}
