//! Chooses CPUs for the polling cores and for all other threads, and pins threads to them.
//!
//! Each polling core gets a CPU of its own. Whether a CPU may be used is tested by running a thread
//! there: the affinity at the process's start does not tell, since under `isolcpus` it leaves out
//! just the CPUs that are meant for polling. All other threads stay off the polling CPUs and off
//! those that the operator isolated.

use config::CoreId;
use rustix::thread::{CpuSet, Pid, sched_getaffinity};
use tracing::{info, warn};

use super::host::Host;
use super::list::ranges;
use super::others::run_on;

/// CPUs of the polling cores and of all other threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    polling: Vec<core_affinity::CoreId>,
    control: Control,
    /// The affinity at the process's start.
    started_on: Vec<usize>,
}

/// CPUs for all threads that don't poll.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Control {
    /// Some of those in the affinity at the process's start.
    Given(Vec<usize>),
    /// Other ones, since all CPUs of that affinity are polled on or isolated.
    Outside(Vec<usize>),
    /// Isolated ones on which the process was started: there are no others.
    Isolated(Vec<usize>),
    /// Only polling CPUs are left: those of that affinity, or any.
    Shared(Vec<usize>),
}

impl Cpus {
    /// Checks that the topology's cores can be polled on.
    ///
    /// # Errors
    /// A sentence that says why not, and what to do.
    pub(crate) fn choose(cores: &[CoreId]) -> Result<Self, String> {
        choose(cores, &Host::read(cores)?)
    }

    /// CPUs to poll on, in the topology's order.
    pub(crate) fn polling(&self) -> &[core_affinity::CoreId] {
        &self.polling
    }

    /// The same as the kernel writes them: `0-3,8`.
    pub(crate) fn polled(&self) -> String {
        ranges(&self.polling.iter().map(|core| core.id).collect::<Vec<_>>())
    }

    /// What takes their place when these cores do, and what holds until then: threads that don't
    /// poll stay off the CPUs of both.
    ///
    /// # Errors
    /// As [`Cpus::choose`].
    pub(crate) fn changed(&self, cores: &[CoreId]) -> Result<(Self, Self), String> {
        let host = Host {
            started_on: self.started_on.clone(),
            ..Host::read(cores)?
        };
        let next = choose(cores, &host)?;
        let polled = self.polling.iter().chain(&next.polling);
        let polled: Vec<_> = polled.map(|core| core.id).collect();
        let meanwhile = Self {
            control: control(&polled, &host),
            ..next.clone()
        };
        Ok((meanwhile, next))
    }

    /// Keeps all threads of this process but `polling`, and those that they will start, off the
    /// polling CPUs.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn keep_others_off(&self, polling: &[Pid]) -> Result<(), String> {
        let (Control::Given(cpus)
        | Control::Outside(cpus)
        | Control::Isolated(cpus)
        | Control::Shared(cpus)) = &self.control;
        run_on(cpus, polling)
            .map_err(|e| format!("cannot keep control threads on CPUs {}: {e}", ranges(cpus)))
    }

    /// Logs where threads that don't poll run, if that is unusual.
    pub(crate) fn log_control(&self) {
        match &self.control {
            Control::Shared(_) => {
                warn!(
                    "every CPU that this process may use is polled on or isolated: other threads \
                    share the polling CPUs"
                );
                warn!(
                    "guests' connections and operators will be served slowly: allow one CPU more, \
                    or poll on one less"
                );
            }
            Control::Given(_) => {}
            Control::Outside(cpus) => {
                let cpus_text = ranges(cpus);
                info!(
                    "the CPUs that this process was started on are polled on or isolated: other \
                    threads run on {cpus_text}"
                );
            }
            Control::Isolated(cpus) => {
                info!(
                    "threads that don't poll run on CPUs isolated by isolcpus or nohz_full: {}",
                    ranges(cpus)
                );
            }
        }
    }
}

/// Pins the calling thread and verifies it.
///
/// # Errors
/// A sentence.
pub(crate) fn pin(core: core_affinity::CoreId) -> Result<(), String> {
    let is_there = |set: CpuSet| set.count() == 1 && set.is_set(core.id);
    if core_affinity::set_for_current(core) && sched_getaffinity(None).is_ok_and(is_there) {
        return Ok(());
    }
    let id = core.id;
    Err(format!(
        "cannot run a polling thread on CPU {id}: the kernel allowed it a moment ago and refuses \
        now; has the CPU been taken offline, or has the process been moved to another cpuset?"
    ))
}

fn choose(cores: &[CoreId], host: &Host) -> Result<Cpus, String> {
    let polled: Vec<_> = cores.iter().map(|core| core.index()).collect();
    for &cpu in &polled {
        if !host.is_granted(cpu) {
            return Err(format!("cores: {}", why_refused(cpu, host)));
        }
    }
    Ok(Cpus {
        control: control(&polled, host),
        polling: polled
            .iter()
            .map(|&id| core_affinity::CoreId { id })
            .collect(),
        started_on: host.started_on.clone(),
    })
}

/// The first that is not empty: CPUs of the affinity at the process's start, others that the kernel
/// grants, and isolated ones on which the process was started, as by `taskset`.
fn control(polled: &[usize], host: &Host) -> Control {
    let is_isolated = |cpu: usize| host.isolated.contains(&cpu);
    let left = |cpus: &[usize], may_be_isolated: bool| -> Vec<usize> {
        let is_free = |cpu: usize| host.granted.contains(&cpu) && !polled.contains(&cpu);
        cpus.iter()
            .copied()
            .filter(|&cpu| is_free(cpu) && (may_be_isolated || !is_isolated(cpu)))
            .collect()
    };
    let choices = [
        Control::Given(left(&host.started_on, false)),
        Control::Outside(left(&host.granted, false)),
        Control::Isolated(left(&host.started_on, true)),
    ];
    let has_any = |control: &Control| match control {
        Control::Given(cpus)
        | Control::Outside(cpus)
        | Control::Isolated(cpus)
        | Control::Shared(cpus) => !cpus.is_empty(),
    };
    let shared = || {
        let started_on = host.started_on.iter().copied();
        let granted: Vec<_> = started_on.filter(|&cpu| host.is_granted(cpu)).collect();
        Control::Shared(if granted.is_empty() {
            host.granted.clone()
        } else {
            granted
        })
    };
    choices.into_iter().find(has_any).unwrap_or_else(shared)
}

/// Why a thread of this process can't run on this CPU, and what to do.
fn why_refused(cpu: usize, host: &Host) -> String {
    let granted = ranges(&host.granted);
    if !host.present.contains(&cpu) {
        return format!(
            "there is no CPU {cpu}: this machine has CPUs {}",
            ranges(&host.present)
        );
    }
    if !host.online.contains(&cpu) {
        return format!(
            "CPU {cpu} is offline: bring it up (echo 1 > /sys/devices/system/cpu/cpu{cpu}/online), \
            or choose among {granted}"
        );
    }
    if let Some(cpuset) = host
        .cpuset
        .as_ref()
        .filter(|cpuset| !cpuset.cpus.contains(&cpu))
    {
        return format!(
            "CPU {cpu} is outside of this process's cpuset, which has CPUs {} ({}): choose among \
            those, or widen the cpuset (AllowedCPUs= of the service or its slice, --cpuset-cpus of \
            the container)",
            ranges(&cpuset.cpus),
            cpuset.file.display()
        );
    }
    format!(
        "CPU {cpu} is online, but the kernel lets this process run on CPUs {granted} alone: choose \
        among those, or start it outside of what restricts it (a container, or a cpuset that is \
        not visible from here)"
    )
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
