//! How cores come and go while the others run on.

use std::fmt;
use std::sync::Arc;
use std::thread::sleep;

use flowtable::{Lookup, PortId};

use super::books::{Books, CoreBook, CoreState};
use super::cores::Cores;
use super::moves::MOVES_AT_ONCE;
use super::slots::Slot;
use super::up_down::LOOK_AGAIN;
use crate::error::SetupError;
use crate::poll::Core;
use crate::poll::mailbox::{Command, Mailbox};
use crate::stats::CoreStats;
use crate::time::Clock;

/// Why a core can't be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveError {
    /// There is no such core, or it is being removed already.
    NoCore,
    /// It is the last: the switch would stand still.
    Last,
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCore => "there is no such core, or it is being removed already",
            Self::Last => "it is the last core; add another one before it is removed",
        })
    }
}

impl std::error::Error for RemoveError {}

impl Cores {
    /// One more core, for a thread that runs it ([`Core::run`]) from now on: it knows all ports and
    /// networks, and what is told to all cores is told to it too. It takes the place, and with it
    /// the number and the counters, of one that is gone, if there is any. It gets queues as ports
    /// come up, and of those that are up by [`Cores::spread`] or [`Cores::move_queue`]. If its
    /// thread can't be started: [`Cores::dismiss`].
    ///
    /// # Errors
    /// When the process has no more file descriptors, or may watch no more files.
    pub fn add_core(&self) -> Result<Core, SetupError> {
        let mailbox = Arc::new(Mailbox::new()?);
        let mut books = self.books();
        self.collect(&mut books);
        let slots = self.slots();
        let gone = books.cores_that(|state| state == CoreState::Gone);
        let id = gone.first().copied().unwrap_or(books.cores.len());
        let before = slots.get(id);
        let stats = before.map_or_else(
            || Arc::new(CoreStats::new(self.n_reserved())),
            |slot| slot.stats.clone(),
        );
        let mut lookup = Lookup::new(
            self.flows.clone(),
            self.macs.clone(),
            books.networks.clone(),
        );
        if let Some(slot) = before {
            lookup = lookup.counting_in(slot.tally.clone());
        }
        let tally = lookup.tally().clone();
        let mut core = Core::new(id, lookup, stats.clone(), mailbox.clone())?;
        for (&port, view) in &books.views {
            core.views[usize::from(port)] = Some(view.clone());
        }
        let slot = Slot {
            mailbox,
            stats,
            tally,
            epoll: core.epoll.clone(),
        };
        self.fill_slot(id, slot);
        let book = CoreBook {
            state: CoreState::Polls,
            n_rxqs: 0,
        };
        match books.cores.get_mut(id) {
            Some(place) => *place = book,
            None => books.cores.push(book),
        }
        Ok(core)
    }

    /// Numbers of the cores that there are and that stay.
    pub fn core_ids(&self) -> Vec<usize> {
        self.books().polling()
    }

    /// Removes a core and waits until it has ended: its queues move to the others, what it has
    /// given to the kernel goes out, its thread returns from [`Core::run`]. Its counters stay in
    /// all sums.
    ///
    /// # Errors
    /// Nothing is changed.
    pub fn remove_core(&self, id: usize) -> Result<(), RemoveError> {
        self.start_remove_core(id)?;
        while !self.try_finish_remove_core(id) {
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The first half of [`Cores::remove_core`], for callers that must not wait. From now on the
    /// core gets no queue any more.
    ///
    /// # Errors
    /// As there.
    pub fn start_remove_core(&self, id: usize) -> Result<(), RemoveError> {
        self.start_remove_cores(&[id])
    }

    /// Removes cores as [`Cores::remove_core`] does, all at once: no queue moves from one of them
    /// to another.
    ///
    /// # Errors
    /// As there; none is removed.
    pub fn remove_cores(&self, ids: &[usize]) -> Result<(), RemoveError> {
        self.start_remove_cores(ids)?;
        // Each is taken on in turn: none waits for another.
        let is_there = |id: &&usize| !self.try_finish_remove_core(**id);
        while ids.iter().filter(is_there).count() > 0 {
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The first half of [`Cores::remove_cores`]; [`Cores::try_finish_remove_core`] of each is the
    /// second.
    ///
    /// # Errors
    /// As there.
    pub fn start_remove_cores(&self, ids: &[usize]) -> Result<(), RemoveError> {
        let mut books = self.books();
        self.collect(&mut books);
        let polling = books.polling();
        if !ids.iter().all(|id| polling.contains(id)) {
            return Err(RemoveError::NoCore);
        }
        if polling.iter().all(|id| ids.contains(id)) {
            return Err(RemoveError::Last);
        }
        for &id in ids {
            books.cores[id].state = CoreState::Leaves;
        }
        for &id in ids {
            self.empty(&mut books, id);
        }
        Ok(())
    }

    /// The second half: whether the core has ended. Takes all moves on that are under way; to be
    /// called again and again until it is true.
    pub fn try_finish_remove_core(&self, id: usize) -> bool {
        self.try_finish_moves();
        let mut books = self.books();
        self.collect(&mut books);
        match books.cores.get(id).map(|core| core.state) {
            None | Some(CoreState::Gone) => true,
            Some(CoreState::Leaves) => {
                self.empty(&mut books, id);
                false
            }
            Some(CoreState::Polls | CoreState::Ends) => false,
        }
    }

    /// Removes a core that no thread runs, since none could be started: turns it on this one until
    /// all that it was given meanwhile is gone. As [`Cores::remove_core`] otherwise.
    ///
    /// # Errors
    /// As there; the core is given back, which must be run.
    pub fn dismiss(&self, mut core: Core, clock: &Clock) -> Result<(), (RemoveError, Box<Core>)> {
        let id = core.id;
        if let Err(why) = self.start_remove_core(id) {
            return Err((why, Box::new(core)));
        }
        while !self.try_finish_remove_core(id) {
            core.poll_once(clock.now());
        }
        Ok(())
    }

    /// Moves queues of a core that leaves to others, as far as they can be moved now, a few at a
    /// time; where none is left, tells it to end.
    fn empty(&self, books: &mut Books, id: usize) {
        let there: Vec<(PortId, u16, u16)> = books
            .placed
            .iter()
            .flat_map(|(&port, queues)| queues.iter().map(move |queue| (port, queue)))
            .filter(|(_, queue)| queue.core == id)
            .map(|(port, queue)| (port, queue.index, queue.tx_index))
            .collect();
        let n_now = MOVES_AT_ONCE.saturating_sub(books.moving.len());
        for &(port, queue, tx_index) in there.iter().take(n_now) {
            let to = books.fewest(tx_index);
            // One that is on its way, or has not come yet, goes the next time.
            let _ = self.begin_move(books, port, queue, to);
        }
        let is_way = |moving: &super::books::Moving| moving.from == id || moving.to == id;
        if there.is_empty() && !books.moving.values().any(is_way) {
            self.post(books, id, Command::End);
            books.cores[id].state = CoreState::Ends;
        }
    }
}
