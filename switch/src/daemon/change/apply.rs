//! One topology takes the place of another.

use std::sync::Arc;

use config::Topology;

use super::plan::Plan;
use super::prepare::Prepared;
use super::switch::Switch;
use crate::control::changes::NotChanged;
use crate::daemon::sockets::listened;
use crate::plan::networks::networks;
use crate::plan::ports::ports;
use crate::plan::room::fit;

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
        if !self.leaving.is_empty() {
            self.finish_leaving();
        }
        let one = |why: String| NotChanged::Unable(vec![why]);
        let mut ids = self.ids.clone();
        ids.assign(&topology).map_err(one)?;
        let mut specs = ports(&topology, &ids);
        let capacity = self.means.cores.macs().capacity();
        fit(&mut specs, &self.specs, topology.networks.len(), capacity).map_err(one)?;
        let plan = Plan::new(&self.specs, specs);
        let specs = plan.specs();
        let networks = Arc::new(networks(&topology, &ids, &specs));
        self.note.add(listened(&specs, &topology));
        let prepared = Prepared::new(self, &plan, &topology).map_err(NotChanged::Unable);
        let prepared =
            prepared.inspect_err(|_| self.note.keep(listened(&self.specs, &self.topology)))?;
        if let Err(why) = record(&mut topology) {
            prepared.undo(self);
            self.note.keep(listened(&self.specs, &self.topology));
            return Err(why);
        }
        // From here on nothing fails.
        self.topology = Arc::new(topology);
        self.ids = ids;
        self.specs = specs;
        self.commit(prepared, plan, &networks, is_changed);
        self.note.keep(listened(&self.specs, &self.topology));
        Ok(())
    }
}
