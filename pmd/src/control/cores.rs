//! Control's side of all cores: ports come up and go down here, and nothing on a core ever waits
//! for it.

use crate::calls::Callers;
use crate::control::spaced;
use crate::error::{GuestFault, SetupError};
use crate::limit::flood_budget::FloodBudget;
use crate::limit::gate::Gate;
use crate::limit::limits::VmLimits;
use crate::poll::Core;
use crate::poll::mailbox::{Command, Mailbox, Reply};
use crate::port::lock::TxLock;
use crate::port::{PortView, RxQueue, TxQueue};
use crate::stats::{CoreReport, CoreStats, Counters, sum};
use crate::sys::{self, Epoll};
use crate::time::{Nanos, SECOND};
use flowtable::memory::reclaim::Quiet;
use flowtable::{FlowReport, FlowTable, Ingress, Lookup, MacTable, Networks, PortId, Tally};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How often control looks whether the cores have answered.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// What a switch is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Polling cores.
    pub n_cores: usize,
    /// Ports, connected or not; their ids are below this.
    pub n_ports: usize,
    /// Decisions that can be remembered, by all cores together.
    pub n_flows: usize,
    /// Addresses that the MAC table can hold.
    pub n_macs: usize,
    /// All networks.
    pub networks: Arc<Networks>,
    /// Random numbers that key the hashes.
    pub seeds: [u64; 2],
}

/// A port as it comes up.
#[derive(Debug)]
pub struct PortUp {
    /// What decisions about its frames need.
    pub ingress: Ingress,
    /// Queues to receive from; each goes to the core that has the fewest.
    pub rxqs: Vec<RxQueue>,
    /// Queues to send to.
    pub txqs: Vec<TxQueue>,
}

/// A port that went down: all of it, back in one hand.
#[derive(Debug, Default)]
pub struct PortDown {
    /// Its receive queues, at the positions they had reached.
    pub rxqs: Vec<RxQueue>,
    /// Its transmit queues.
    pub txqs: Vec<TxQueue>,
}

/// All cores, as control sees them. Shared by all control threads.
#[derive(Debug)]
pub struct Fleet {
    mailboxes: Vec<Arc<Mailbox>>,
    stats: Vec<Arc<CoreStats>>,
    macs: Arc<MacTable>,
    flows: Arc<FlowTable>,
    tallies: Vec<Arc<Tally>>,
    /// What each core sleeps in.
    epolls: Vec<Arc<Epoll>>,
    callers: Callers,
    books: Mutex<Books>,
    /// Second of the switch's clock, as of the last [`Fleet::age`].
    now: AtomicU32,
}

/// What control remembers of ports that are up or going down.
#[derive(Debug, Default)]
struct Books {
    /// Receive queues on each core.
    n_rxqs: Vec<usize>,
    /// Where each port's receive queues went.
    placed: HashMap<PortId, Vec<usize>>,
    leaving: HashMap<PortId, Leaving>,
    /// Those of the VM that a port belongs to.
    limits: HashMap<PortId, Arc<VmLimits>>,
    /// What a port's floods may copy, however often it comes up.
    copies: HashMap<PortId, Arc<FloodBudget>>,
    networks: Arc<Networks>,
}

#[derive(Debug, Default)]
struct Leaving {
    n_answered: usize,
    views: Vec<Arc<PortView>>,
    /// Each with the core that it was on.
    rxqs: Vec<(usize, RxQueue)>,
}

impl Books {
    /// What the floods of a port may copy. It is made once: a guest that sets up its queues anew
    /// must not get it anew.
    fn flood_budget(&mut self, ingress: &Ingress, now: Nanos) -> Arc<FloodBudget> {
        let Self {
            copies, networks, ..
        } = self;
        copies
            .entry(ingress.port)
            .or_insert_with(|| Arc::new(FloodBudget::new(ingress, networks, now)))
            .clone()
    }
}

impl Fleet {
    /// Control's side, and the cores, each to be run by a thread of its own.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn new(options: &FleetOptions) -> Result<(Self, Vec<Core>), SetupError> {
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
        let quiet = Arc::new(Quiet::new(n_cores));
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
                Core::new(
                    id,
                    lookup,
                    stats[id].clone(),
                    mailboxes[id].clone(),
                    quiet.clone(),
                )
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

