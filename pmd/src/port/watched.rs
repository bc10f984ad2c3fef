//! Queues while page faults are watched for: each part of a burst that touches one guest's memory
//! alone is measured, and a queue that has to pause for its faults does little at a time
//! afterwards, so that no turn becomes long.

use std::cell::Cell;

use flowtable::PortId;

use super::room::Room;
use super::rxq::RxQueue;
use super::txq::TxQueue;
use super::vhost::FEW_DESCRIPTORS;
use crate::amount::Allowance;
use crate::burst::Burst;
use crate::page_faults::{PageFaults, SLOW_FOR};
use crate::ring::chain::Budget;
use crate::stats::PortStats;
use crate::sys;
use crate::time::Nanos;

/// Bytes of the smallest page.
const PAGE: u32 = 4096;
/// What a queue that was paused does at a time: frames and bytes; and [`FEW_DESCRIPTORS`].
const FEW_FRAMES: usize = 16;
const FEW_BYTES: u32 = 16_384;

impl RxQueue {
    /// As [`RxQueue::peek`], and copies all that will be read of the frames to memory of the core's
    /// own: what is not there is the sender's, whoever they are for. The end of the visit tells
    /// what else there was.
    #[cold]
    #[inline(never)]
    pub(crate) fn peek_watched(
        &mut self,
        burst: &mut Burst,
        allowance: Allowance,
        stats: &PortStats,
        faults: &mut PageFaults,
        now: Nanos,
    ) -> usize {
        burst.clear();
        // A queue that was set up anew is its port's all the same.
        if let Some(until) = faults
            .paused_until(now, self.port)
            .filter(|_| self.is_of_guest())
        {
            self.gate.pause(until);
            return 0;
        }
        let (mut allowance, mut budget) = (allowance, Budget::default());
        if self.is_of_guest() && faults.was_paused(now, self.port, SLOW_FOR) {
            allowance.n_frames = allowance.n_frames.min(FEW_FRAMES);
            allowance.n_bytes = allowance.n_bytes.min(FEW_BYTES);
            budget = Budget::of(FEW_DESCRIPTORS);
        }
        burst.set_budget(budget);
        if !faults.is_measuring {
            return self.peek(burst, allowance, stats);
        }
        // What was done since, in the visits before, is none of this one's.
        faults.skip();
        let begun = sys::cycles();
        let n = self.peek(burst, allowance, stats);
        if self.is_of_guest() {
            burst.move_to(faults.own());
        }
        let until = faults.until(now, begun, self.port);
        self.pause(until);
        n
    }

    /// A visit ends, and what was done since the last reading concerned this queue alone. Gives
    /// when it is looked at again, if it has to pause.
    #[cold]
    #[inline(never)]
    pub(crate) fn end_watched(&mut self, faults: &mut PageFaults, now: Nanos) -> Option<Nanos> {
        let until = faults.until_now(now, self.port);
        self.pause(until);
        self.gate.shut_until(now)
    }

    /// As [`RxQueue::n_waiting`], outside of a visit. `None`: its memory isn't to be touched now.
    pub(crate) fn count_waiting(&mut self, faults: &mut PageFaults, now: Nanos) -> Option<u16> {
        self.alone(faults, now, |queue| queue.n_waiting())
    }

    /// Its VM's limit is used up: it isn't looked at before `opens_at`.
    #[cold]
    pub(crate) fn shut(&mut self, now: Nanos, opens_at: Nanos, faults: &mut PageFaults) {
        let has_more = self.alone(faults, now, Self::has_more);
        self.gate.shut(now, opens_at, has_more == Some(true));
    }

    /// Does what touches this queue's memory alone. `None`: that is not to be touched now.
    fn alone<T>(
        &mut self,
        faults: &mut PageFaults,
        now: Nanos,
        touch: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        if !faults.is_watching || !self.is_of_guest() {
            return Some(touch(self));
        }
        if let Some(until) = faults.paused_until(now, self.port) {
            self.gate.pause(until);
            return None;
        }
        let begun = sys::cycles();
        let touched = touch(self);
        let until = faults.until(now, begun, self.port);
        self.pause(until);
        Some(touched)
    }

