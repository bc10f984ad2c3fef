//! All polling threads, one for each CPU in `cores:`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use config::Idle;
use pmd::Cores;
use pmd::idle::IdleSetting;
use pmd::time::Clock;
use rustix::thread::Pid;

use super::cpus::choose::Cpus;
use super::poller::{self, Common, Poller, Waiting};
use crate::control::polled::PolledCpu;

/// The polling threads, in the topology's order.
#[derive(Debug)]
pub(crate) struct Pollers {
    cores: Arc<Cores>,
    common: Common,
    cpus: Cpus,
    idle: Idle,
    all: Vec<Poller>,
}

impl Pollers {
    /// Starts a core on each of these CPUs.
    ///
    /// # Errors
    /// A sentence: there are no more threads or files. None runs then.
    pub(super) fn start(
        cores: &Arc<Cores>,
        cpus: &Cpus,
        idle: Idle,
        clock: &Clock,
    ) -> Result<Self, String> {
        let common = Common {
            idle: IdleSetting::from(mode(idle)),
            clock: clock.clone(),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let mut pollers = Self {
            cores: cores.clone(),
            common,
            cpus: cpus.clone(),
            idle,
            all: Vec::new(),
        };
        pollers.all = pollers.add(cpus.polling())?;
        Ok(pollers)
    }

    /// CPUs of the polling threads and of all others.
    pub(super) fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// Each with the number of its core.
    pub(super) fn polled(&self) -> impl Iterator<Item = PolledCpu> {
        self.all.iter().map(Poller::polled)
    }

    /// The polling threads.
    pub(super) fn thread_ids(&self) -> Vec<Pid> {
        self.all.iter().map(Poller::thread_id).collect()
    }

    /// What all cores do from now on when they find nothing.
    pub(super) fn set_idle(&mut self, idle: Idle) {
        if self.idle != idle {
            self.idle = idle;
            self.common.idle.set(mode(idle));
            self.cores.wake_all();
        }
    }

    /// Starts a core on each of those of these CPUs that are not polled on. All of them go through
    /// their queues when this returns, of which they have none yet but those of ports that came up
    /// meanwhile.
    ///
    /// # Errors
    /// A sentence: there are no more threads or files. No core has come then.
    pub(super) fn add(&self, cpus: &[core_affinity::CoreId]) -> Result<Vec<Poller>, String> {
        let is_new = |cpu: &&core_affinity::CoreId| self.polled().all(|other| other.cpu != cpu.id);
        let mut threads = Vec::new();
        for &cpu in cpus.iter().filter(is_new) {
            match poller::start(cpu, &self.common) {
                Ok(thread) => threads.push(thread),
                Err(why) => {
                    threads.into_iter().for_each(Waiting::cancel);
                    return Err(why);
                }
            }
        }
        let (mut threads, mut added) = (threads.into_iter(), Vec::new());
        while let Some(thread) = threads.next() {
            match self.cores.add_core() {
                Ok(core) => {
                    let counted = self.cores.core_counters();
                    let counted = counted.get(core.id()).copied().unwrap_or_default();
                    added.push(thread.run(core, counted));
                }
                Err(e) => {
                    thread.cancel();
                    threads.for_each(Waiting::cancel);
                    self.remove(added);
                    return Err(format!("cannot add a polling core: {e}"));
                }
            }
        }
        self.cores.catch_up();
        Ok(added)
    }

    /// Takes these in, so that the CPUs are those that are wanted; gives those that have to go.
    pub(super) fn exchange(&mut self, cpus: Cpus, added: Vec<Poller>) -> Vec<Poller> {
        self.all.extend(added);
        let wanted: Vec<_> = cpus.polling().iter().map(|core| core.id).collect();
        let place = |poller: &Poller| wanted.iter().position(|&cpu| cpu == poller.polled().cpu);
        self.all
            .sort_by_key(|poller| place(poller).unwrap_or(usize::MAX));
        let n_stay = self.all.partition_point(|poller| place(poller).is_some());
        self.cpus = cpus;
        self.all.split_off(n_stay)
    }

    /// Moves their queues to the other cores, and waits until they have ended.
    pub(super) fn remove(&self, pollers: Vec<Poller>) {
        let ids: Vec<_> = pollers.iter().map(|poller| poller.polled().core).collect();
        // There are others, unless this is the start, which has failed.
        if self.cores.remove_cores(&ids).is_err() {
            self.request_stop();
        }
        pollers.into_iter().for_each(Poller::join);
    }

    /// Stops all, and waits until they have ended.
    pub(super) fn stop(&mut self) {
        self.request_stop();
        self.all.drain(..).for_each(Poller::join);
    }

    fn request_stop(&self) {
        self.common.stop.store(true, Ordering::Release);
        self.cores.wake_all();
    }
}

fn mode(idle: Idle) -> pmd::idle::Idle {
    match idle {
        Idle::Adaptive => pmd::idle::Idle::Adaptive,
        Idle::Poll => pmd::idle::Idle::Poll,
    }
}
