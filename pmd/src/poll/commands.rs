//! What control wants of a core, between turns.

use flowtable::PortId;

use super::core::{Core, Leaving};
use super::mailbox::{Command, Reply};
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
    #[cold]
    pub(super) fn take_commands(&mut self, now: Nanos) {
        let mut n_queues = QUEUES_A_TURN;
        self.let_go(&mut n_queues);
        for _ in 0..COMMANDS_A_TURN {
            // What comes behind a port that is going down may be its next life.
            if self.leaving.is_some() {
                break;
            }
            // A port that goes down answers with a view, its queues and a word.
            match self.mailbox.command(RXQS_MAX + 2) {
                Some(command) => self.apply(command, now),
                None => break,
            }
            self.let_go(&mut n_queues);
        }
        self.stats.has_rxqs(self.rxqs.len());
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

    fn apply(&mut self, command: Command, now: Nanos) {
        match command {
            Command::Up(view) => {
                let place = usize::from(view.ingress.port);
                if let Some(before) = self.views[place].replace(view) {
                    self.mailbox.answer(Reply::View(before));
                }
            }
            Command::Poll(rxq) => self.rxqs.push(rxq),
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
