//! Cores that come and go.

use config::CoreId;
use tracing::{info, warn};

use super::switch::Switch;
use crate::control::polled::PolledCpus;
use crate::daemon::cpus::choose::Cpus;
use crate::daemon::poller::Poller;

/// Cores that a change adds, which run already.
#[derive(Debug)]
pub(super) struct NewCores {
    /// All that there are to be.
    cpus: Cpus,
    added: Vec<Poller>,
}

impl Switch {
    /// Starts what polls on CPUs that are not polled on yet. None: the cores stay as they are.
    ///
    /// # Errors
    /// A sentence: one can't be polled on, or there are no more threads or files. All is as it was
    /// then.
    pub(super) fn prepare_cores(&self, cores: &[CoreId]) -> Result<Option<NewCores>, String> {
        if self.topology.cores == cores {
            return Ok(None);
        }
        let (meanwhile, cpus) = self.pollers.cpus().changed(cores)?;
        let added = meanwhile
            .keep_others_off(&self.pollers.thread_ids())
            .and_then(|()| self.pollers.add(cpus.polling()));
        match added {
            Ok(added) => Ok(Some(NewCores { cpus, added })),
            Err(why) => {
                self.keep_others_off();
                Err(why)
            }
        }
    }

    /// The cores that were added go again.
    pub(super) fn undo_cores(&self, new: NewCores) {
        let (before, all) = (self.present(), || self.means.cores.core_counters());
        let added = new.added.iter().map(Poller::polled);
        let both: Vec<_> = self.pollers.polled().chain(added).collect();
        let cores = before.cores.next(both, &all());
        self.pollers.remove(new.added);
        self.means.cores.spread();
        self.keep_others_off();
        let mut present = (*before).clone();
        present.cores = cores.next(self.pollers.polled(), &all());
        self.set_present(present);
    }

    /// Queues move to the cores that there are to be, and those that are to go end.
    pub(super) fn exchange_cores(&mut self, new: Option<NewCores>) -> PolledCpus {
        let before = self.present();
        let Some(NewCores { cpus, added }) = new else {
            return before.cores.clone();
        };
        let gone = self.pollers.exchange(cpus, added);
        self.pollers.remove(gone);
        self.means.cores.spread();
        self.keep_others_off();
        self.pollers.cpus().log_control();
        info!("polling on CPU {}", self.pollers.cpus().polled());
        let all = self.means.cores.core_counters();
        before.cores.next(self.pollers.polled(), &all)
    }

    /// Threads that don't poll leave the polling CPUs.
    fn keep_others_off(&self) {
        let cpus = self.pollers.cpus();
        if let Err(why) = cpus.keep_others_off(&self.pollers.thread_ids()) {
            warn!("{why}");
        }
    }
}
