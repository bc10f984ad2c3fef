//! Load of the polling cores over the last second: sampled by the supervisor, read for operators.

use std::sync::Mutex;

use pmd::Cores;
use pmd::stats::CoreCounters;
use pmd::time::{Clock, Nanos, SECOND};

use super::polled::{PolledCpu, PolledCpus};
use crate::api::core::Load;
use crate::base::lock::lock;

/// A core reports its CPU time at least once a second, unless it sleeps.
const REPORTS_WITHIN: Nanos = 2 * SECOND;

/// The load of each CPU that is polled on.
#[derive(Debug, Default)]
pub(crate) struct Loads(Mutex<Vec<(PolledCpu, Sample)>>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Nanos,
    core: CoreCounters,
    load: Load,
}

impl Loads {
    /// Samples all cores.
    pub(crate) fn sample(&self, cores: &Cores, polled: &PolledCpus, clock: &Clock) {
        let (at, all) = (clock.now(), cores.core_counters());
        let mut samples = lock(&self.0);
        let sampled = polled.now().iter().map(|polled| {
            let core = polled.counters(&all);
            let mut before = samples.iter();
            let load = before
                .find(|(before, _)| before.is_same_core(polled))
                .map_or_else(Load::default, |(_, last)| {
                    load_between(last, at, &core, |n| clock.span(n))
                });
            (*polled, Sample { at, core, load })
        });
        *samples = sampled.collect();
    }

    /// As of the last sample.
    pub(crate) fn of(&self, cpu: usize) -> Load {
        let samples = lock(&self.0);
        let mut samples = samples.iter();
        samples
            .find(|(polled, _)| polled.cpu == cpu)
            .map_or_else(Load::default, |(_, sample)| sample.load)
    }
}

fn load_between(
    last: &Sample,
    at: Nanos,
    core: &CoreCounters,
    span: impl Fn(u64) -> Nanos,
) -> Load {
    let busy_ns = span(core.busy_cycles.saturating_sub(last.core.busy_cycles));
    let n_frames = core.rx_frames.saturating_sub(last.core.rx_frames);
    let passed = at.saturating_sub(last.at);
    // A core reports its CPU time when it goes to sleep, or about once a second.
    let cpu = match core.cpu_at.saturating_sub(last.core.cpu_at) {
        0 if at.saturating_sub(core.cpu_at) < REPORTS_WITHIN => last.load.cpu_ratio,
        0 => 0.0,
        passed => part(core.cpu_ns.saturating_sub(last.core.cpu_ns), passed).min(1.0),
    };
    Load {
        cpu_ratio: cpu,
        busy_ratio: part(busy_ns, passed).min(1.0),
        frames_per_second: part(n_frames, passed) * 1e9,
        nanoseconds_per_frame: part(busy_ns, n_frames),
    }
}

/// A quotient for people; 0 if `of` is 0.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn part(n: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { n as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(cpu_at: Nanos, cpu_ns: u64, busy_cycles: u64, rx_frames: u64) -> CoreCounters {
        CoreCounters {
            cpu_at,
            cpu_ns,
            busy_cycles,
            rx_frames,
            ..CoreCounters::default()
        }
    }

    #[test]
    fn load_is_what_was_used_of_the_time() {
        let last = Sample {
            at: SECOND,
            core: core(SECOND, 0, 0, 0),
            load: Load::default(),
        };
        let now = core(2 * SECOND, SECOND / 4, SECOND / 5, 1_000_000);
        let load = load_between(&last, 2 * SECOND, &now, |n| n / 2);
        assert_eq!(
            load,
            Load {
                cpu_ratio: 0.25,
                busy_ratio: 0.1,
                frames_per_second: 1e6,
                nanoseconds_per_frame: 100.0
            }
        );
    }

    #[test]
    fn core_that_says_nothing_for_long_is_asleep() {
        let load = Load {
            cpu_ratio: 1.0,
            ..Load::default()
        };
        let last = Sample {
            at: SECOND,
            core: core(SECOND, 7, 0, 0),
            load,
        };
        assert_eq!(
            load_between(&last, 2 * SECOND, &core(SECOND, 7, 0, 0), |n| n).cpu_ratio,
            1.0,
            "it may be about to say"
        );
        assert_eq!(
            load_between(&last, 4 * SECOND, &core(SECOND, 7, 0, 0), |n| n).cpu_ratio,
            0.0
        );
    }
}
