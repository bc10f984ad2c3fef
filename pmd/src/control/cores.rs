//! Control's side of all cores: ports come up and go down here, and nothing on a core ever waits
//! for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use flowtable::{FlowCounters, FlowTable, MacTable, PortId};

use super::books::Books;
use super::port::CoresOptions;
use super::slots::{Slot, Slots};
use crate::calls::Callers;
use crate::error::{GuestFault, SetupError};
use crate::lock::lock;
use crate::poll::Core;
use crate::stats::{CoreCounters, CoreStats, Counters, PortStats, sum};
use crate::sys;
use crate::time::SECOND;

/// All cores, as control sees them. Shared by all control threads.
#[derive(Debug)]
pub struct Cores {
    slots: Slots,
    /// Control's own: frames that it drops itself, with the books in hand.
    pub(super) stats: CoreStats,
    pub(super) macs: Arc<MacTable>,
    pub(super) flows: Arc<FlowTable>,
    pub(super) callers: Callers,
    pub(super) books: Mutex<Books>,
    /// Second of the switch's clock, as of the last [`Cores::age`].
    pub(super) now: AtomicU32,
}

impl Cores {
    /// Control's side, and the cores, each to be run by a thread of its own.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn new(options: &CoresOptions) -> Result<(Self, Vec<Core>), SetupError> {
        let macs = Arc::new(MacTable::new(
            options.n_macs,
            options.n_ports,
            options.seeds,
        ));
        let flows = Arc::new(FlowTable::new(
            options.n_flows,
            options.n_ports,
            options.seeds,
        ));
        let books = Mutex::new(Books {
            networks: options.networks.clone(),
            ..Books::default()
        });
        let all = Self {
            slots: Slots::default(),
            stats: CoreStats::new(options.n_ports),
            macs,
            flows,
            callers: Callers::new()?,
            books,
            now: AtomicU32::new(0),
        };
        let cores = (0..options.n_cores)
            .map(|_| all.add_core())
            .collect::<Result<_, _>>()?;
        Ok((all, cores))
    }

    /// What control shares with each core, also with those that are gone.
    pub(super) fn slots(&self) -> Arc<[Slot]> {
        self.slots.all()
    }

    /// A core takes the place of this number.
    pub(super) fn fill_slot(&self, id: usize, slot: Slot) {
        self.slots.fill(id, slot);
    }

    /// Makes the tables lie in large pages, all of them present. Before anything is in them; takes
    /// some ten milliseconds for each hundred MB.
    ///
    /// # Errors
    /// When the kernel has no large pages, or not enough memory; the tables work as far as there is
    /// some.
    pub fn settle(&self) -> std::io::Result<()> {
        let spans = self.flows.spans().into_iter().chain(self.macs.spans());
        spans.map(sys::settle).fold(Ok(()), std::io::Result::and)
    }

    /// Wakes a core if it sleeps; it then goes through its queues at least once. None there with
    /// this number: nothing.
    pub fn wake(&self, core: usize) {
        if let Some(slot) = self.slots().get(core) {
            slot.mailbox.wake();
        }
    }

    /// Wakes every core, to see that it shall stop.
    pub fn wake_all(&self) {
        self.slots().iter().for_each(|slot| slot.mailbox.wake());
    }

    /// The addresses that all cores share.
    pub fn macs(&self) -> &Arc<MacTable> {
        &self.macs
    }

    /// What is remembered of flows, and how often it was looked up.
    pub fn flows(&self) -> FlowCounters {
        let slots = self.slots();
        let tallies = slots.iter().map(|slot| &*slot.tally);
        FlowCounters::new(&self.flows, self.n_reserved(), tallies)
    }

    /// Forgets addresses that were silent for longer than `age_max` seconds, and flows that rest on
    /// what is gone or were silent themselves; sees to it that no flood's budget grows old. Once a
    /// second, `now`: of the switch's clock.
    pub fn age(&self, now: u32, age_max: u32) {
        self.now.store(now, Ordering::Relaxed);
        self.macs.age(now, age_max);
        self.flows.sweep(&self.macs, now);
        let mut books = self.books();
        books
            .copies
            .values()
            .for_each(|copies| copies.refresh(u64::from(now) * SECOND));
        self.sample_loads(&mut books);
    }

    /// A port's counters over all cores.
    pub fn counters(&self, port: PortId) -> Counters {
        let slots = self.slots();
        let of_cores = slots.iter().map(|slot| &*slot.stats);
        sum(of_cores.chain([&self.stats]), port)
    }

    /// How often a core had to wait for a page of the port's memory, and paused the port for it; at
    /// most once a millisecond is counted.
    pub fn page_waits(&self, port: PortId) -> u64 {
        let slots = self.slots();
        let waits = slots.iter().map(|slot| slot.stats.port(port));
        waits.map(PortStats::n_page_waits).sum()
    }

    /// How often an eventfd of a port took long to signal, and whether another thread signals them
    /// instead of the cores for that.
    pub fn long_calls(&self, port: PortId) -> (u64, bool) {
        self.callers.report(port)
    }

    /// Ids of ports that are reserved: all ids are below this.
    pub fn n_reserved(&self) -> usize {
        self.stats.n_ports()
    }

    /// Faults that stopped queues of a port since it came up.
    pub fn stopped(&self, port: PortId) -> Vec<(u16, GuestFault)> {
        let slots = self.slots();
        let ports = slots.iter().map(|slot| slot.stats.port(port));
        ports.filter_map(PortStats::stopped).collect()
    }

    /// What each core has done, by its number; of one that is gone, what it had done, with no
    /// queue.
    pub fn core_counters(&self) -> Vec<CoreCounters> {
        self.slots()
            .iter()
            .map(|slot| slot.stats.report())
            .collect()
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}
