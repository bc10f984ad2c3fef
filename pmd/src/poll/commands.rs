//! What control wants of a core, between turns.

use flowtable::PortId;

use super::core::{Core, Leaving};
use super::mailbox::{Command, Reply};
use super::parcel::Parcel;
use crate::blocked::room::RoomWait;
use crate::port::views::limits_of;
use crate::send::give_back;
use crate::time::Nanos;

/// Receive queues that one port has at most: a device's.
const RXQS_MAX: usize = 64;
/// Commands that are applied between two turns at most.
const COMMANDS_A_TURN: usize = 8;
/// Queues of held frames that are dropped between two turns at most, of ports that go down.
const QUEUES_A_TURN: usize = 256;
/// A port that is changed (other memory, other call fds) goes down and comes up again within this;
/// frames to it wait as for a receiver without room. After that it is gone, and they are dropped.
const CHANGE_MAX: Nanos = 10_000_000;

impl Core {
    /// Gives whether there is something to do now that was not before this turn.
    #[cold]
    pub(super) fn take_commands(&mut self, now: Nanos) -> bool {
        let (mut n_queues, mut has_come) = (QUEUES_A_TURN, false);
        self.let_go(&mut n_queues);
        for _ in 0..COMMANDS_A_TURN {
            // What comes behind a port that is going down may be its next life.
            if self.leaving.is_some() {
                break;
            }
            // A port that goes down answers with a view, its queues and a word.
            match self.mailbox.command(RXQS_MAX + 2) {
                Some(command) => has_come |= self.apply(command, now),
                None => break,
            }
            self.let_go(&mut n_queues);
        }
        self.stats.has_rxqs(self.rxqs.len());
        self.leaving.is_some() | has_come
    }

    /// Drops what waits from or for a port that is going down, as much as a turn may; says so when
    /// it is done.
    fn let_go(&mut self, n_queues: &mut usize) {
        if let Some(Leaving { port, is_down }) = self.leaving
            && self.queues.drop_all_of(port, n_queues, &self.stats)
        {
            self.leaving = None;
            if is_down {
                self.mailbox.answer(Reply::Down(port));
            }
        }
    }

    /// Gives whether a queue has come with frames that may wait for something that wakes no core.
    fn apply(&mut self, command: Command, now: Nanos) -> bool {
        match command {
            Command::Up(view) => {
                let place = usize::from(view.ingress.port);
                if let Some(before) = self.views[place].replace(view) {
                    self.mailbox.answer(Reply::View(before));
                }
            }
            Command::Poll(rxq) => self.rxqs.push(rxq),
            Command::Release(parcel) => self.release_queue(parcel, now),
            Command::Take(parcel) => {
                self.take_queue(parcel, now);
                return true;
            }
            Command::End => self.begin_end(now),
            Command::Down(port) => self.down(port, now),
            Command::Replace(view) => self.replace(view, now),
            Command::Forget(port) => self.forget(port),
            Command::Mark(mark) => self.mailbox.answer(Reply::Mark(mark)),
            Command::Networks(networks) => {
                let before = self.lookup.set_networks(networks);
                self.queues.rules_changed();
                self.mailbox.answer(Reply::Networks(before));
            }
        }
        false
    }

    /// A queue goes to another core. What it has reserved it gives back, and what it knew by this
    /// core's turns is forgotten; all else goes with it.
    fn release_queue(&mut self, mut parcel: Box<Parcel>, now: Nanos) {
        if let Some(at) = self.rxqs.iter().position(|rxq| rxq.who == parcel.who) {
            let mut rxq = self.rxqs.swap_remove(at);
            rxq.turn.leave();
            give_back(&mut rxq, &self.views, now);
            rxq.hold.forget_port(&(0..usize::MAX));
            rxq.room = RoomWait::default();
            rxq.ahead.forget();
            self.queues
                .take_of(parcel.port, parcel.who, &mut parcel.held);
            parcel.rxq = Some(rxq);
        }
        self.mailbox.answer(Reply::Released(parcel));
    }

    /// A queue comes from another core. Its frames that wait at limits go first, as before. Limits
    /// may have changed meanwhile, so all of it is looked at at once.
    fn take_queue(&mut self, mut parcel: Box<Parcel>, now: Nanos) {
        if let Some(mut rxq) = parcel.rxq.take() {
            rxq.gate.renew(limits_of(&self.views, rxq.port), now);
            self.rxqs.push(rxq);
        }
        for held in parcel.held.drain(..) {
            self.queues.put(held, &self.stats, now);
        }
        self.mailbox.answer(Reply::Taken(parcel));
    }

    /// Nothing comes from this port or goes there any more; what waits is dropped by
    /// [`Core::let_go`].
    fn down(&mut self, port: PortId, now: Nanos) {
        self.leaving = Some(Leaving {
            port,
            is_down: true,
        });
        if let Some(view) = self.views[usize::from(port)].take() {
            self.changing[usize::from(port)] = now + CHANGE_MAX;
            self.mailbox.answer(Reply::View(view));
        }
        let mut at = 0;
        while let Some(rxq) = self.rxqs.get_mut(at) {
            if rxq.port != port {
                rxq.turn.leave_port(port);
                at += 1;
                continue;
            }
            let mut rxq = self.rxqs.swap_remove(at);
            rxq.turn.leave();
            give_back(&mut rxq, &self.views, now);
            self.mailbox.answer(Reply::Queue(rxq));
        }
    }
}
