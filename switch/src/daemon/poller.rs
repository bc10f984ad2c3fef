//! A polling thread: pinned, then given a core, then polling until that has ended or all stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use pmd::Core;
use pmd::idle::IdleSetting;
use pmd::stats::CoreCounters;
use pmd::time::Clock;
use rustix::thread::{Pid, gettid};
use tracing::warn;

use super::cpus::choose::pin;
use super::tsc;
use crate::control::polled::PolledCpu;

/// What all polling threads have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) idle: IdleSetting,
    pub(super) clock: Clock,
    /// All of them stop.
    pub(super) stop: Arc<AtomicBool>,
}

/// A pinned thread that waits for a core.
#[derive(Debug)]
pub(super) struct Waiting {
    cpu: usize,
    thread_id: Pid,
    give: SyncSender<Core>,
    thread: JoinHandle<()>,
}

/// A thread that polls.
#[derive(Debug)]
pub(super) struct Poller {
    polled: PolledCpu,
    thread_id: Pid,
    thread: JoinHandle<()>,
}

/// Starts the thread; returns once it is pinned.
///
/// # Errors
/// A sentence, when the thread can't be started or pinned.
pub(super) fn start(cpu: core_affinity::CoreId, common: &Common) -> Result<Waiting, String> {
    let (pinned, is_pinned) = sync_channel(1);
    let (give, given) = sync_channel::<Core>(1);
    let common = common.clone();
    let work = move || {
        let result = pin(cpu).map(|()| gettid());
        let can_run = result.is_ok();
        if can_run {
            prepare(cpu.id, &common.clock);
        }
        // The receiver waits for it.
        let _ = pinned.send(result);
        if can_run && let Ok(core) = given.recv() {
            let Common { idle, clock, stop } = common;
            core.run(idle, clock, &stop);
        }
    };
    let cannot = |why: &str| format!("cannot start the polling thread of CPU {}: {why}", cpu.id);
    let thread = Builder::new()
        .name(format!("poll-{}", cpu.id))
        .spawn(work)
        .map_err(|e| cannot(&e.to_string()))?;
    let thread_id = is_pinned.recv().map_err(|_| cannot("it ended"))??;
    let cpu = cpu.id;
    Ok(Waiting {
        cpu,
        thread_id,
        give,
        thread,
    })
}

/// Logs what is doubtful about polling on this CPU.
fn prepare(cpu: usize, clock: &Clock) {
    tsc::compare(cpu, clock.ahead_here());
    if !pmd::sys::prepare_signals() {
        warn!(
            "the kernel has no asynchronous requests left (fs.aio-max-nr): other threads notify \
            the guests of CPU {cpu}, which takes longer; raise it (sysctl fs.aio-max-nr=1048576) \
            and restart"
        );
    }
}

impl Waiting {
    /// There is no core for it: ends it.
    pub(super) fn cancel(self) {
        drop(self.give);
        // A panic was logged already.
        let _ = self.thread.join();
    }

    /// Runs the core from now on. `counted`: what its number has counted.
    pub(super) fn run(self, core: Core, counted: CoreCounters) -> Poller {
        let polled = PolledCpu::new(self.cpu, core.id(), counted);
        // It waits for it.
        let _ = self.give.send(core);
        Poller {
            polled,
            thread_id: self.thread_id,
            thread: self.thread,
        }
    }
}

impl Poller {
    /// Its CPU and its core.
    pub(super) fn polled(&self) -> PolledCpu {
        self.polled
    }

    pub(super) fn thread_id(&self) -> Pid {
        self.thread_id
    }

    /// Waits until it has ended.
    pub(super) fn join(self) {
        // A panic was logged already.
        let _ = self.thread.join();
    }
}
