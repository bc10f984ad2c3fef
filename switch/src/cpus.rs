//! CPUs: which there are, which this process may use, and who runs where.
//!
//! Polling cores get a CPU each and share it with no thread of ours, if others are allowed. The allowed CPUs are read once,
//! before anything is pinned: afterwards a thread sees only its own.

use std::fmt::Write as _;

use config::CoreId;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Who runs where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus {
    polling: Vec<core_affinity::CoreId>,
    /// For all other threads; empty: there are none beside the polling ones.
    control: Vec<usize>,
}

impl Cpus {
    /// Checks that the topology's cores can be polled on.
    ///
    /// # Errors
    /// A sentence that names the CPUs that could be.
    pub(crate) fn choose(cores: &[CoreId]) -> Result<Self, String> {
        let allowed = core_affinity::get_core_ids().unwrap_or_default();
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        choose(cores, &allowed.iter().map(|core| core.id).collect::<Vec<_>>(), online.trim())
    }

    /// CPUs to poll on, in the topology's order.
    pub(crate) fn polling(&self) -> &[core_affinity::CoreId] {
        &self.polling
    }

    /// The same as the kernel writes them: `0-3,8`.
    pub(crate) fn polled(&self) -> String {
        ranges(&self.polling.iter().map(|core| core.id).collect::<Vec<_>>())
    }

    /// Keeps the calling thread, and those it will start, off the polling CPUs. False: there are no others.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn keep_control_off(&self) -> Result<bool, String> {
        let mut set = CpuSet::new();
        self.control.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
        if set.count() == 0 {
            return Ok(false);
        }
        let set = sched_setaffinity(None, &set);
        set.map_err(|e| format!("cannot keep control threads on CPUs {}: {e}", ranges(&self.control)))?;
        Ok(true)
    }
}

/// Pins the calling thread.
///
/// # Errors
/// A sentence.
pub(crate) fn pin(core: core_affinity::CoreId) -> Result<(), String> {
    if core_affinity::set_for_current(core) {
        return Ok(());
    }
    Err(format!("cannot run a polling thread on CPU {}: the kernel refuses; has the CPU been taken offline?", core.id))
}

fn choose(cores: &[CoreId], allowed: &[usize], online: &str) -> Result<Cpus, String> {
    for core in cores {
        let cpu = core.index();
        if allowed.contains(&cpu) {
            continue;
        }
        return Err(if is_in(cpu, online) {
            let allowed = ranges(allowed);
            format!(
                "cores: CPU {cpu} may not be used by this process, which is confined to CPUs {allowed}: choose among \
                 those, or start it without that limit (taskset, cpuset, container)"
            )
        } else {
            format!("cores: there is no CPU {cpu}: this machine has CPUs {online}")
        });
    }
    let is_polled = |cpu: usize| cores.iter().any(|core| core.index() == cpu);
    Ok(Cpus {
        polling: cores.iter().map(|core| core_affinity::CoreId { id: core.index() }).collect(),
        control: allowed.iter().copied().filter(|&cpu| !is_polled(cpu)).collect(),
    })
}

/// Whether `cpu` is in a list as the kernel writes it: `0-3,8`.
fn is_in(cpu: usize, list: &str) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        matches!((first.parse::<usize>(), last.parse::<usize>()), (Ok(first), Ok(last)) if (first..=last).contains(&cpu))
    })
}

/// CPUs as the kernel writes them: `0-3,8`.
fn ranges(cpus: &[usize]) -> String {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    let mut text = String::new();
    for run in cpus.chunk_by(|a, b| a + 1 == *b) {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string can't fail.
        let _ = match run {
            [one] => write!(text, "{comma}{one}"),
            [first, .., last] => write!(text, "{comma}{first}-{last}"),
            [] => Ok(()),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(numbers: &[u16]) -> Vec<CoreId> {
        numbers.iter().map(|&number| CoreId::new(number).unwrap()).collect()
    }

    #[test]
    fn control_gets_what_polling_leaves() {
        let cpus = choose(&cores(&[3, 1]), &[0, 1, 2, 3], "0-3").unwrap();
        assert_eq!(cpus.polling.iter().map(|core| core.id).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(cpus.control, [0, 2]);
    }

    #[test]
    fn cpu_that_does_not_exist_is_refused_with_those_that_do() {
        let why = choose(&cores(&[9]), &[0, 1], "0-1").unwrap_err();
        assert!(why.contains("no CPU 9") && why.contains("0-1"), "{why}");
    }

    #[test]
    fn cpu_that_is_not_allowed_is_refused_with_those_that_are() {
        let why = choose(&cores(&[2]), &[0, 1, 8], "0-15").unwrap_err();
        assert!(why.contains("CPU 2") && why.contains("0-1,8"), "{why}");
    }

    #[test]
    fn lists_of_the_kernel_are_understood() {
        for (cpu, expected) in [(0, true), (3, true), (4, false), (8, true), (9, false)] {
            assert_eq!(is_in(cpu, "0-3,8"), expected, "{cpu}");
        }
        assert!(!is_in(0, ""));
        assert_eq!(ranges(&[8, 0, 1, 2]), "0-2,8");
        assert_eq!(ranges(&[]), "");
    }
}
