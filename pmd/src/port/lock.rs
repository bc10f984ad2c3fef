//! The lock before a transmit queue. It is only ever tried, and held for a burst.
//!
//! A core that finds it taken comes back with its next turn. Luck alone could keep it waiting while
//! others come more often, so it may reserve the next turn at the queue, and until it came the
//! others find the lock taken as well. Whoever waits can tell bursts that hold the lock one after
//! another from one that holds it on and on: the latter's core was preempted.
//!
//! A reservation shuts out all others, so it must not outlast its purpose: a receive queue whose
//! frames no longer go there gives it back when it is looked at next (`send::give_back`). One that
//! ran out all the same (its core sleeps, or was preempted) ends after [`STANDS`], and none is made
//! for [`UNUSED`] after that, by nobody: who waits comes by luck meanwhile.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::afxdp;
use super::room::Flushed;
use super::txq::{TxKind, TxQueue};
use crate::time::Nanos;

/// How long a reservation lasts, in units of 1,024 ns: as long as a core's turn may well take.
const STANDS: u32 = 200;
/// For how long none is made after one that ran out unused.
const UNUSED: u32 = 4_000;
/// Cores read the clock once a turn, so a reservation may come from their future.
const SKEW: u32 = 8_000;

/// A transmit queue behind its lock.
#[derive(Debug)]
pub(crate) struct TxLock {
    queue: Mutex<TxQueue>,
    /// The burst that holds it; 0: none, or one that is just coming or going.
    holder: AtomicU32,
    /// The receive queue that comes next, and until when (see [`Turn`]), or which lately did not
    /// come; 0: whichever.
    next: AtomicU64,
}

/// A reservation: the receive queue, in the high half, and until when.
#[derive(Clone, Copy)]
struct Turn(u64);

impl Turn {
    fn new(who: u32, now: Nanos) -> Self {
        Self(u64::from(who) << 32 | u64::from(tick(now).wrapping_add(STANDS)))
    }

    fn is_of(self, who: u32) -> bool {
        self.0 >> 32 == u64::from(who)
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    fn stands(self, now: Nanos) -> bool {
        (1..=STANDS + SKEW).contains(&(self.0 as u32).wrapping_sub(tick(now)))
    }

    /// It ran out unused, and not long ago.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    fn is_unused(self, now: Nanos) -> bool {
        tick(now).wrapping_sub(self.0 as u32) < UNUSED
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a clock that comes round in an hour"
)]
fn tick(now: Nanos) -> u32 {
    (now >> 10) as u32
}

impl TxLock {
    pub(crate) fn new(queue: TxQueue) -> Self {
        Self {
            queue: Mutex::new(queue),
            holder: AtomicU32::new(0),
            next: AtomicU64::new(0),
        }
    }

    pub(crate) fn into_inner(self) -> TxQueue {
        self.queue
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// For a look, not for a burst: `None` while it is taken.
    pub(crate) fn look(&self) -> Option<MutexGuard<'_, TxQueue>> {
        self.queue.try_lock().ok()
    }

    /// For the rest of `burst` (not 0), which is from the receive queue `who`. [`TxLock::closes`]
    /// is called before the guard goes.
    #[inline(always)]
    pub(crate) fn open(&self, burst: u32, who: u32, now: Nanos) -> Option<MutexGuard<'_, TxQueue>> {
        match self.next.load(Ordering::Relaxed) {
            0 => self.take(burst),
            next => self.open_in_turn(Turn(next), burst, who, now),
        }
    }

    #[inline(always)]
    fn take(&self, burst: u32) -> Option<MutexGuard<'_, TxQueue>> {
        let queue = self.queue.try_lock().ok()?;
        // Relaxed, as all here: a hint for those who wait; what is behind the lock is ordered by
        // the lock.
        self.holder.store(burst, Ordering::Relaxed);
        Some(queue)
    }

    /// There is a reservation, which ends when the one it is for has come.
    #[cold]
    fn open_in_turn(
        &self,
        turn: Turn,
        burst: u32,
        who: u32,
        now: Nanos,
    ) -> Option<MutexGuard<'_, TxQueue>> {
        if turn.stands(now) && !turn.is_of(who) {
            return None;
        }
        let queue = self.take(burst)?;
        // Nobody clears what says that one was not used, not even whoever comes late.
        if !turn.is_unused(now) {
            let _ = self
                .next
                .compare_exchange(turn.0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        Some(queue)
    }

    /// The burst that holds it lets go.
    #[inline(always)]
    pub(crate) fn closes(&self) {
        self.holder.store(0, Ordering::Relaxed);
    }

    /// Which burst holds it; 0: that can't be said.
    pub(crate) fn holder(&self) -> u32 {
        self.holder.load(Ordering::Relaxed)
    }

    /// Tells the kernel of frames that it has not seen, and takes back the memory of those that are
    /// out. The queue is locked for moments only.
    pub(crate) fn flush(&self) -> Flushed {
        afxdp::flush(|| match &mut self.look()?.kind {
            TxKind::AfXdp(queue) => Some(queue.look()),
            _ => Some(afxdp::Look::NOTHING),
        })
    }

    /// Frames that were put there so far, counted in a number that wraps; `None`: it is locked now.
    pub(crate) fn n_put(&self) -> Option<u32> {
        match &self.look()?.kind {
            TxKind::AfXdp(queue) => Some(queue.n_put()),
            _ => Some(0),
        }
    }

    /// Whether as many have been completed. False also where it is locked now.
    pub(crate) fn has_completed(&self, n: u32) -> bool {
        self.look().is_some_and(|mut queue| match &mut queue.kind {
            TxKind::AfXdp(queue) => queue.has_completed(n),
            _ => true,
        })
    }

    /// Whoever was to flush it won't: the next to send there does. False: the queue is locked now.
    pub(crate) fn forget_flush(&self) -> bool {
        let Some(mut queue) = self.look() else {
            return false;
        };
        if let TxKind::AfXdp(queue) = &mut queue.kind {
            queue.forget_flush();
        }
        true
    }

    /// `who` found it taken, and is to come next, unless somebody else is, or lately somebody did
    /// not come.
    #[cold]
    pub(crate) fn reserve_turn(&self, who: u32, now: Nanos) {
        let before = self.next.load(Ordering::Relaxed);
        let may_reserve = match Turn(before) {
            Turn(0) => true,
            turn if turn.stands(now) => turn.is_of(who),
            turn => !turn.is_unused(now),
        };
        if may_reserve {
            let turn = Turn::new(who, now).0;
            let _ = self
                .next
                .compare_exchange(before, turn, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// `who` has no frame for the queue any more, so that others need not wait for it.
    #[cold]
    pub(crate) fn give_turn_back(&self, who: u32, now: Nanos) {
        let turn = Turn(self.next.load(Ordering::Relaxed));
        if turn.is_of(who) && turn.stands(now) {
            let _ = self
                .next
                .compare_exchange(turn.0, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