    fn pause(&mut self, until: Option<Nanos>) {
        if let Some(until) = until.filter(|_| self.is_of_guest()) {
            self.gate.pause(until);
        }
    }

    /// What comes off a wire is in memory of our own.
    fn is_of_guest(&self) -> bool {
        self.guest().is_some()
    }
}

impl TxQueue {
    /// As [`TxQueue::reserve`]; `n_before`: frames that it got in this burst.
    #[cold]
    #[inline(never)]
    pub(crate) fn reserve_watched(
        &mut self,
        lens: &[u32],
        n_before: usize,
        (hint, walked): (u16, &Cell<usize>),
        (port, faults): (PortId, &mut PageFaults),
        now: Nanos,
    ) -> (usize, Room) {
        if let Some(until) = faults
            .paused_until(now, port)
            .filter(|_| self.is_of_guest())
        {
            self.next_sender.pause(until, now);
            return (0, Room::Full);
        }
        let few = self.few_of(lens, n_before, faults.was_paused(now, port, SLOW_FOR));
        if few == 0 {
            return (0, Room::Later);
        }
        let begun = sys::cycles();
        let reserved = self.reserve(&lens[..few], hint, walked);
        let until = faults.until(now, begun, port);
        self.pause(until, now);
        reserved
    }

    /// As [`TxQueue::has_room`], for others' frames: a page that this takes is the port's, whoever
    /// asks.
    pub(crate) fn looks_open(
        &mut self,
        walked: &Cell<usize>,
        (port, faults): (PortId, &mut PageFaults),
        now: Nanos,
    ) -> bool {
        if !faults.is_watching || !self.is_of_guest() {
            return self.has_room(now, walked);
        }
        if let Some(until) = faults.paused_until(now, port) {
            self.next_sender.pause(until, now);
            return false;
        }
        let begun = sys::cycles();
        let has_room = self.has_room(now, walked);
        let until = faults.until(now, begun, port);
        self.pause(until, now);
        has_room && until.is_none()
    }

    /// As [`TxQueue::commit`].
    #[cold]
    #[inline(never)]
    pub(crate) fn commit_watched(
        &mut self,
        burst: &Burst,
        mask: u32,
        tag: Option<u16>,
        (port, faults): (PortId, &mut PageFaults),
        now: Nanos,
    ) -> u64 {
        if !faults.is_measuring {
            return self.commit(burst, mask, tag);
        }
        // What was done since is the sender's.
        faults.set_aside();
        let begun = sys::cycles();
        let n_bytes = self.commit(burst, mask, tag);
        let until = faults.until(now, begun, port);
        self.pause(until, now);
        n_bytes
    }

    /// It gets nothing until then, and it gets little at a time for a while.
    fn pause(&mut self, until: Option<Nanos>, now: Nanos) {
        if let Some(until) = until.filter(|_| self.is_of_guest()) {
            self.next_sender.pause(until, now);
        }
    }

    /// Others' memory is our own.
    fn is_of_guest(&self) -> bool {
        self.guest().is_some()
    }

    /// How many of frames of these lengths it may get in this burst, of which it got `n_before`;
    /// few where its port `was_paused`.
    fn few_of(&mut self, lens: &[u32], n_before: usize, was_paused: bool) -> usize {
        let Some(queue) = self.guest_mut() else {
            return lens.len();
        };
        if !was_paused {
            return lens.len();
        }
        queue.look_at_few();
        // As many frames as make a burst that was used well, even if each takes several pages.
        let most = if lens.first() > Some(&PAGE) {
            FEW_FRAMES / 2
        } else {
            FEW_FRAMES
        };
        most.saturating_sub(n_before).min(lens.len())
    }
}
