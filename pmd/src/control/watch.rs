//! Which core a receive queue's kicks wake. Here and not on the core, and without the books in
//! hand: it takes a lock in the kernel that a front-end can keep busy.

use flowtable::PortId;

use super::cores::Cores;
use super::spaced;
use crate::port::RxQueue;

impl Cores {
    /// Lets a receive queue's kicks wake its core. One whose eventfds are known for taking long is
    /// looked at once a millisecond instead.
    pub(super) fn watch(&self, rxq: &mut RxQueue, core: usize) {
        let slots = self.slots();
        let add = |wake| match &self.callers.of(rxq.port) {
            Some(calls) => !calls.is_indirect() && calls.measured(|| slots[core].epoll.add(wake)),
            None => slots[core].epoll.add(wake),
        };
        rxq.can_wake = rxq.wake_fd().is_some_and(add);
    }

    /// The guest may keep its end of a kick open for ever, and with it what was entered. While one
    /// is removed its core can't wake, which takes as long as a front-end's own signals take it.
    pub(super) fn end_watch(&self, port: PortId, rxqs: &mut [(usize, RxQueue)]) {
        spaced::each(rxqs, |(core, rxq)| {
            debug_assert_eq!(rxq.port, port);
            self.end_watch_of(rxq, *core);
        });
    }

    /// The same of one queue.
    pub(super) fn end_watch_of(&self, rxq: &mut RxQueue, core: usize) {
        let slots = self.slots();
        if let Some(wake) = rxq.wake_fd().filter(|_| rxq.can_wake) {
            match &self.callers.of(rxq.port) {
                Some(calls) => calls.measured(|| slots[core].epoll.remove(wake)),
                None => slots[core].epoll.remove(wake),
            }
        }
        rxq.can_wake = false;
    }
}
