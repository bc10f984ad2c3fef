//! Notifications of a split virtqueue, in both directions (VIRTIO 1.2, 2.7.7 and 2.7.10): calls to
//! the guest, and requests for kicks.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::split::SplitRing;
use crate::calls::{Calls, call_bit, error_bit};
use crate::sys::EventFd;

const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

impl SplitRing {
    /// Calls the guest for what was published since the last time, if it requested that.
    #[inline(always)]
    pub(crate) fn call_if_wanted(&mut self) {
        // Full fence, with the driver's between its event word (or flags) and its look at the used
        // index: either it sees the new index, or we see that it wants a call.
        fence(Ordering::SeqCst);
        let (new, old) = (self.next, std::mem::replace(&mut self.called, self.next));
        let wanted = if self.options.event_idx {
            // SAFETY: the used_event word stands behind the available ring's entries; the ring was
            // checked with it.
            let event = unsafe { self.word(self.avail, 4 + 2 * usize::from(self.size())) }
                .load(Ordering::Relaxed);
            needs_event(event, new, old)
        } else {
            // SAFETY: the first two bytes of the available ring.
            new != old
                && unsafe { self.word(self.avail, 0) }.load(Ordering::Relaxed) & NO_INTERRUPT == 0
        };
        if wanted {
            self.call();
        }
    }

    #[cold]
    fn call(&self) {
        if let Some(call) = &self.spec.call {
            self.signal(call, call_bit(self.spec.index));
        }
    }

    #[cold]
    fn signal(&self, event: &EventFd, bit: u64) {
        match &self.calls {
            Some(calls) => calls.signal(event, bit),
            None => event.signal(),
        }
    }

    /// From now on its eventfds are signalled as the port's; the guest is called once, in case a
    /// call was lost before. On a control thread.
    pub(crate) fn begin_calls(&mut self, calls: &Arc<Calls>) {
        self.calls = Some(calls.clone());
        self.call();
    }

    /// What it may have to signal, as the port's eventfds are numbered.
    pub(crate) fn signalled(&self) -> impl Iterator<Item = (u64, Arc<EventFd>)> {
        let call = self
            .spec
            .call
            .clone()
            .map(|call| (call_bit(self.spec.index), call));
        let err = self
            .spec
            .err
            .clone()
            .map(|err| (error_bit(self.spec.index), err));
        call.into_iter().chain(err)
    }

    /// Tells the front-end that this queue was stopped.
    pub(crate) fn report_error(&self) {
        if let Some(err) = &self.spec.err {
            self.signal(err, error_bit(self.spec.index));
        }
    }

    /// Asks the guest to kick for whatever it adds from now on, or not to. After asking,
    /// [`SplitRing::has_more`] has to be looked at once more.
    pub(crate) fn want_kicks(&mut self, wanted: bool) {
        if self.is_damaged() {
            return;
        }
        let event_at = 4 + 8 * usize::from(self.size());
        if self.options.event_idx {
            // An old event word asks for one kick in 65,536; so nothing needs to be written to end
            // it.
            if wanted {
                // SAFETY: the avail_event word stands behind the used ring's entries; the ring was
                // checked with it.
                unsafe { self.word(self.used, event_at) }.store(self.next, Ordering::Relaxed);
            } else if self.kicks_wanted {
                // SAFETY: the first two bytes of the used ring.
                unsafe { self.word(self.used, 0) }.store(0, Ordering::Relaxed);
            }
        } else if wanted != self.kicks_wanted {
            let flags = if wanted { 0 } else { NO_NOTIFY };
            // SAFETY: as above.
            unsafe { self.word(self.used, 0) }.store(flags, Ordering::Relaxed);
        }
        self.kicks_wanted = wanted;
        if wanted {
            // With the driver's fence between its available index and its look at flags or event.
            fence(Ordering::SeqCst);
        }
    }
}

/// Whether an index that goes from `old` to `new` passes `event` (VIRTIO 1.2, 2.7.10).
#[inline(always)]
pub(crate) fn needs_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_needed_exactly_when_the_index_passes_it() {
        for event in [0u16, 5, 65_533, 65_535] {
            for old in [event, event.wrapping_sub(3), event.wrapping_add(1)] {
                for step in 0..6 {
                    let new = old.wrapping_add(step);
                    let passed = (1..=step).any(|n| old.wrapping_add(n) == event.wrapping_add(1));
                    assert_eq!(
                        needs_event(event, new, old),
                        passed,
                        "event {event} old {old} new {new}"
                    );
                }
            }
        }
    }
}
