//! How a core ends while the others run on: control has moved its queues away and told it so. What
//! it gave to the kernel goes out first.

use super::core::{Core, End};
use super::mailbox::Reply;
use super::outcome::Turn;
use crate::time::Nanos;

/// For how long the kernel is asked to take frames that it was given. It takes those of a device
/// that is up within microseconds; after this, whichever core sends there next asks on.
const FLUSH_MAX: Nanos = 100_000_000;

impl Core {
    /// Whether it was told to end, and has: its thread may go.
    pub fn is_over(&self) -> bool {
        self.end == End::Over
    }

    /// Control has moved everything away.
    pub(super) fn begin_end(&mut self, now: Nanos) {
        self.end = End::Until(now + FLUSH_MAX);
    }

    /// A turn is done. Ends if nothing is left to do; control may use all that the core had as soon
    /// as it was told.
    #[cold]
    pub(super) fn go_on_ending(&mut self, now: Nanos, turn: &mut Turn) {
        let End::Until(until) = self.end else {
            return;
        };
        turn.is_pending = true;
        let is_left = !self.rxqs.is_empty() || !self.queues.is_empty();
        if is_left || turn.n_unsent > 0 && (now < until || !self.hand_flushes_on()) {
            return;
        }
        // Control has a view of each port itself, so that nothing is freed here.
        self.views.iter_mut().for_each(|view| *view = None);
        self.flushes.clear();
        self.end = End::Over;
        self.mailbox.answer(Reply::Ended);
    }

    /// The next core that sends to these queues shall flush them. False: another core is in the
    /// midst of a burst at one of them.
    fn hand_flushes_on(&mut self) -> bool {
        let views = &self.views;
        self.flushes.retain(|&(port, queue)| {
            let txq = views[usize::from(port)]
                .as_ref()
                .and_then(|view| view.txqs.get(usize::from(queue)));
            txq.is_some_and(|txq| !txq.forget_flush())
        });
        self.flushes.is_empty()
    }
}
