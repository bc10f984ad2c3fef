//! What each receive queue takes of the core that polls it.

use flowtable::PortId;

use super::books::{Books, LoadSample};
use super::cores::Cores;
use crate::stats::QueueStats;

/// What one receive queue takes of the core that polls it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueLoad {
    /// The port that it is of.
    pub port: PortId,
    /// Its number, as [`crate::port::RxQueue::index`] says.
    pub queue: u16,
    /// The core that polls it, or that it is on its way to.
    pub core: usize,
    /// It is on its way to that core.
    pub is_moving: bool,
    /// Its frames leave a device by the transmit queue of this number, modulo how many the device
    /// has.
    pub tx_index: u16,
    /// Cycles of the time-stamp counter that went into its frames since its port came up, on
    /// whatever cores.
    pub busy_cycles: u64,
    /// Those frames.
    pub rx_frames: u64,
    /// Its part of the busy cycles of its core, from 0 to 1, between the last two calls of
    /// [`Cores::age`], about a second; 0 until it has been on this core for so long.
    pub part_of_core: f64,
}

impl Cores {
    /// Every receive queue of ports that are up, by port and number.
    pub fn queues(&self) -> Vec<QueueLoad> {
        let books = self.books();
        let report = |(&port, queue): (&PortId, &super::books::Placed)| QueueLoad {
            port,
            queue: queue.index,
            core: queue.core,
            is_moving: books.moving.contains_key(&queue.who),
            tx_index: queue.tx_index,
            busy_cycles: queue.stats.busy_cycles(),
            rx_frames: queue.stats.frames(),
            part_of_core: queue.sample.part,
        };
        let all = books.placed.iter();
        let mut all: Vec<_> = all
            .flat_map(|(port, queues)| queues.iter().map(move |queue| (port, queue)))
            .map(report)
            .collect();
        all.sort_unstable_by_key(|load| (load.port, load.queue));
        all
    }

    /// A queue comes to a core.
    pub(super) fn first_sample(&self, queue: &QueueStats, core: usize) -> LoadSample {
        LoadSample {
            of_queue: queue.busy_cycles(),
            of_core: self.slots()[core].stats.busy_cycles(),
            part: 0.0,
        }
    }

    /// Takes each queue's part since this was done before.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(super) fn sample_loads(&self, books: &mut Books) {
        let slots = self.slots();
        for queue in books.placed.values_mut().flatten() {
            let last = queue.sample;
            // In this order: what a core does in between counts for the core alone, and no part is
            // more than the whole.
            let of_queue = queue.stats.busy_cycles();
            let of_core = slots[queue.core].stats.busy_cycles();
            let passed = of_core.wrapping_sub(last.of_core);
            let part = of_queue.wrapping_sub(last.of_queue) as f64 / passed.max(1) as f64;
            queue.sample = LoadSample {
                of_queue,
                of_core,
                part: part.min(1.0),
            };
        }
    }
}