    /// These ports are one VM's, whose limits these are. For ports that are down; they keep them as
    /// they come and go.
    pub fn limit(&self, ports: &[PortId], limits: &Arc<VmLimits>) {
        self.books()
            .limits
            .extend(ports.iter().map(|&port| (port, limits.clone())));
    }

    /// Brings a port up; with a queue to send to, its address is its own again: see
    /// [`MacTable::rest`]. It must be down: never up before, or handed back by [`Fleet::down`].
    pub fn up(&self, mut port: PortUp) {
        let id = port.ingress.port;
        if !port.txqs.is_empty() {
            self.macs
                .start(&port.ingress, self.now.load(Ordering::Relaxed));
        }
        self.begin_calls(&mut port);
        let placed = self.place(&port);
        self.watch(&mut port, &placed);
        let mut books = self.books();
        for stats in &self.stats {
            stats.port(id).clear_stopped();
        }
        let limits = books.limits.get(&id).cloned();
        let copies = books.flood_budget(
            &port.ingress,
            u64::from(self.now.load(Ordering::Relaxed)) * SECOND,
        );
        let view = Arc::new(PortView::new(
            port.ingress,
            port.txqs,
            limits.clone(),
            copies,
        ));
        for mailbox in &self.mailboxes {
            self.post(&mut books, mailbox, Command::Up(view.clone()));
        }
        for (mut rxq, core) in port.rxqs.into_iter().zip(placed) {
            rxq.gate = Gate::new(limits.clone());
            self.post(
                &mut books,
                &self.mailboxes[core],
                Command::Poll(Box::new(rxq)),
            );
        }
    }

    /// Calls the guest, in case a call was lost before, and remembers what its eventfds are.
    fn begin_calls(&self, port: &mut PortUp) {
        let PortUp {
            ingress,
            rxqs,
            txqs,
        } = port;
        let of_rxqs = rxqs.iter_mut().filter_map(RxQueue::guest_ring);
        let mut rings: Vec<_> = of_rxqs
            .chain(txqs.iter_mut().filter_map(TxQueue::guest_ring))
            .collect();
        let files: Vec<_> = rings.iter().flat_map(|ring| ring.signalled()).collect();
        if !files.is_empty() || rings.iter().any(|ring| ring.spec().kick.is_some()) {
            let calls = self.callers.up(ingress.port, files);
            rings.iter_mut().for_each(|ring| ring.begin_calls(&calls));
        }
    }

    /// Chooses a core for each receive queue.
    fn place(&self, port: &PortUp) -> Vec<usize> {
        let mut books = self.books();
        let mut core = || {
            let core = least(&books.n_rxqs);
            books.n_rxqs[core] += 1;
            core
        };
        let placed: Vec<_> = port.rxqs.iter().map(|_| core()).collect();
        books.placed.insert(port.ingress.port, placed.clone());
        placed
    }

    /// Lets each receive queue's kicks wake its core. Here and not on the core, and without the
    /// books in hand: it takes a lock in the kernel that a front-end can keep busy. One whose
    /// eventfds are known for that is looked at once a millisecond instead.
    fn watch(&self, port: &mut PortUp, placed: &[usize]) {
        let calls = self.callers.of(port.ingress.port);
        for (rxq, &core) in port.rxqs.iter_mut().zip(placed) {
            let add = |wake| match &calls {
                Some(calls) => {
                    !calls.is_indirect() && calls.measured(|| self.epolls[core].add(wake))
                }
                None => self.epolls[core].add(wake),
            };
            rxq.can_wake = rxq.wake_fd().is_some_and(add);
        }
    }

    /// The guest may keep its end of a kick open for ever, and with it what was entered. While one
    /// is removed its core can't wake, which takes as long as a front-end's own signals take it.
    fn end_watch(&self, port: PortId, rxqs: &mut [(usize, RxQueue)]) {
        let calls = self.callers.of(port);
        spaced::each(rxqs, |(core, rxq)| {
            let epoll = &self.epolls[*core];
            if let Some(wake) = rxq.wake_fd().filter(|_| rxq.can_wake) {
                match &calls {
                    Some(calls) => calls.measured(|| epoll.remove(wake)),
                    None => epoll.remove(wake),
                }
            }
            rxq.can_wake = false;
        });
    }

