//! How a core that finds nothing goes to sleep, and why it never sleeps through a frame.
//!
//! After a while without frames it asks every guest for kicks, then looks at every ring once more
//! (a fence on either side makes sure that the guest sees the request or the core sees the frame),
//! and only then waits, for kicks and for control.
//!
//! Queues that a limit holds back are not asked for kicks, and the frames that they are let through
//! don't keep the core awake: between two allowances it sleeps, so that a guest far over its limit
//! costs what one at its limit does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::core::Core;
use super::outcome::{Turn, earliest};
use crate::port::RxQueue;
use crate::sys;
use crate::time::{Clock, ClockReader, Nanos, seconds};

/// What a core does when it finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on, at a whole CPU's cost.
    Poll,
    /// Sleeps until something comes.
    Adaptive,
}

/// What all cores do when they find nothing, as long as control doesn't say otherwise; clones are
/// the same setting.
#[derive(Clone, Debug)]
pub struct IdleSetting {
    polls: Arc<AtomicBool>,
}

impl IdleSetting {
    /// Each core does so from its next turn on in which it finds nothing. One that sleeps has to be
    /// woken for that: [`crate::Cores::wake_all`].
    pub fn set(&self, idle: Idle) {
        self.polls.store(idle == Idle::Poll, Ordering::Release);
    }

    fn get(&self) -> Idle {
        if self.polls.load(Ordering::Acquire) {
            Idle::Poll
        } else {
            Idle::Adaptive
        }
    }
}

impl From<Idle> for IdleSetting {
    fn from(idle: Idle) -> Self {
        Self {
            polls: Arc::new(AtomicBool::new(idle == Idle::Poll)),
        }
    }
}

/// How long a core polls in vain before it sleeps.
const PATIENCE: Nanos = 100_000;
/// The longest sleep while some queue has no way to wake the core.
const NAP: Nanos = 1_000_000;
/// The first sleep while frames wait for a receiver.
const NAP_HELD: Nanos = 50_000;
/// The shortest sleep while a limit holds frames back: what may go by then goes together. Well
/// below the time that every burst is worth, so that none of it is lost.
const NAP_THROTTLED: Nanos = 100_000;

/// What was found while guests were asked for kicks.
struct Armed {
    /// Some queue has frames now.
    has_more: bool,
    /// All can wake the core.
    all_wake: bool,
    /// When the first may be looked at again of those whose memory is not to be touched now.
    opens_at: Option<Nanos>,
}

impl Core {
    /// Polls until `stop`, or until it [`Core::is_over`]. The caller has pinned the thread. `idle`:
    /// an [`Idle`], or an [`IdleSetting`] for what may change.
    pub fn run(mut self, idle: impl Into<IdleSetting>, clock: Clock, stop: &AtomicBool) {
        let idle = idle.into();
        let _ = sys::prepare_signals();
        self.make_room();
        self.bound_page_faults();
        let mut clock = clock.reader();
        let mut busy_at = clock.at(sys::cycles());
        let mut second = seconds(busy_at);
        self.stats.begins(busy_at);
        while !stop.load(Ordering::Relaxed) && !self.is_over() {
            let now = clock.at(sys::cycles());
            let turn = self.poll_once(now);
            if seconds(now) != second {
                second = seconds(now);
                self.stats.has_used(sys::thread_cpu_ns(), now);
            }
            if turn.n_frames > turn.n_throttled {
                busy_at = now;
            } else if turn.is_pending {
                // More may go at once, of queues that keep no core awake.
            } else if now.saturating_sub(busy_at) > PATIENCE && idle.get() == Idle::Adaptive {
                let nap = nap(&turn, now, now - busy_at);
                self.sleep(now, nap, &mut clock);
                if nap.is_none() {
                    busy_at = clock.at(sys::cycles());
                }
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Asks every guest to kick, or not to, but for those whose frames have to wait anyway.
    fn arm(&mut self, now: Nanos, wanted: bool) -> Armed {
        let mut armed = Armed {
            has_more: false,
            all_wake: true,
            opens_at: None,
        };
        let waits = |rxq: &RxQueue| rxq.is_held || rxq.gate.shut_until(now).is_some();
        self.faults.begin_visits();
        for rxq in self.rxqs.iter_mut().filter(|rxq| !(wanted && waits(rxq))) {
            let queue = rxq.arm(wanted, &mut self.faults, now);
            armed.has_more |= queue.has_more;
            armed.all_wake &= queue.can_wake;
            if let Some(until) = queue.opens_at {
                armed.opens_at = earliest(armed.opens_at, until);
            }
        }
        armed
    }

    fn sleep(&mut self, now: Nanos, nap: Option<Nanos>, clock: &mut ClockReader) {
        let armed = self.arm(now, true);
        if !armed.has_more && !self.mailbox.has_commands() {
            self.stats.slept();
            self.stats.has_used(sys::thread_cpu_ns(), now);
            let most = if armed.all_wake { None } else { Some(NAP) };
            let paused = armed.opens_at.map(|at| at.saturating_sub(now));
            let time = nap.into_iter().chain(most).chain(paused).min();
            self.faults.asleep(|| self.epoll.wait(time));
            self.mailbox.wake_fd().clear();
        }
        let now = clock.at(sys::cycles());
        self.arm(now, false);
    }
}

/// For how long a core may sleep at most after a turn in which it found nothing to do, `idle_for`
/// after it last had something; none: until it is woken.
fn nap(turn: &Turn, now: Nanos, idle_for: Nanos) -> Option<Nanos> {
    // While frames wait for a receiver, which wakes no core, or for the kernel, naps grow from
    // short to long.
    let held = (turn.n_held > 0 || turn.n_unsent > 0).then(|| (idle_for / 8).clamp(NAP_HELD, NAP));
    let throttled = turn
        .opens_at
        .map(|at| at.saturating_sub(now).max(NAP_THROTTLED));
    held.into_iter().chain(throttled).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nap_ends_at_the_first_allowance_but_is_worth_its_while() {
        let turn = |n_held, opens_at| Turn {
            n_held,
            opens_at,
            ..Turn::default()
        };
        assert_eq!(nap(&turn(0, None), 1000, 5000), None);
        assert_eq!(
            nap(&turn(0, Some(3_000_000)), 1_000_000, 0),
            Some(2_000_000)
        );
        assert_eq!(
            nap(&turn(0, Some(1_000_010)), 1_000_000, 0),
            Some(NAP_THROTTLED)
        );
        assert_eq!(
            nap(&turn(1, Some(3_000_000)), 1_000_000, 800_000),
            Some(100_000),
            "the held frame is asked for first"
        );
    }
}
