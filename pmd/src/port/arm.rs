//! A receive queue before a core sleeps: whether its frames will wake the core.

use super::rxq::{RxKind, RxQueue};
use crate::page_faults::PageFaults;
use crate::sys;
use crate::time::Nanos;

/// What was found while a queue was armed.
pub(crate) struct Armed {
    /// Frames wait in it now.
    pub(crate) has_more: bool,
    /// It can wake the core.
    pub(crate) can_wake: bool,
    /// When it may be looked at again, if its memory is not to be touched now.
    pub(crate) opens_at: Option<Nanos>,
}

impl RxQueue {
    /// Asks its sender to wake the core for frames, or not to any more, and looks for some.
    pub(crate) fn arm(&mut self, wanted: bool, faults: &mut PageFaults, now: Nanos) -> Armed {
        let mut armed = Armed {
            has_more: false,
            can_wake: self.can_wake,
            opens_at: None,
        };
        match &mut self.kind {
            RxKind::Vhost(queue) if queue.stopped_for().is_some() => {}
            RxKind::Vhost(queue) => {
                // Its ring is memory that its front-end may take back meanwhile, and a core that
                // waits for that pauses it.
                let begun = sys::cycles();
                armed.opens_at = faults.paused_until(now, self.port);
                if armed.opens_at.is_none() {
                    queue.ring.want_kicks(wanted);
                    armed.has_more = queue.has_more();
                    armed.opens_at = faults.visited(now, begun, self.port);
                }
                if let Some(until) = armed.opens_at {
                    self.gate.pause(until);
                }
            }
            RxKind::AfXdp(queue) => armed.has_more = queue.has_more(),
            RxKind::Tap(queue) => armed.has_more = queue.has_more(),
            #[cfg(any(test, feature = "test-support"))]
            RxKind::Mem(_) => {}
        }
        armed
    }
}
