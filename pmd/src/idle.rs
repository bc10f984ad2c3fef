//! How a core that finds nothing goes to sleep, and why it never sleeps through a frame.
//!
//! After a while without frames it asks every guest for kicks, then looks at every ring once more (a fence on either side
//! makes sure that the guest sees the wish or the core sees the frame), and only then waits, for kicks and for control.

use crate::poll::Core;
use crate::port::RxKind;
use crate::sys::{self, Epoll};
use crate::time::{Clock, Nanos};
use std::os::fd::AsFd;
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
/// The longest sleep while frames wait for a receiver.
const NAP_HELD: Nanos = 50_000;

impl Core {
    /// Polls until `stop`. The caller has pinned the thread.
    pub fn run(mut self, idle: Idle, clock: Clock, stop: &AtomicBool) {
        let mut sleeper = match idle {
            Idle::Poll => None,
            Idle::Adaptive => Sleeper::new(&self),
        };
        self.quiet.online(self.id);
        let mut busy_at = clock.at(sys::cycles());
        while !stop.load(Ordering::Relaxed) {
            let now = clock.at(sys::cycles());
            let turn = self.poll_once(now);
            if turn.n_frames > 0 {
                busy_at = now;
            } else if let Some(sleeper) = &mut sleeper {
                if now.saturating_sub(busy_at) > PATIENCE {
                    sleeper.sleep(&mut self, turn.n_held > 0);
                    if turn.n_held == 0 {
                        busy_at = clock.at(sys::cycles());
                    }
                }
            } else {
                std::hint::spin_loop();
            }
        }
        self.quiet.offline(self.id);
    }

    /// Asks every guest to kick, or not to; gives whether some queue has frames now, and whether all can wake the core.
    fn arm(&mut self, wanted: bool) -> (bool, bool) {
        let (mut has_more, mut all_wake) = (false, true);
        for rxq in &mut self.rxqs {
            match &mut rxq.kind {
                RxKind::Vhost(queue) => {
                    queue.ring.want_kicks(wanted);
                    has_more |= queue.has_more();
                    all_wake &= queue.ring.spec().kick.is_some();
                }
                RxKind::Mem(_) => all_wake = false,
            }
        }
        (has_more, all_wake)
    }
}

/// What a core sleeps in. Kick fds are entered at the first sleep after a queue came, and leave it when they are closed.
#[derive(Debug)]
struct Sleeper {
    epoll: Epoll,
    n_entered: usize,
    generation: u64,
}

impl Sleeper {
    fn new(core: &Core) -> Option<Self> {
        let epoll = Epoll::new().ok()?;
        epoll.add(core.mailbox.wake_fd().as_fd());
        Some(Self { epoll, n_entered: 0, generation: 0 })
    }

    fn sleep(&mut self, core: &mut Core, is_holding: bool) {
        if is_holding {
            // The frames that wait would be found at once by the last look; so there is none, and the nap is short.
            core.quiet.offline(core.id);
            self.epoll.wait(Some(NAP_HELD));
            core.quiet.online(core.id);
            return;
        }
        self.enter(core);
        let (has_more, all_wake) = core.arm(true);
        if !has_more && !core.mailbox.has_commands() {
            core.stats.slept(sys::thread_cpu_ns());
            core.quiet.offline(core.id);
            self.epoll.wait(if all_wake { None } else { Some(NAP) });
            core.quiet.online(core.id);
            core.mailbox.wake_fd().clear();
        }
        core.arm(false);
    }

    /// Enters the kick fds of queues that are new. Entering one twice does no harm.
    fn enter(&mut self, core: &Core) {
        if self.generation == core.generation && self.n_entered == core.rxqs.len() {
            return;
        }
        for rxq in &core.rxqs {
            if let RxKind::Vhost(queue) = &rxq.kind
                && let Some(kick) = &queue.ring.spec().kick
            {
                self.epoll.add(kick.as_fd());
            }
        }
        (self.generation, self.n_entered) = (core.generation, core.rxqs.len());
    }
}
