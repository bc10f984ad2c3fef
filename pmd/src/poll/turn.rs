//! The loop of a polling core: peek, decide, reserve, copy, consume; then, between turns, what
//! control wants.

use super::core::{Core, next_burst};
use super::outcome::Turn;
use super::scan;
use super::wait::{self, NoRoom};
use crate::port::Flushed;
use crate::port::views::limits_of;
use crate::send::{Sender, give_back};
use crate::sys;
use crate::time::{Nanos, seconds};
use flowtable::DropReason;
use std::cell::Cell;

impl Core {
    /// One turn: every receive queue once, then what control wants.
    ///
    /// A call of its own, by which `./x cost` finds what belongs to the switch.
    #[inline(never)]
    pub fn poll_once(&mut self, now: Nanos) -> Turn {
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
        let mut cycles = sys::cycles();
        self.lookup.set_time(now);
        let n_rxqs = self.rxqs.len();
        let mut no_room = NoRoom {
            turn: self.stats.n_turns(),
            ..NoRoom::default()
        };
        for rxq in &mut self.rxqs {
            if let Some(opens_at) = rxq.gate.shut_until(now) {
                turn.opens(opens_at);
                continue;
            }
            if rxq.is_held
                && wait::goes_on(
                    rxq,
                    &self.views,
                    self.n_bursts,
                    &mut no_room,
                    &mut self.faults,
                    now,
                )
            {
                self.stats.port(rxq.port).held();
                turn.n_held += 1;
                // No burst's, and least of all the next queue's.
                let then = std::mem::replace(&mut cycles, sys::cycles());
                self.stats.worked(cycles.wrapping_sub(then), 0);
                continue;
            }
            let allowance = match rxq.gate.allowance(now) {
                Ok(allowance) => allowance,
                Err(opens_at) => {
                    give_back(rxq, &self.views, now);
                    rxq.shut(now, opens_at);
                    turn.opens(opens_at);
                    continue;
                }
            };
            let port_stats = self.stats.port(rxq.port);
            let n = match self.faults.is_watching {
                false => rxq.peek(&mut self.burst, allowance, port_stats),
                true => rxq.peek_watched(
                    &mut self.burst,
                    allowance,
                    port_stats,
                    &mut self.faults,
                    now,
                ),
            };
            rxq.gate.passed(now, n > 0);
            if n == 0 {
                rxq.is_held = rxq.takes_wait();
                turn.n_held += usize::from(rxq.is_held);
                if rxq.turn.is_waiting() {
                    rxq.turn.leave();
                }
                if rxq.hold.reserved().is_some() {
                    give_back(rxq, &self.views, now);
                }
                continue;
            }
            let Some(view) = self.views[usize::from(rxq.port)].as_deref() else {
                continue;
            };
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
                core: self.id,
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
                port_stats.received(sent.n as u64, burst.n_bytes(sent.n));
            }
            let then = std::mem::replace(&mut cycles, sys::cycles());
            self.stats.worked(cycles.wrapping_sub(then), sent.n as u64);
            turn.n_frames += sent.n;
            rxq.is_held = sent.n < n;
            if rxq.is_held {
                turn.n_held += usize::from(sent.at_limit.is_none());
                let (shared, core) = ((view, &*self.views), (self.id, &*self.stats));
                turn.is_pending |= scan::look_on(
                    rxq,
                    n_rxqs,
                    &mut self.scanner,
                    &self.lookup,
                    shared,
                    core,
                    now,
                );
                wait::begin(rxq, n - sent.n, now);
            }
            if self.faults.is_watching
                && let Some(opens_at) = rxq.end_watched(&mut self.faults, now)
            {
                give_back(rxq, &self.views, now);
                turn.opens(opens_at);
            }
            if let Some(opens_at) = rxq.gate.charge(now, burst, sent.n) {
                give_back(rxq, &self.views, now);
                rxq.shut(now, opens_at);
                turn.opens(opens_at);
                turn.n_throttled += sent.n;
            } else if rxq.gate.is_binding() {
                turn.n_throttled += sent.n;
                turn.is_pending |= sent.n == n;
            }
            if sent.at_limit.is_some() | rxq.turn.is_waiting() {
                let before = self.queues.before_ring(rxq.who, sent.at_limit);
                let at = sent.at_limit.map(|to| (to, limits_of(&self.views, to)));
                let opens_at = rxq.turn.settle(now, burst, sent.n, at, before);
                if let Some(opens_at) = opens_at {
                    rxq.gate.pause(opens_at);
                    turn.opens(opens_at);
                    turn.n_throttled = (turn.n_throttled + sent.n).min(turn.n_frames);
                }
            }
        }
        if !self.flushes.is_empty() {
            turn.n_unsent = self.flush();
        }
        self.between_turns(now, &mut turn);
        turn
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

    /// Counts the turn, announces the quiet state, applies commands.
    #[inline(always)]
    fn between_turns(&mut self, now: Nanos, turn: &mut Turn) {
        self.stats.turned();
        if self.mailbox.has_commands() | self.leaving.is_some() {
            self.take_commands(now);
            turn.is_pending |= self.leaving.is_some();
        }
        self.quiet.pass(self.id);
    }
}
