//! The loop of a polling core: peek, decide, reserve, copy, consume; then, between turns, what
//! control wants.

use std::cell::Cell;

use flowtable::{DropReason, PortId};

use super::core::{Core, End, next_burst};
use super::outcome::Turn;
use super::scan;
use super::wait::{self, NoRoom};
use crate::amount::Allowance;
use crate::port::views::limits_of;
use crate::port::{Flushed, RxQueue};
use crate::send::{Sender, Sent, give_back};
use crate::sys;
use crate::time::{Nanos, seconds};

/// What a turn has come to so far, and what its visits to queues share.
struct Visits {
    turn: Turn,
    now: Nanos,
    /// The cycle counter when the last visit that counts ended.
    cycles: u64,
    no_room: NoRoom,
    n_rxqs: usize,
}

impl Core {
    /// One turn: every receive queue once, then what control wants.
    ///
    /// A call of its own, by which `./x cost` finds what belongs to the switch.
    #[inline(never)]
    pub fn poll_once(&mut self, now: Nanos) -> Turn {
        let mut visits = self.begin(now);
        // Taken out, so that a visit may use all else.
        let mut rxqs = std::mem::take(&mut self.rxqs);
        for rxq in &mut rxqs {
            self.visit(rxq, &mut visits);
        }
        self.rxqs = rxqs;
        let mut turn = visits.turn;
        if !self.flushes.is_empty() {
            turn.n_unsent = self.flush();
        }
        self.between_turns(now, &mut turn);
        turn
    }

    /// What comes before the first queue: frames that wait at limits, and a look at the time that
    /// page faults took.
    #[inline(always)]
    fn begin(&mut self, now: Nanos) -> Visits {
        let mut turn = Turn::default();
        if self.queues.due_at != Nanos::MAX {
            self.release(now, &mut turn);
        }
        if now >= self.faults.due {
            self.faults.look(now, self.rxqs.len());
            if let Some(port) = self.faults.take_waited_for() {
                self.stats.port(port).waited_for();
            }
        }
        self.lookup.set_time(now);
        let no_room = NoRoom {
            turn: self.stats.n_turns(),
            ..NoRoom::default()
        };
        Visits {
            turn,
            now,
            cycles: sys::cycles(),
            no_room,
            n_rxqs: self.rxqs.len(),
        }
    }

    /// One receive queue: takes a burst of it as far as that may go now.
    #[inline(always)]
    fn visit(&mut self, rxq: &mut RxQueue, visits: &mut Visits) {
        if let Some(opens_at) = rxq.gate.shut_until(visits.now) {
            return visits.turn.opens(opens_at);
        }
        if rxq.is_held && self.goes_on_waiting(rxq, visits) {
            return;
        }
        let n = match rxq.gate.allowance(visits.now) {
            Ok(allowance) => self.peek(rxq, allowance, visits.now),
            Err(opens_at) => return self.throttle(rxq, opens_at, visits),
        };
        rxq.gate.passed(visits.now, n > 0);
        if n == 0 {
            return self.found_nothing(rxq, visits);
        }
        if let Some(sent) = self.decide_and_send(rxq, n, visits) {
            visits.turn.n_frames += sent.n;
            rxq.is_held = sent.n < n;
            if rxq.is_held {
                self.leave_behind(rxq, n - sent.n, sent, visits);
            }
            self.charge(rxq, n, sent, visits);
        }
    }

    /// Whether a queue that was held up waits for room at its receiver, and is not looked at.
    #[inline(always)]
    fn goes_on_waiting(&mut self, rxq: &mut RxQueue, visits: &mut Visits) -> bool {
        let goes_on = wait::goes_on(
            rxq,
            &self.views,
            self.n_bursts,
            &mut visits.no_room,
            &mut self.faults,
            visits.now,
        );
        if goes_on {
            self.stats.port(rxq.port).held();
            visits.turn.n_held += 1;
            // No burst's, and least of all the next queue's.
            self.worked(rxq, 0, visits);
        }
        goes_on
    }

    /// Takes a look at what the queue has; gives the frames now in the burst.
    #[inline(always)]
    fn peek(&mut self, rxq: &mut RxQueue, allowance: Allowance, now: Nanos) -> usize {
        let stats = self.stats.port(rxq.port);
        if self.faults.is_watching {
            rxq.peek_watched(&mut self.burst, allowance, stats, &mut self.faults, now)
        } else {
            rxq.peek(&mut self.burst, allowance, stats)
        }
    }

    /// The queue had nothing that may be taken: it gives up what it has reserved.
    #[inline(always)]
    fn found_nothing(&self, rxq: &mut RxQueue, visits: &mut Visits) {
        rxq.is_held = rxq.takes_wait();
        visits.turn.n_held += usize::from(rxq.is_held);
        if rxq.turn.is_waiting() {
            rxq.turn.leave();
        }
        if rxq.hold.reserved().is_some() {
            give_back(rxq, &self.views, visits.now);
        }
    }

