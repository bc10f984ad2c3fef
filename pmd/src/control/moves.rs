//! How receive queues move from core to core while frames flow: in order, without loss, no frame
//! twice.
//!
//! The old core lets go of the queue between two turns, with what it has peeked and with its frames
//! that wait at limits; control lets its kicks wake the new core; the new core goes on. No core
//! polls it meanwhile, some hundred microseconds: its sender's frames stay where they are, and
//! nobody waits for anybody. Towards devices its frames go on by the same transmit queue
//! ([`RxQueue::tx_index`]), towards a guest a flow has its queue whichever core sends it; both are
//! filled under their locks, so what the old core has put there stays in front, and what it has
//! sent to devices is out before the new core begins (`completed`).
//!
//! A port may go down meanwhile, and a core. All of control's steps are taken with the books in
//! hand, but for the one that may wait in the kernel; a queue that is out for that is known to be,
//! and whoever wants it waits.

use std::fmt;
use std::thread::sleep;

use flowtable::PortId;

use super::books::{Books, CoreBook, CoreState, Moving};
use super::completed::Completion;
use super::cores::Cores;
use super::spread::spread;
use super::up_down::LOOK_AGAIN;
use crate::poll::mailbox::Command;
use crate::poll::parcel::Parcel;
use crate::port::RxQueue;

/// Moves under way at a time, of many that are to be made: control takes one on after another, and
/// no core polls a queue until its turn comes.
pub(super) const MOVES_AT_ONCE: usize = 8;

/// Why a receive queue can't move now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveError {
    /// The port is not up, or has no such receive queue.
    NoQueue,
    /// There is no such core, or it is about to go.
    NoCore,
    /// The queue is on its way already.
    Moving,
}

impl fmt::Display for MoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoQueue => "the port is not up, or has no such receive queue",
            Self::NoCore => "there is no such core, or it is being removed",
            Self::Moving => "the receive queue is being moved already",
        })
    }
}

impl std::error::Error for MoveError {}

