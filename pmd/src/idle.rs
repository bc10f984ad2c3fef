//! How a core that finds nothing goes to sleep, and why it never sleeps through a frame.
//!
//! After a while without frames it asks every guest for kicks, then looks at every ring once more (a fence on either side
//! makes sure that the guest sees the wish or the core sees the frame), and only then waits, for kicks and for control.

use crate::poll::Core;
use crate::port::RxKind;
use crate::sys;
use crate::time::{Clock, Nanos, seconds};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a core does when it finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on, at a whole CPU's cost.
    Poll,
    /// Sleeps until something comes.
    Adaptive,
}

/// How long a core polls in vain before it sleeps.
const PATIENCE: Nanos = 100_000;
/// The longest sleep while some queue has no way to wake the core.
const NAP: Nanos = 1_000_000;
/// The first sleep while frames wait for a receiver.
const NAP_HELD: Nanos = 50_000;

impl Core {
    /// Polls until `stop`. The caller has pinned the thread.
    pub fn run(mut self, idle: Idle, clock: Clock, stop: &AtomicBool) {
        sys::prepare_signals();
        self.quiet.online(self.id);
        self.make_room();
        let mut busy_at = clock.at(sys::cycles());
        let mut second = seconds(busy_at);
        while !stop.load(Ordering::Relaxed) {
            let now = clock.at(sys::cycles());
            let turn = self.poll_once(now);
            if seconds(now) != second {
                second = seconds(now);
                self.stats.has_used(sys::thread_cpu_ns());
            }
            if turn.n_frames > 0 {
                busy_at = now;
            } else if idle == Idle::Adaptive && now.saturating_sub(busy_at) > PATIENCE {
                // While frames wait for a receiver, who wakes nobody, or for the kernel, naps grow from short to long.
                let nap = (turn.n_held > 0 || turn.n_unsent > 0).then(|| ((now - busy_at) / 8).clamp(NAP_HELD, NAP));
                self.sleep(nap);
                if nap.is_none() {
                    busy_at = clock.at(sys::cycles());
                }
            } else {
                std::hint::spin_loop();
            }
        }
        self.quiet.offline(self.id);
    }

    /// Asks every guest to kick, or not to, but for those whose frames have to wait anyway; gives whether some queue has
    /// frames now, and whether all can wake the core.
    fn arm(&mut self, wanted: bool) -> (bool, bool) {
        let (mut has_more, mut all_wake) = (false, true);
        for rxq in self.rxqs.iter_mut().filter(|rxq| !(wanted && rxq.is_held)) {
            match &mut rxq.kind {
                RxKind::Vhost(queue) => {
                    queue.ring.want_kicks(wanted);
                    has_more |= queue.has_more();
                    all_wake &= rxq.can_wake;
                }
                RxKind::AfXdp(queue) => {
                    has_more |= queue.has_more();
                    all_wake &= rxq.can_wake;
                }
                RxKind::Tap(queue) => {
                    has_more |= queue.has_more();
                    all_wake &= rxq.can_wake;
                }
                RxKind::Mem(_) => all_wake = false,
            }
        }
        (has_more, all_wake)
    }

    fn sleep(&mut self, nap: Option<Nanos>) {
        let (has_more, all_wake) = self.arm(true);
        if !has_more && !self.mailbox.has_commands() {
            self.stats.slept();
            self.stats.has_used(sys::thread_cpu_ns());
            self.doze(nap.or(if all_wake { None } else { Some(NAP) }));
            self.mailbox.wake_fd().clear();
        }
        self.arm(false);
    }

    /// Waits, and counts as quiet meanwhile.
    fn doze(&self, time: Option<Nanos>) {
        self.quiet.offline(self.id);
        self.epoll.wait(time);
        self.quiet.online(self.id);
    }
}
