//! One topology takes the place of another.

use std::sync::Arc;

use config::Topology;

use super::plan::Plan;
use super::prepare::Prepared;
use super::switch::Switch;
use crate::control::changes::NotChanged;
use crate::daemon::sockets::listened;
use crate::plan::ids::Ids;
use crate::plan::networks::networks;
use crate::plan::ports::ports;
use crate::plan::room::fit;

/// What a topology would do.
#[derive(Debug)]
pub(super) struct Planned {
    ids: Ids,
    plan: Plan,
}

impl Switch {
    /// Puts another topology in force, whole or not at all. What is the same in both is not
    /// touched. `is_changed`: it says something else, and has a number of its own. `record` is the
    /// last step that can fail: it writes the topology down.
    ///
    /// # Errors
    /// Why not. All is as it was then.
    pub(super) fn apply(
        &mut self,
        mut topology: Topology,
        is_changed: bool,
        record: impl FnOnce(&mut Topology) -> Result<(), NotChanged>,
    ) -> Result<(), NotChanged> {
        let Planned { ids, plan } = self.plan(&topology)?;
        let specs = plan.specs();
        let networks = Arc::new(networks(&topology, &ids, &specs));
        self.note.add(listened(specs.iter(), &topology));
        let prepared = Prepared::new(self, &plan, &topology).map_err(NotChanged::Unable);
        let prepared = prepared.inspect_err(|_| self.note_sockets())?;
        if let Err(why) = record(&mut topology) {
            prepared.undo(self);
            self.note_sockets();
            return Err(why);
        }
        // From here on nothing fails.
        self.is_half_way = true;
        self.topology = Arc::new(topology);
        self.ids = ids;
        self.specs = specs;
        self.commit(prepared, plan, &networks, is_changed);
        self.is_half_way = false;
        self.note_sockets();
        Ok(())
    }

    /// What this topology would do to each port, as far as it is known without doing it.
    ///
    /// # Errors
    /// Why it can't be put in force.
    pub(super) fn plan(&mut self, topology: &Topology) -> Result<Planned, NotChanged> {
        self.tidy();
        let one = |why: String| NotChanged::Unable(vec![why]);
        if let Some(name) = self.leaving_of(topology) {
            return Err(one(format!(
                "{name} is still being removed, since its front-end sent files that take long to \
                close: ask again when they are closed, or end that front-end"
            )));
        }
        let mut ids = self.ids.clone();
        ids.assign(topology).map_err(one)?;
        let mut specs = ports(topology, &ids);
        let capacity = self.means.cores.macs().capacity();
        fit(&mut specs, &self.specs, topology.networks.len(), capacity).map_err(one)?;
        let plan = Plan::new(&self.specs, specs);
        Ok(Planned { ids, plan })
    }
}