    /// Takes a port down and waits until no core uses anything of it: micro- to milliseconds, while
    /// they run.
    pub fn down(&self, port: PortId) -> PortDown {
        self.start_down(port);
        loop {
            if let Some(down) = self.try_finish_down(port) {
                return down;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The first half of [`Fleet::down`], for who must not wait.
    pub fn start_down(&self, port: PortId) {
        let mut books = self.books();
        books.leaving.insert(port, Leaving::default());
        for core in books.placed.remove(&port).unwrap_or_default() {
            books.n_rxqs[core] -= 1;
        }
        for mailbox in &self.mailboxes {
            self.post(&mut books, mailbox, Command::Down(port));
        }
    }

    /// The second half: the port, once every core has let go of it.
    pub fn try_finish_down(&self, port: PortId) -> Option<PortDown> {
        let mut books = self.books();
        self.collect(&mut books);
        if books.leaving.get(&port)?.n_answered < self.mailboxes.len() {
            return None;
        }
        let Leaving {
            mut views,
            mut rxqs,
            ..
        } = books.leaving.remove(&port)?;
        drop(books);
        self.end_watch(port, &mut rxqs);
        self.callers.down(port);
        let rxqs = rxqs.into_iter().map(|(_, rxq)| rxq).collect();
        // All cores had the same view, so the last of them is the last holder.
        let view = views.pop();
        drop(views);
        let txqs = view.and_then(Arc::into_inner).map_or(Vec::new(), |view| {
            view.txqs.into_iter().map(TxLock::into_inner).collect()
        });
        Some(PortDown { rxqs, txqs })
    }

    /// Gives every core other networks.
    pub fn set_networks(&self, networks: &Arc<Networks>) {
        let mut books = self.books();
        books.networks = networks.clone();
        for mailbox in &self.mailboxes {
            self.post(&mut books, mailbox, Command::Networks(networks.clone()));
        }
        self.collect(&mut books);
    }

    /// Wakes every core, to see that it shall stop.
    pub fn wake_all(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.wake());
    }

    /// The addresses that all cores share.
    pub fn macs(&self) -> &Arc<MacTable> {
        &self.macs
    }

    /// What is remembered of flows, and how often it was asked for.
    pub fn flows(&self) -> FlowReport {
        let n_ports = self.stats.first().map_or(0, |stats| stats.n_ports());
        FlowReport::new(
            &self.flows,
            n_ports,
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

    /// Ports, connected or not.
    pub fn n_ports(&self) -> usize {
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
    pub fn cores(&self) -> Vec<CoreReport> {
        self.stats.iter().map(|stats| stats.report()).collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        crate::lock::lock(&self.books)
    }

    /// Hands a command over. Waits for room if the core is slow to take those before, and takes its
    /// answers meanwhile: it takes no command that it has no room to answer.
    fn post(&self, books: &mut Books, mailbox: &Mailbox, mut command: Command) {
        while let Err(back) = mailbox.post(command) {
            command = back;
            self.collect(books);
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Sorts what the cores sent back by the port it belongs to.
    fn collect(&self, books: &mut Books) {
        for (core, mailbox) in self.mailboxes.iter().enumerate() {
            while let Some(reply) = mailbox.reply() {
                match reply {
                    Reply::View(view) => {
                        if let Some(leaving) = books.leaving.get_mut(&view.ingress.port) {
                            leaving.views.push(view);
                        }
                    }
                    Reply::Queue(rxq) => {
                        if let Some(leaving) = books.leaving.get_mut(&rxq.port) {
                            leaving.rxqs.push((core, *rxq));
                        }
                    }
                    Reply::Down(port) => {
                        if let Some(leaving) = books.leaving.get_mut(&port) {
                            leaving.n_answered += 1;
                        }
                    }
                    // Freed here, on a control thread.
                    Reply::Networks(networks) => drop(networks),
                }
            }
        }
    }
}

fn least(loads: &[usize]) -> usize {
    (0..loads.len())
        .min_by_key(|&core| loads[core])
        .unwrap_or(0)
}
