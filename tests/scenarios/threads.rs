//! A switch whose cores run on threads of their own, in real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use flowtable::PortId;
use guest::{GuestDriver, Options};
use pmd::control::CoresOptions;
use pmd::idle::{Idle, IdleSetting};
use pmd::sys::EventFd;
use pmd::time::Clock;
use pmd::{Core, Cores};
use rig::{ANY, ingress, memory_of, networks, port_with};

/// Long enough for the slowest machine; a test that waits for so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A switch on threads, which may come and go. Stopped when dropped.
pub(crate) struct Threads {
    pub(crate) cores: Arc<Cores>,
    pub(crate) clock: Clock,
    stop: Arc<AtomicBool>,
    idle: IdleSetting,
    /// Where its threads run; none: anywhere.
    cpu: Option<CoreId>,
    pollers: Vec<(usize, JoinHandle<()>)>,
}

impl Threads {
    pub(crate) fn new(n_cores: usize, n_ports: PortId, idle: Idle) -> Self {
        Self::start(n_cores, n_ports, idle, None)
    }

    /// On this CPU, if one is given.
    pub(crate) fn start(n_cores: usize, n_ports: PortId, idle: Idle, cpu: Option<CoreId>) -> Self {
        let members: Vec<PortId> = (0..n_ports).collect();
        let options = CoresOptions {
            n_cores,
            n_ports: usize::from(n_ports),
            n_flows: 1 << 10,
            n_macs: 1 << 10,
            networks: networks(&[&members]),
            seeds: [1, 2],
        };
        let (cores, pollers) = Cores::new(&options).expect("eventfds");
        let mut threads = Self {
            cores: Arc::new(cores),
            clock: Clock::calibrate(),
            stop: Arc::new(AtomicBool::new(false)),
            idle: idle.into(),
            cpu,
            pollers: Vec::new(),
        };
        pollers.into_iter().for_each(|core| threads.run(core));
        threads
    }

    fn run(&mut self, core: Core) {
        let (stop, clock, id) = (self.stop.clone(), self.clock.clone(), core.id());
        let (idle, cpu) = (self.idle.clone(), self.cpu);
        let thread = std::thread::spawn(move || {
            assert!(
                cpu.is_none_or(core_affinity::set_for_current),
                "this thread may not run on the CPU that it was meant for"
            );
            core.run(idle, clock, &stop);
        });
        self.pollers.push((id, thread));
    }

    /// What all cores do from now on when they find nothing.
    pub(crate) fn set_idle(&mut self, idle: Idle) {
        self.idle.set(idle);
        self.cores.wake_all();
    }

    /// One more core, with its part of the queues.
    pub(crate) fn add(&mut self) -> usize {
        let core = self.cores.add_core().expect("eventfds");
        let id = core.id();
        self.run(core);
        self.cores.spread();
        id
    }

    /// Removes a core, whose thread ends by itself.
    pub(crate) fn remove(&mut self, id: usize) {
        self.cores.remove_core(id).expect("it may go");
        let place = self.pollers.iter().position(|(other, _)| *other == id);
        let (_, thread) = self.pollers.remove(place.expect("its thread"));
        thread.join().expect("a core that ended");
    }

    /// Plugs a guest in; what it kicks.
    pub(crate) fn plug(&self, port: PortId, options: &Options) -> (GuestDriver, Vec<Arc<EventFd>>) {
        let guest = GuestDriver::new(options.clone()).expect("memory");
        self.plug_in(port, guest, None)
    }

    /// The same of a guest that is there, whose first transmit ring's used part the switch is told
    /// to lie at `used`.
    pub(crate) fn plug_in(
        &self,
        port: PortId,
        mut guest: GuestDriver,
        used: Option<u64>,
    ) -> (GuestDriver, Vec<Arc<EventFd>>) {
        (0..usize::from(guest.options().n_queue_pairs)).for_each(|pair| {
            guest.post_rx(pair);
        });
        let memory = Arc::new(memory_of(&guest));
        let mut kicks = Vec::new();
        let up = port_with(&memory, &guest, ingress(port, 0, ANY), |queue| {
            let kick = Arc::new(EventFd::new().expect("an eventfd"));
            kicks.push(kick.clone());
            queue.kick = Some(kick);
            if queue.index == 1 {
                queue.used = used.unwrap_or(queue.used);
            }
        });
        self.cores.up(up);
        (guest, kicks)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.cores.wake_all();
        for (_, core) in self.pollers.drain(..) {
            let ended = core.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a core panicked");
        }
    }
}

/// Kicks as a driver does: where the device asked for it.
pub(crate) fn kick_if_due(guest: &mut GuestDriver, kicks: &[Arc<EventFd>], vring: usize) {
    if guest.kick_due(vring) {
        kicks[vring].signal();
    }
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
