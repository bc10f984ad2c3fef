//! CPUs that are polled on, those that were, and what was done on each.
//!
//! A core's number, and with it its counters, is another's when it is gone. What operators see
//! belongs to a CPU, so that no counter of theirs goes back.

use std::collections::BTreeMap;

use pmd::stats::CoreCounters;

/// CPUs that are polled on, and those that were.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolledCpus {
    now: Vec<PolledCpu>,
    /// What was done on CPUs that are not polled on any more.
    past: BTreeMap<usize, CoreCounters>,
}

/// A CPU that is polled on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolledCpu {
    pub(crate) cpu: usize,
    /// Number of its core.
    pub(crate) core: usize,
    /// What the core's number had counted when the core began.
    began_with: CoreCounters,
    /// What other cores had done on this CPU.
    before: CoreCounters,
}

impl PolledCpu {
    /// A core begins on a CPU. `began_with`: what its number has counted.
    pub(crate) fn new(cpu: usize, core: usize, began_with: CoreCounters) -> Self {
        Self {
            cpu,
            core,
            began_with,
            before: CoreCounters::default(),
        }
    }

    /// What was done on this CPU. `all`: what each number has counted.
    pub(crate) fn counters(&self, all: &[CoreCounters]) -> CoreCounters {
        let now = all.get(self.core).copied().unwrap_or_default();
        let since = combined(now, self.began_with, u64::saturating_sub);
        combined(since, self.before, u64::saturating_add)
    }

    pub(super) fn is_same_core(&self, other: &Self) -> bool {
        (self.cpu, self.core) == (other.cpu, other.core)
    }
}

impl PolledCpus {
    /// Those that are polled on, in the topology's order.
    pub(crate) fn now(&self) -> &[PolledCpu] {
        &self.now
    }

    /// The CPU of the core with this number.
    pub(crate) fn cpu_of(&self, core: usize) -> Option<usize> {
        let polled = self.now.iter().find(|polled| polled.core == core)?;
        Some(polled.cpu)
    }

    /// What was done on each CPU that is not polled on any more.
    pub(crate) fn past(&self) -> impl Iterator<Item = (usize, CoreCounters)> {
        self.past.iter().map(|(&cpu, &counters)| (cpu, counters))
    }

    /// The same with other cores; those that are gone have ended. `all`: what each number has
    /// counted.
    pub(crate) fn next(
        &self,
        cores: impl IntoIterator<Item = PolledCpu>,
        all: &[CoreCounters],
    ) -> Self {
        let cores: Vec<_> = cores.into_iter().collect();
        let mut past = self.past.clone();
        let is_gone = |polled: &&PolledCpu| !cores.iter().any(|core| core.is_same_core(polled));
        for polled in self.now.iter().filter(is_gone) {
            let left = CoreCounters {
                n_rxqs: 0,
                ..polled.counters(all)
            };
            past.insert(polled.cpu, left);
        }
        let stays = |core: &PolledCpu| self.now.iter().find(|polled| polled.is_same_core(core));
        let now = cores.iter().map(|core| match stays(core) {
            Some(polled) => *polled,
            None => PolledCpu {
                before: past.remove(&core.cpu).unwrap_or_default(),
                ..*core
            },
        });
        let now = now.collect();
        Self { now, past }
    }
}

/// All that is counted, of two; what is not counted is `a`'s.
fn combined(a: CoreCounters, b: CoreCounters, by: impl Fn(u64, u64) -> u64) -> CoreCounters {
    CoreCounters {
        turns: by(a.turns, b.turns),
        busy_cycles: by(a.busy_cycles, b.busy_cycles),
        held_cycles: by(a.held_cycles, b.held_cycles),
        scan_cycles: by(a.scan_cycles, b.scan_cycles),
        scanned_frames: by(a.scanned_frames, b.scanned_frames),
        rx_frames: by(a.rx_frames, b.rx_frames),
        bursts: by(a.bursts, b.bursts),
        sleeps: by(a.sleeps, b.sleeps),
        cpu_ns: by(a.cpu_ns, b.cpu_ns),
        cpu_at: a.cpu_at,
        n_rxqs: a.n_rxqs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rx_frames: u64) -> CoreCounters {
        CoreCounters {
            rx_frames,
            n_rxqs: 3,
            ..CoreCounters::default()
        }
    }

    fn frames(cpus: &PolledCpus, all: &[CoreCounters]) -> Vec<(usize, u64)> {
        let of = |polled: &PolledCpu| (polled.cpu, polled.counters(all).rx_frames);
        cpus.now().iter().map(of).collect()
    }

    #[test]
    fn what_was_done_on_a_cpu_is_its_own_whichever_numbers_its_cores_had() {
        let new = |cpu, core, n| PolledCpu::new(cpu, core, counted(n));
        // CPU 4 is core 0's.
        let cpus = PolledCpus::default().next([new(4, 0, 0)], &[]);
        let all = [counted(10)];
        assert_eq!(frames(&cpus, &all), [(4, 10)]);
        // CPU 5 comes, as core 1, and CPU 4 goes.
        let cpus = cpus.next([new(4, 0, 0), new(5, 1, 0)], &all);
        let all = [counted(20), counted(7)];
        assert_eq!(frames(&cpus, &all), [(4, 20), (5, 7)]);
        let cpus = cpus.next([new(5, 1, 0)], &all);
        assert_eq!(frames(&cpus, &all), [(5, 7)]);
        let past: Vec<_> = cpus.past().collect();
        assert_eq!(
            (past[0].0, past[0].1.rx_frames, past[0].1.n_rxqs),
            (4, 20, 0)
        );
        // CPU 6 has the number that CPU 4 had, and then CPU 4 that of CPU 5.
        let cpus = cpus.next([new(6, 0, 20)], &all);
        let all = [counted(25), counted(7)];
        assert_eq!(frames(&cpus, &all), [(6, 5)]);
        let cpus = cpus.next([new(4, 1, 7), new(6, 0, 20)], &all);
        let all = [counted(25), counted(8)];
        assert_eq!(frames(&cpus, &all), [(4, 21), (6, 5)]);
        assert_eq!(cpus.cpu_of(1), Some(4));
        let past: Vec<_> = cpus.past().map(|(cpu, _)| cpu).collect();
        assert_eq!(past, [5]);
        let sum: u64 = frames(&cpus, &all).iter().map(|(_, n)| n).sum();
        assert_eq!(sum + 7, 25 + 8, "nothing is lost, nothing counted twice");
    }
}
