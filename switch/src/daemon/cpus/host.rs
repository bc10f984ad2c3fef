//! CPUs of this host and of this process, as the kernel reports them.

use std::fs;
use std::path::{Path, PathBuf};

use config::CoreId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::list::parse;

/// Where cpuset control groups are mounted: version 1, version 2, and the oldest place.
const CPUSET_ROOTS: [&str; 3] = ["/sys/fs/cgroup/cpuset", "/sys/fs/cgroup", "/dev/cpuset"];
/// Names of the file that lists their CPUs: version 2, version 1, without a prefix.
const CPUSET_FILES: [&str; 4] = [
    "cpuset.cpus.effective",
    "cpuset.effective_cpus",
    "cpuset.cpus",
    "cpus",
];

/// CPUs of this host, and those that this process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// The affinity at the process's start.
    pub(super) started_on: Vec<usize>,
    /// CPUs that the kernel grants a thread of this process on request.
    pub(super) granted: Vec<usize>,
    /// Isolated by the operator: `isolcpus`, isolated cpusets, `nohz_full`.
    pub(super) isolated: Vec<usize>,
    pub(super) online: Vec<usize>,
    pub(super) present: Vec<usize>,
    /// None: there is none, or it can't be seen from here.
    pub(super) cpuset: Option<Cpuset>,
}

/// A cpuset control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpuset {
    /// The file that lists its CPUs.
    pub(super) file: PathBuf,
    pub(super) cpus: Vec<usize>,
}

impl Host {
    /// Asks the kernel, and tries each of `cores`.
    ///
    /// # Errors
    /// A sentence: the kernel doesn't say.
    pub(super) fn read(cores: &[CoreId]) -> Result<Self, String> {
        let started_on = sched_getaffinity(None)
            .map_err(|e| format!("cannot read this process's CPU affinity: {e}"))?;
        let system = |name: &str| {
            parse(
                &fs::read_to_string(Path::new("/sys/devices/system/cpu").join(name))
                    .unwrap_or_default(),
            )
        };
        let cores: Vec<_> = cores.iter().map(|core| core.index()).collect();
        // On a thread of its own, since it changes its affinity.
        let granted = std::thread::spawn(move || probe(&cores))
            .join()
            .unwrap_or_default();
        Ok(Self {
            started_on: members(&started_on),
            granted,
            isolated: [system("isolated"), system("nohz_full")].concat(),
            online: system("online"),
            present: system("present"),
            cpuset: cpuset(),
        })
    }

    /// Whether a thread of this process can run on this CPU.
    pub(super) fn is_granted(&self, cpu: usize) -> bool {
        self.granted.contains(&cpu)
    }
}

/// CPUs that the calling thread can run on: those that the kernel grants when all are requested,
/// but of `cores` only those where it did run.
fn probe(cores: &[usize]) -> Vec<usize> {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let mut granted = run_on(&all);
    for &cpu in cores {
        let mut one = CpuSet::new();
        let is_run = cpu < CpuSet::MAX_CPU && {
            one.set(cpu);
            run_on(&one) == [cpu]
        };
        granted.retain(|&other| other != cpu);
        if is_run {
            granted.push(cpu);
        }
    }
    granted.sort_unstable();
    granted
}

/// What the kernel grants of a requested affinity; empty: it refused.
fn run_on(set: &CpuSet) -> Vec<usize> {
    let set_back = sched_setaffinity(None, set).and_then(|()| sched_getaffinity(None));
    set_back.map_or_else(|_| Vec::new(), |set| members(&set))
}

fn members(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// The innermost control group of this process that lists CPUs.
fn cpuset() -> Option<Cpuset> {
    let path = fs::read_to_string("/proc/self/cpuset").ok()?;
    let read = |file: PathBuf| {
        let cpus = parse(&fs::read_to_string(&file).ok()?);
        (!cpus.is_empty()).then_some(Cpuset { file, cpus })
    };
    candidates(path.trim()).find_map(read)
}

/// Files that may list the CPUs of the control group with this path, the innermost first.
fn candidates(path: &str) -> impl Iterator<Item = PathBuf> {
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    groups.flat_map(|group| {
        CPUSET_ROOTS.iter().flat_map(move |root| {
            CPUSET_FILES
                .iter()
                .map(move |file| Path::new(root).join(group).join(file))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_grants_what_the_affinity_leaves_out() {
        let here = members(&sched_getaffinity(None).unwrap());
        if here.len() < 2 {
            return eprintln!("NOT TESTED: one CPU alone may be used here");
        }
        let confined = std::thread::spawn(move || {
            assert_eq!(
                run_on(&[here[0]].into_iter().fold(CpuSet::new(), with)),
                [here[0]]
            );
            let other = CoreId::new(u16::try_from(here[1]).unwrap()).unwrap();
            let host = Host::read(&[other]).unwrap();
            assert_eq!(host.started_on, [here[0]]);
            assert!(
                host.is_granted(here[0]) && host.is_granted(here[1]),
                "{host:?}"
            );
            assert!(!host.is_granted(CpuSet::MAX_CPU - 1), "{host:?}");
            assert_eq!(
                members(&sched_getaffinity(None).unwrap()),
                [here[0]],
                "the caller's own is as it was"
            );
        });
        confined.join().unwrap();
    }

    fn with(mut set: CpuSet, cpu: usize) -> CpuSet {
        set.set(cpu);
        set
    }

    #[test]
    fn innermost_group_is_asked_first() {
        let paths: Vec<_> = candidates("/machine/a")
            .map(|path| path.display().to_string())
            .collect();
        let first = paths
            .iter()
            .position(|path| path == "/sys/fs/cgroup/machine/a/cpuset.cpus.effective")
            .unwrap();
        let outer = paths
            .iter()
            .position(|path| path == "/sys/fs/cgroup/machine/cpuset.cpus.effective")
            .unwrap();
        let root = paths
            .iter()
            .position(|path| path == "/sys/fs/cgroup/cpuset/cpuset.effective_cpus")
            .unwrap();
        assert!(first < outer && outer < root, "{paths:?}");
    }
}
