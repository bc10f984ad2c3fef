//! The gate before a receive queue: shut while the limit on what its VM sends is used up.
//!
//! A queue whose gate is shut is not looked at, so that a VM far over its limit costs its core
//! nothing; what it has to send stays in its ring. A gate stays shut for at least [`SHUT_MIN`], so
//! that not every frame is let through alone.
//!
//! **Fairness among the queues of one VM**, on whatever cores: each is paced. One that was let
//! through stays shut for the time that what it took takes at the VM's rate, times the number of
//! the VM's queues that wait. So none can take more than its part as long as others want theirs,
//! and these find something left. A queue that comes late, since cores look only once a turn, is
//! not late for its next time too: else what is not taken in time would add up.

use std::sync::Arc;

use super::vm::VmLimits;
use crate::amount::Allowance;
use crate::burst::Burst;
use crate::time::Nanos;

/// How long a gate stays shut at least: a two-hundredth of the ten milliseconds over which a limit
/// shall be exact.
pub const SHUT_MIN: Nanos = 50_000;

/// One receive queue's gate. Belongs to the core that polls the queue.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    limits: Option<Arc<VmLimits>>,
    opens_at: Nanos,
    /// Up to when what it took is paid for, at its part of the rate.
    paid_until: Nanos,
    /// Since when frames are known to wait behind it; none: none are.
    waiting_since: Option<Nanos>,
    /// The limit has been reached since the queue was last empty.
    is_binding: bool,
}

impl Gate {
    /// Of a queue of the VM whose limits these are; where there are none, always open.
    pub(crate) fn new(limits: Option<Arc<VmLimits>>) -> Self {
        let limits = limits.filter(|limits| limits.from_vm.is_on());
        Self {
            limits,
            ..Self::default()
        }
    }

    /// When it opens, if it is shut.
    #[inline(always)]
    pub(crate) fn shut_until(&self, now: Nanos) -> Option<Nanos> {
        (now < self.opens_at).then_some(self.opens_at)
    }

    /// What may be taken now from an open gate.
    ///
    /// # Errors
    /// Nothing may: when to look again. The caller shuts the gate.
    #[inline(always)]
    pub(crate) fn allowance(&self, now: Nanos) -> Result<Allowance, Nanos> {
        match &self.limits {
            None => Ok(Allowance::ALL),
            Some(limits) => limits
                .from_vm
                .allowance(now)
                .map_err(|wait| now.saturating_add(wait)),
        }
    }

    /// The first `n` frames of the burst were taken. Gives when more may be, if none may now; the
    /// caller shuts the gate.
    #[inline(always)]
    pub(crate) fn charge(&mut self, now: Nanos, burst: &Burst, n: usize) -> Option<Nanos> {
        let limits = self.limits.as_ref()?;
        let limit = &limits.from_vm;
        let amount = burst.amount_taken(n);
        match limit.charge(now, amount) {
            0 => None,
            wait => {
                let paid_from = self.paid_until.max(now.saturating_sub(SHUT_MIN));
                self.paid_until = paid_from.saturating_add(limits.pace(limit, amount));
                Some(now.saturating_add(wait.max(SHUT_MIN)).max(self.paid_until))
            }
        }
    }

    /// Shuts it. `has_more`: frames wait behind it.
    #[cold]
    pub(crate) fn shut(&mut self, now: Nanos, opens_at: Nanos, has_more: bool) {
        self.count_waiting(now);
        // It may be paused for longer, for another reason: then it isn't the limit that it waits
        // for.
        let is_paused = self.opens_at > opens_at;
        self.opens_at = self.opens_at.max(opens_at);
        self.is_binding = true;
        if let Some(limits) = self.limits.as_ref().filter(|_| has_more && !is_paused) {
            limits.begin_waiting();
            self.waiting_since = Some(now);
        }
    }

    /// What the queue has to send waits for something other than the limit: it isn't looked at
    /// before `opens_at`.
    #[cold]
    pub(crate) fn pause(&mut self, opens_at: Nanos) {
        if opens_at > self.opens_at {
            // Until then it would have been for the limit, if it was.
            self.count_waiting(self.opens_at);
            self.opens_at = opens_at;
        }
    }

    /// Its VM's limits have changed, or others are its VM's now: it opens, to see what may be taken
    /// by those.
    #[cold]
    pub(crate) fn renew(&mut self, limits: Option<&Arc<VmLimits>>, now: Nanos) {
        self.count_waiting(now);
        self.limits = limits.filter(|limits| limits.from_vm.is_on()).cloned();
        (self.paid_until, self.is_binding) = (0, false);
        self.look_again(now);
    }

    /// What it waits for may have changed.
    #[cold]
    pub(crate) fn look_again(&mut self, now: Nanos) {
        self.opens_at = self.opens_at.min(now);
    }

    /// It was open, and the queue looked at.
    #[inline(always)]
    pub(crate) fn passed(&mut self, now: Nanos, found_frames: bool) {
        if self.is_binding {
            self.count_waiting(now);
            self.is_binding = found_frames;
        }
    }

    /// Whether the limit has been reached since the queue was last empty.
    #[inline(always)]
    pub(crate) fn is_binding(&self) -> bool {
        self.is_binding
    }

    #[cold]
    fn count_waiting(&mut self, now: Nanos) {
        if let (Some(since), Some(limits)) = (self.waiting_since.take(), &self.limits) {
            limits.end_waiting(since, now);
        }
    }
}

/// A queue that goes away waits no longer.
impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(since) = self.waiting_since {
            self.count_waiting(since);
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
