//! What each receive queue took of its core over the last second: sampled by the supervisor, read
//! for operators.

use std::sync::Mutex;

use flowtable::PortId;
use hashbrown::HashMap;
use pmd::Cores;
use pmd::control::QueueLoad;
use pmd::time::{Clock, Nanos};

use super::loads::part;
use crate::api::queue::Load;
use crate::base::lock::lock;

/// The load of each receive queue, by port and number.
#[derive(Debug, Default)]
pub(crate) struct QueueLoads(Mutex<HashMap<(PortId, u16), Sample>>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Nanos,
    core: usize,
    busy_cycles: u64,
    rx_frames: u64,
    load: Load,
}

impl QueueLoads {
    /// Samples all queues of ports that are up.
    pub(crate) fn sample(&self, cores: &Cores, clock: &Clock) {
        let (queues, at) = (cores.queues(), clock.now());
        let mut samples = lock(&self.0);
        let sampled = queues.iter().map(|queue| {
            let name = (queue.port, queue.queue);
            let last = samples.get(&name);
            let load = last.map_or_else(Load::default, |last| {
                load_between(last, at, queue, |n| clock.span(n))
            });
            let sample = Sample {
                at,
                core: queue.core,
                busy_cycles: queue.busy_cycles,
                rx_frames: queue.rx_frames,
                load,
            };
            (name, sample)
        });
        *samples = sampled.collect();
    }

    /// As of the last sample; nothing, if the queue has come to its core since then.
    pub(crate) fn of(&self, queue: &QueueLoad) -> Load {
        let samples = lock(&self.0);
        let sample = samples.get(&(queue.port, queue.queue));
        let sample = sample.filter(|sample| sample.core == queue.core);
        sample.map_or_else(Load::default, |sample| sample.load)
    }
}

/// A queue counts from zero again when its port has come up again, and has taken nothing of a core
/// that it came to in between.
fn load_between(last: &Sample, at: Nanos, now: &QueueLoad, span: impl Fn(u64) -> Nanos) -> Load {
    let is_another = now.core != last.core
        || now.busy_cycles < last.busy_cycles
        || now.rx_frames < last.rx_frames;
    if is_another {
        return Load::default();
    }
    let busy_ns = span(now.busy_cycles - last.busy_cycles);
    let n_frames = now.rx_frames - last.rx_frames;
    let passed = at.saturating_sub(last.at);
    Load {
        busy_ratio: part(busy_ns, passed).min(1.0),
        frames_per_second: part(n_frames, passed) * 1e9,
        nanoseconds_per_frame: part(busy_ns, n_frames),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn queue(core: usize, busy_cycles: u64, rx_frames: u64) -> QueueLoad {
        QueueLoad {
            port: 3,
            queue: 1,
            core,
            is_moving: false,
            tx_index: 0,
            busy_cycles,
            rx_frames,
            part_of_core: 0.0,
        }
    }

    #[test]
    fn load_is_what_the_queue_took_of_the_core_that_it_was_on() {
        let last = Sample {
            at: SECOND,
            core: 2,
            busy_cycles: 50,
            rx_frames: 7,
            load: Load::default(),
        };
        let load = |now| load_between(&last, 2 * SECOND, &now, |n| n / 2);
        let found = load(queue(2, 50 + SECOND / 2, 7 + 500_000));
        let expected = Load {
            busy_ratio: 0.25,
            frames_per_second: 5e5,
            nanoseconds_per_frame: 500.0,
        };
        assert_eq!(found, expected);
        let none = Load::default();
        assert_eq!(load(queue(1, 50 + SECOND / 2, 8)), none, "another core");
        assert_eq!(load(queue(2, 49, 6)), none, "another life of its port");
    }
}