    /// Decides the `n` frames of the burst, sends what may go, and gives that back to the queue.
    /// `None`: its port is not up.
    #[inline(always)]
    fn decide_and_send(
        &mut self,
        rxq: &mut RxQueue,
        n: usize,
        visits: &mut Visits,
    ) -> Option<Sent> {
        let now = visits.now;
        let view = self.views[usize::from(rxq.port)].as_deref()?;
        let burst = &mut *self.burst;
        if rxq.discards {
            burst.discard(DropReason::QueueDisabled);
        } else {
            let has_tags = self.lookup.decide(
                &view.ingress,
                &burst.headers[..n],
                &burst.lens[..n],
                &mut burst.actions[..n],
                seconds(now),
            );
            if has_tags {
                burst.pop_tags(view.ingress.trunk.is_some());
            }
        }
        let can_hold = rxq.can_hold();
        self.n_bursts = next_burst(self.n_bursts);
        let mut sender = Sender {
            tx_index: rxq.tx_index,
            views: &self.views,
            changing: &self.changing,
            networks: self.lookup.networks(),
            stats: &self.stats,
            slots: &mut self.slots,
            // What can't wait takes no turns.
            who: if can_hold { rxq.who } else { 0 },
            rxq: rxq.who,
            queues: Some(&mut self.queues),
            turn_at: rxq.turn.port(now),
            burst: self.n_bursts,
            flushes: &mut self.flushes,
            walked: Cell::new(0),
            faults: &mut self.faults,
            now,
        };
        let sent = sender.send(burst, view, rxq, can_hold);
        if sent.n > 0 {
            rxq.consume(burst, sent.n);
            let stats = self.stats.port(rxq.port);
            stats.received(sent.n as u64, burst.n_bytes(sent.n));
        }
        self.worked(rxq, sent.n, visits);
        Some(sent)
    }

    /// Frames of the burst stay in the queue: looks at what is behind them, if that may matter.
    #[inline(always)]
    fn leave_behind(&mut self, rxq: &mut RxQueue, n_left: usize, sent: Sent, visits: &mut Visits) {
        let now = visits.now;
        visits.turn.n_held += usize::from(sent.at_limit.is_none());
        if let Some(view) = self.views[usize::from(rxq.port)].as_deref() {
            visits.turn.is_pending |= scan::look_on(
                rxq,
                visits.n_rxqs,
                &mut self.scanner,
                &self.lookup,
                (view, &self.views),
                &self.stats,
                now,
            );
        }
        wait::begin(rxq, n_left, now);
        if let Some(opens_at) = sent.flood_waits_until {
            rxq.gate.shut(now, opens_at, false);
        }
    }

    /// Charges what went to the limits that it counts against, and shuts the queue where one of
    /// them is used up. `n`: frames of the burst.
    #[inline(always)]
    fn charge(&mut self, rxq: &mut RxQueue, n: usize, sent: Sent, visits: &mut Visits) {
        let now = visits.now;
        if self.faults.is_watching
            && let Some(opens_at) = rxq.end_watched(&mut self.faults, now)
        {
            give_back(rxq, &self.views, now);
            visits.turn.opens(opens_at);
        }
        if let Some(opens_at) = rxq.gate.charge(now, &self.burst, sent.n) {
            self.throttle(rxq, opens_at, visits);
            visits.turn.n_throttled += sent.n;
        } else if rxq.gate.is_binding() {
            visits.turn.n_throttled += sent.n;
            visits.turn.is_pending |= sent.n == n;
        }
        if sent.at_limit.is_some() | rxq.turn.is_waiting() {
            self.take_turns(rxq, sent, visits);
        }
    }

    /// The limit on what the queue's VM sends is used up: it is not looked at before `opens_at`.
    #[cold]
    #[inline(never)]
    fn throttle(&mut self, rxq: &mut RxQueue, opens_at: Nanos, visits: &mut Visits) {
        give_back(rxq, &self.views, visits.now);
        rxq.shut(visits.now, opens_at, &mut self.faults);
        visits.turn.opens(opens_at);
    }

    /// The queue waits at the limit of a VM that its frames are for, or did so before.
    #[inline(always)]
    fn take_turns(&mut self, rxq: &mut RxQueue, sent: Sent, visits: &mut Visits) {
        let now = visits.now;
        let before = self.queues.before_ring(rxq.who, sent.at_limit);
        let at = sent
            .at_limit
            .map(|to: PortId| (to, limits_of(&self.views, to)));
        let opens_at = rxq.turn.settle(now, &self.burst, sent.n, at, before);
        if let Some(opens_at) = opens_at {
            rxq.gate.pause(opens_at);
            let turn = &mut visits.turn;
            turn.opens(opens_at);
            turn.n_throttled = (turn.n_throttled + sent.n).min(turn.n_frames);
        }
    }

    /// Counts the cycles since the last visit as work for so many frames of the queue.
    #[inline(always)]
    fn worked(&self, rxq: &RxQueue, n_frames: usize, visits: &mut Visits) {
        let then = std::mem::replace(&mut visits.cycles, sys::cycles());
        let n_cycles = visits.cycles.wrapping_sub(then);
        self.stats.worked(n_cycles, n_frames as u64);
        if n_frames > 0 {
            rxq.load.worked(n_cycles, n_frames as u64);
        }
    }

    /// Tells the kernel of what it was given this turn, once for each queue that needs it; gives
    /// how many of them still have frames that it didn't take.
    #[inline(never)]
    fn flush(&mut self) -> usize {
        let (views, then) = (&self.views, sys::cycles());
        let mut n_unsent = 0;
        self.flushes.retain(|&(port, queue)| {
            let txq = views[usize::from(port)]
                .as_ref()
                .and_then(|view| view.txqs.get(usize::from(queue)));
            // One that went down takes what is left along.
            let Some(txq) = txq else { return false };
            let flushed = txq.flush();
            n_unsent += usize::from(flushed == Flushed::Unsent);
            flushed != Flushed::All
        });
        self.stats.flushed(sys::cycles().wrapping_sub(then));
        n_unsent
    }

    /// Counts the turn, applies commands.
    #[inline(always)]
    fn between_turns(&mut self, now: Nanos, turn: &mut Turn) {
        self.stats.turned();
        if self.mailbox.has_commands() | self.leaving.is_some() {
            turn.is_pending |= self.take_commands(now);
        }
        if self.end != End::NotYet {
            self.go_on_ending(now, turn);
        }
    }
}
