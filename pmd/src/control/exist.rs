//! Which ports and networks there are, of the ids that are reserved: they come and go here.
//!
//! An id that is used again must not lead to anything of its former owner. So a port goes in this
//! order, and its id may be added again when the last step has returned:
//!
//! 1. [`Cores::down`], by whoever has its queues: nothing comes from it or goes there, and what was
//!    held of it or for it is dropped and counted;
//! 2. [`Cores::set_networks`] with networks of which it is no member;
//! 3. [`Cores::remove_port`]: its addresses, flows, accounts and counters.
//!
//! A network goes after all of its ports have gone, or are in another one ([`Cores::set_ingress`]):
//! [`Cores::set_networks`] without it, its place left empty, then [`Cores::remove_network`].
//!
//! Cores confirm what they were told by passing a [`Mark`], behind which they do nothing by what
//! was so before.

use flowtable::mac::entry::{Kind, Learned};
use flowtable::{Ingress, NetworkId, PortId, SourcePolicy};

use super::books::{Books, CoreState};
use super::cores::Cores;
use super::up_down::LOOK_AGAIN;
use crate::error::SetupError;
use crate::poll::mailbox::Command;

/// Attempts to enter an address, of which each fails only while a core enters another one at the
/// same place.
const TRIES: usize = 1000;

/// A moment in the work of all cores: see [`Cores::is_past`].
#[derive(Debug)]
#[must_use = "what was begun is done when the cores are past it"]
pub struct Mark(u64);

/// A port that is being removed.
#[derive(Debug)]
#[must_use = "its id is free when the removal is finished"]
pub struct Removal {
    port: PortId,
    mark: Mark,
}

impl Cores {
    /// A port exists from now on, before it first comes up: it counts among those that share
    /// something out, and an address from the topology is its own. From now on it comes up with
    /// this `ingress`, whatever [`super::PortUp`] says, but for the generation, which is chosen
    /// here.
    ///
    /// # Errors
    /// The id is none of those that were reserved, or a port has it; or there is no room for its
    /// address.
    pub fn add_port(&self, ingress: &Ingress) -> Result<(), SetupError> {
        let (port, n_reserved) = (ingress.port, self.n_reserved());
        if usize::from(port) >= n_reserved {
            return Err(SetupError::new(format!(
                "there is no room for another port: {n_reserved} were reserved at the start \
                (`ports:` in the topology)"
            )));
        }
        {
            let mut books = self.books();
            if books.present.contains_key(&port) {
                return Err(SetupError::new(format!("port {port} exists already")));
            }
            let generation = books.next_generation();
            books.present.insert(
                port,
                Some(Ingress {
                    generation,
                    ..*ingress
                }),
            );
        }
        self.macs.rest(port);
        self.own_address(ingress).inspect_err(|_| {
            self.books().present.remove(&port);
        })
    }

    /// Ports that exist, up or not. What ports share is divided by this number: whoever came when
    /// there were fewer keeps what it has.
    pub fn n_ports(&self) -> usize {
        self.books().present.len()
    }

    /// Removes a port that is down, and waits until nothing of it is left: no address, flow,
    /// counter or account. Its limits are no longer those of the id. Takes micro- to milliseconds,
    /// while the cores run.
    pub fn remove_port(&self, port: PortId) {
        let removal = self.start_remove_port(port);
        while !self.try_finish_remove(&removal) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The first half of [`Cores::remove_port`], for callers that must not wait.
    pub fn start_remove_port(&self, port: PortId) -> Removal {
        {
            let mut books = self.books();
            debug_assert!(!books.views.contains_key(&port), "port {port} is up");
            books.present.remove(&port);
            books.limits.remove(&port);
            books.copies.remove(&port);
            if let Some(networks) = books.networks.without(port) {
                self.change_networks(&mut books, networks);
            }
        }
        self.callers.remove(port);
        // First, so that no core decides any more that a frame goes there.
        self.macs.remove_port(port);
        self.flows.forget_port(port);
        let mut books = self.books();
        // What control has counted itself, and cores that hear nothing any more.
        self.stats.forget(port);
        let slots = self.slots();
        for core in books.cores_that(|state| matches!(state, CoreState::Ends | CoreState::Gone)) {
            slots[core].stats.forget(port);
        }
        self.post_all(&mut books, || Command::Forget(port));
        let mark = self.mark(&mut books);
        Removal { port, mark }
    }

    /// The second half: whether all of it is done.
    pub fn try_finish_remove(&self, removal: &Removal) -> bool {
        let is_past = self.is_past(&removal.mark);
        if is_past {
            // What cores noted of it that were in the midst of a turn.
            self.macs.remove_port(removal.port);
        }
        is_past
    }

    /// Removes all addresses of a network that no port is in any more, nor any core knows: after
    /// [`Cores::set_networks`] without it.
    pub fn remove_network(&self, network: NetworkId) {
        self.catch_up();
        self.macs.remove_network(network);
    }

    /// Waits until all cores have done what they were told so far: micro- to milliseconds, while
    /// they run.
    pub fn catch_up(&self) {
        let mark = self.now();
        while !self.is_past(&mark) {
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// A moment behind all that the cores were told so far.
    pub fn now(&self) -> Mark {
        self.mark(&mut self.books())
    }

    /// Whether all cores are past that moment: they have done what they were told before, and none
    /// is in the midst of a turn that began earlier.
    pub fn is_past(&self, mark: &Mark) -> bool {
        let mut books = self.books();
        self.collect(&mut books);
        let is_past = books.marks.get(&mark.0).is_none_or(Vec::is_empty);
        if is_past {
            books.marks.remove(&mark.0);
        }
        is_past
    }

    pub(super) fn mark(&self, books: &mut Books) -> Mark {
        books.n_marks += 1;
        let mark = books.n_marks;
        // One that ends is past all that comes when it has.
        let cores = books.cores_that(|state| state != CoreState::Gone);
        books.marks.insert(mark, cores);
        self.post_all(books, || Command::Mark(mark));
        Mark(mark)
    }

    /// Hands a command to every core that hears any.
    pub(super) fn post_all(&self, books: &mut Books, command: impl Fn() -> Command) {
        for core in books.hearing() {
            self.post(books, core, command());
        }
    }

    /// Enters the port's address from the topology, if it has one. Where it is behind another port
    /// it stays until this one starts, which takes it.
    pub(super) fn own_address(&self, ingress: &Ingress) -> Result<(), SetupError> {
        let SourcePolicy::Fixed(mac) = ingress.source else {
            return Ok(());
        };
        let (port, network) = (ingress.port, ingress.network);
        let is_known = || self.macs.find(network, mac).is_some();
        let learn = || self.macs.learn(network, mac, port, Kind::Static, 1, 0);
        let is_done = (0..TRIES).any(|_| is_known() || matches!(learn(), Learned::Yes(_)));
        is_done.then_some(()).ok_or_else(|| {
            SetupError::new("there is no room in the MAC table for the address of another port")
        })
    }
}