impl Cores {
    /// Moves a receive queue of a port that is up to another core, and waits until that has it:
    /// micro- to milliseconds, while they run. `queue` as [`RxQueue::index`] says. It may have gone
    /// down meanwhile.
    ///
    /// # Errors
    /// Nothing is changed.
    pub fn move_queue(&self, port: PortId, queue: u16, to: usize) -> Result<(), MoveError> {
        self.start_move(port, queue, to)?;
        while !self.try_finish_move(port, queue) {
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The first half of [`Cores::move_queue`], for callers that must not wait.
    ///
    /// # Errors
    /// As there.
    pub fn start_move(&self, port: PortId, queue: u16, to: usize) -> Result<(), MoveError> {
        let mut books = self.books();
        self.collect(&mut books);
        self.begin_move(&mut books, port, queue, to)
    }

    /// The second half; takes all moves on that are under way. Whether this queue is on its way no
    /// longer.
    pub fn try_finish_move(&self, port: PortId, queue: u16) -> bool {
        self.try_finish_moves() || {
            let who = RxQueue::who_of(port, queue);
            !self.books().moving.contains_key(&who)
        }
    }

    /// Evens out what the cores poll, by number of queues, and waits for it.
    pub fn spread(&self) {
        let wanted = self.wanted_moves(&mut self.books());
        for some in wanted.chunks(MOVES_AT_ONCE) {
            self.begin_moves(&mut self.books(), some);
            while !self.try_finish_moves() {
                sleep(LOOK_AGAIN);
            }
        }
    }

    /// The first half of [`Cores::spread`]: moves begin so that each core that stays has as many
    /// receive queues as any other, or one more. Queues that are on their way already are left
    /// alone, so this is for when [`Cores::try_finish_moves`] says that none is.
    pub fn start_spread(&self) {
        let mut books = self.books();
        let wanted = self.wanted_moves(&mut books);
        self.begin_moves(&mut books, &wanted);
    }

    /// The queues that should be on other cores, and on which.
    fn wanted_moves(&self, books: &mut Books) -> Vec<(PortId, u16, usize)> {
        self.collect(books);
        let mut queues: Vec<_> = books
            .placed
            .iter()
            .flat_map(|(&port, queues)| queues.iter().map(move |queue| (port, queue)))
            .filter(|(_, queue)| queue.is_there && !books.moving.contains_key(&queue.who))
            .map(|(port, queue)| (port, queue.index, (queue.core, queue.tx_index)))
            .collect();
        queues.sort_unstable();
        let now: Vec<_> = queues.iter().map(|&(_, _, now)| now).collect();
        let targets = spread(&now, &books.polling());
        let moves = queues.into_iter().zip(targets);
        moves
            .filter(|((_, _, (core, _)), to)| core != to)
            .map(|((port, queue, _), to)| (port, queue, to))
            .collect()
    }

    fn begin_moves(&self, books: &mut Books, moves: &[(PortId, u16, usize)]) {
        for &(port, queue, to) in moves {
            // One that has gone, or is on its way, is left alone, as is a core that has.
            let _ = self.begin_move(books, port, queue, to);
        }
    }

    /// Takes all moves on that are under way; whether none is left. Never waits for a core. As long
    /// as this is false, it is to be called again and again: a queue on its way is not polled.
    pub fn try_finish_moves(&self) -> bool {
        loop {
            let mut books = self.books();
            self.collect(&mut books);
            let Some((who, mut rxq, from, to)) = take_one(&mut books) else {
                return books.moving.is_empty();
            };
            drop(books);
            self.end_watch_of(&mut rxq, from);
            self.watch(&mut rxq, to);
            self.give_to_new_core(who, rxq);
        }
    }

    pub(super) fn begin_move(
        &self,
        books: &mut Books,
        port: PortId,
        index: u16,
        to: usize,
    ) -> Result<(), MoveError> {
        let is_polling = |core: &CoreBook| core.state == CoreState::Polls;
        if !books.cores.get(to).is_some_and(is_polling) {
            return Err(MoveError::NoCore);
        }
        let queues = books.placed.get_mut(&port).into_iter().flatten();
        let queue = queues
            .into_iter()
            .find(|queue| queue.index == index && queue.is_there)
            .ok_or(MoveError::NoQueue)?;
        let (who, from) = (queue.who, queue.core);
        if books.moving.contains_key(&who) {
            return Err(MoveError::Moving);
        }
        if from == to {
            return Ok(());
        }
        queue.core = to;
        queue.sample = self.first_sample(&queue.stats, to);
        books.cores[from].n_rxqs -= 1;
        books.cores[to].n_rxqs += 1;
        let parcel = Box::new(Parcel::new(port, who));
        let moving = Moving {
            port,
            from,
            to,
            parcel: None,
            completion: None,
            elsewhere: Vec::new(),
        };
        books.moving.insert(who, moving);
        self.post(books, from, Command::Release(parcel));
        Ok(())
    }

    /// The old core has let go of a queue.
    pub(super) fn take_released(&self, books: &mut Books, mut parcel: Box<Parcel>) {
        // A port that goes down waits for this core to say that it has let go, and this came
        // before. So what waits for it here is dropped in time.
        for &port in books.leaving.keys() {
            parcel.drop_all_of(port, &self.stats);
        }
        let (port, who) = (parcel.port, parcel.who);
        match (books.leaving.get_mut(&port), books.moving.get_mut(&who)) {
            (Some(leaving), Some(moving)) => {
                let from = moving.from;
                let rxq = parcel.rxq.take();
                leaving.rxqs.extend(rxq.map(|rxq| (from, *rxq)));
                books.moving.remove(&who);
            }
            (None, Some(moving)) if parcel.rxq.is_some() => {
                moving.completion = Some(Completion::begin());
                moving.parcel = Some(parcel);
            }
            _ => debug_assert!(false, "a queue that no core had"),
        }
    }

    /// A port goes down: its queues in control's hands go no further, and what waits from or for it
    /// in others' is dropped.
    pub(super) fn stop_moves_of(&self, books: &mut Books, port: PortId) {
        for parcel in books.moving.values_mut().filter_map(|m| m.parcel.as_mut()) {
            parcel.drop_all_of(port, &self.stats);
        }
        let Some(leaving) = books.leaving.get_mut(&port) else {
            return;
        };
        // One that is with its old core comes back before that says it is done, and one that is out
        // comes back by `give_to_new_core`.
        books.moving.retain(|_, moving| {
            let rxq = match &mut moving.parcel {
                Some(parcel) if moving.port == port => parcel.rxq.take(),
                _ => None,
            };
            let is_back = rxq.is_some();
            leaving.rxqs.extend(rxq.map(|rxq| (moving.from, *rxq)));
            !is_back
        });
    }

    /// A queue's kicks wake its new core, which gets it; if its port has not gone down meanwhile.
    fn give_to_new_core(&self, who: u32, mut rxq: Box<RxQueue>) {
        let mut books = self.books();
        let Some(Moving {
            port,
            to,
            parcel: Some(mut parcel),
            elsewhere,
            ..
        }) = books.moving.remove(&who)
        else {
            return debug_assert!(false, "a queue that was not on its way");
        };
        if let Some(leaving) = books.leaving.get_mut(&port) {
            return leaving.rxqs.push((to, *rxq));
        }
        for other in elsewhere {
            parcel.drop_all_of(other, &self.stats);
            if other == port {
                rxq.hold.forget_flood();
            }
        }
        parcel.rxq = Some(rxq);
        self.post(&mut books, to, Command::Take(parcel));
    }
}

/// A queue in control's hands that may go on to its new core, with where it was and where it goes.
fn take_one(books: &mut Books) -> Option<(u32, Box<RxQueue>, usize, usize)> {
    let mut moving = std::mem::take(&mut books.moving);
    let taken = moving.iter_mut().find_map(|(&who, moving)| {
        let parcel = moving.parcel.as_mut()?;
        let (rxq, completion) = (parcel.rxq.as_ref()?, moving.completion.as_mut()?);
        let is_done = completion.is_done(&books.views, rxq);
        let rxq = parcel.rxq.take_if(|_| is_done)?;
        Some((who, rxq, moving.from, moving.to))
    });
    books.moving = moving;
    taken
}
