//! Control's side of all cores: ports come up and go down here, and nothing on a core ever waits
//! for it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use flowtable::{FlowCounters, FlowTable, Lookup, MacTable, PortId, Tally};

use super::books::Books;
use super::port::CoresOptions;
use crate::calls::Callers;
use crate::error::{GuestFault, SetupError};
use crate::lock::lock;
use crate::poll::Core;
use crate::poll::mailbox::Mailbox;
use crate::stats::{CoreCounters, CoreStats, Counters, sum};
use crate::sys::{self, Epoll};
use crate::time::SECOND;

/// All cores, as control sees them. Shared by all control threads.
#[derive(Debug)]
pub struct Cores {
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) stats: Vec<Arc<CoreStats>>,
    pub(super) macs: Arc<MacTable>,
    pub(super) flows: Arc<FlowTable>,
    pub(super) tallies: Vec<Arc<Tally>>,
    /// What each core sleeps in.
    pub(super) epolls: Vec<Arc<Epoll>>,
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
        let n_cores = options.n_cores;
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
        let mailboxes = (0..n_cores)
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let stats: Vec<_> = (0..n_cores)
            .map(|_| Arc::new(CoreStats::new(options.n_ports)))
            .collect();
        let mut tallies = Vec::new();
        let cores: Vec<_> = (0..n_cores)
            .map(|id| {
                let lookup = Lookup::new(flows.clone(), macs.clone(), options.networks.clone());
                tallies.push(lookup.tally().clone());
                Core::new(id, lookup, stats[id].clone(), mailboxes[id].clone())
            })
            .collect::<Result<_, SetupError>>()?;
        let epolls = cores.iter().map(|core| core.epoll.clone()).collect();
        let callers = Callers::new()?;
        let books = Mutex::new(Books {
            n_rxqs: vec![0; n_cores],
            networks: options.networks.clone(),
            ..Books::default()
        });
        let now = AtomicU32::new(0);
        Ok((
            Self {
                mailboxes,
                stats,
                macs,
                flows,
                tallies,
                epolls,
                callers,
                books,
                now,
            },
            cores,
        ))
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
        if let Some(mailbox) = self.mailboxes.get(core) {
            mailbox.wake();
        }
    }

    /// Wakes every core, to see that it shall stop.
    pub fn wake_all(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.wake());
    }

    /// The addresses that all cores share.
    pub fn macs(&self) -> &Arc<MacTable> {
        &self.macs
    }

    /// What is remembered of flows, and how often it was looked up.
    pub fn flows(&self) -> FlowCounters {
        FlowCounters::new(
            &self.flows,
            self.n_reserved(),
            self.tallies.iter().map(|tally| &**tally),
        )
    }

    /// Forgets addresses that were silent for longer than `age_max` seconds, and flows that rest on
    /// what is gone or were silent themselves; sees to it that no flood's budget grows old. Once a
    /// second, `now`: of the switch's clock.
    pub fn age(&self, now: u32, age_max: u32) {
        self.now.store(now, Ordering::Relaxed);
        self.macs.age(now, age_max);
        self.flows.sweep(&self.macs, now);
        self.books()
            .copies
            .values()
            .for_each(|copies| copies.refresh(u64::from(now) * SECOND));
    }

    /// A port's counters over all cores.
    pub fn counters(&self, port: PortId) -> Counters {
        sum(self.stats.iter().map(|stats| &**stats), port)
    }

    /// How often a core had to wait for a page of the port's memory, and paused the port for it; at
    /// most once a millisecond is counted.
    pub fn page_waits(&self, port: PortId) -> u64 {
        self.stats
            .iter()
            .map(|stats| stats.port(port).n_page_waits())
            .sum()
    }

    /// How often an eventfd of a port took long to signal, and whether another thread signals them
    /// instead of the cores for that.
    pub fn long_calls(&self, port: PortId) -> (u64, bool) {
        self.callers.report(port)
    }

    /// Ids of ports that are reserved: all ids are below this.
    pub fn n_reserved(&self) -> usize {
        self.stats.first().map_or(0, |stats| stats.n_ports())
    }

    /// Faults that stopped queues of a port since it came up.
    pub fn stopped(&self, port: PortId) -> Vec<(u16, GuestFault)> {
        self.stats
            .iter()
            .filter_map(|stats| stats.port(port).stopped())
            .collect()
    }

    /// What each core has done.
    pub fn core_counters(&self) -> Vec<CoreCounters> {
        self.stats.iter().map(|stats| stats.report()).collect()
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}
