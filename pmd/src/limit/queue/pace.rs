//! Whose turn it is at a limit that several senders wait at: queues of held frames and rings, on
//! whatever cores.
//!
//! As queues of one VM are paced at the limit on what it sends ([`crate::limit::gate`]): who was
//! served stays away for the time that what it sent takes at the limit's rate, times the number of
//! those who wait. One that waits and does not come for its part must cost no other the rate: what
//! has been left over for longer than the VM's slack may be used by any.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::limit::gate::SHUT_MIN;
use crate::limit::one_way::Limit;
use crate::limit::vm::VmLimits;
use crate::limit::vm_queue::VmQueue;
use crate::time::Nanos;

/// A place among those that wait at what a VM may get. Counted as long as it lives.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<VmLimits>);

impl Waiting {
    /// None: what is over this limit never waits.
    pub(crate) fn new(limits: &Arc<VmLimits>) -> Option<Self> {
        limits.held()?.1.n_waiting.fetch_add(1, Ordering::Relaxed);
        Some(Self(limits.clone()))
    }

    /// The limit, and what is held at it.
    pub(crate) fn at(&self) -> Option<(&Limit, &VmQueue)> {
        self.0.held()
    }

    /// Whether it is at this VM's.
    pub(crate) fn is_at(&self, limits: &Arc<VmLimits>) -> bool {
        Arc::ptr_eq(&self.0, limits)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((_, queue)) = self.0.held() {
            queue.n_waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// When one of them has had its part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    base: Nanos,
    /// The time that what it sent last takes at the limit's rate.
    cost: Nanos,
}

impl Pace {
    /// It has sent what takes so long.
    pub(crate) fn served(&mut self, now: Nanos, cost: Nanos, n_waiting: u64) {
        // One that comes late, since cores look only once a turn, is not late for its next time
        // too.
        *self = Self {
            base: self.until(n_waiting).max(now.saturating_sub(SHUT_MIN)),
            cost,
        };
    }

    fn until(&self, n_waiting: u64) -> Nanos {
        if n_waiting > 1 {
            self.base
                .saturating_add(self.cost.saturating_mul(n_waiting))
        } else {
            self.base
        }
    }

    /// When it may send again, as far as is known now.
    pub(crate) fn opens_at(&self, now: Nanos, limit: &Limit, queue: &VmQueue) -> Nanos {
        let first = now.saturating_add(limit.allowance(now).err().unwrap_or(0));
        let turn = match queue.n_waiting() {
            0 | 1 => first,
            n_waiting => self.until(n_waiting),
        };
        let left_over = now.saturating_add(limit.until_saved(now, queue.slack()));
        first.max(turn.min(left_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::limit::options::{LimitOptions, QueueOptions};

    const MS: Nanos = 1_000_000;

    #[test]
    fn those_who_wait_get_equal_parts_and_one_who_does_not_come_costs_nothing() {
        for (n_waiting, n_coming) in [(1, 1), (2, 2), (4, 4), (4, 1), (10, 3)] {
            let to_vm = LimitOptions {
                bits_per_sec: Some(100_000_000),
                queue: Some(QueueOptions {
                    time: 20 * MS,
                    bytes_max: 1 << 20,
                }),
                ..LimitOptions::default()
            };
            let limits = Arc::new(VmLimits::new(LimitOptions::default(), to_vm));
            let places: Vec<_> = (0..n_waiting)
                .map(|_| Waiting::new(&limits).unwrap())
                .collect();
            let (limit, queue) = limits.held().unwrap();
            let start = 1000 * MS;
            limit.charge(
                start,
                Amount {
                    n_frames: 0,
                    n_bytes: 65_536,
                },
            );
            let mut paces = vec![(Pace::default(), 0u64); n_coming];
            for step in 0..100_000 {
                let now = start + step * 10_000;
                for (pace, sum) in &mut paces {
                    if now < pace.opens_at(now, limit, queue) {
                        continue;
                    }
                    if limit.allowance(now).is_ok() {
                        limit.charge(
                            now,
                            Amount {
                                n_frames: 1,
                                n_bytes: 1514,
                            },
                        );
                        pace.served(
                            now,
                            limit.time(Amount {
                                n_frames: 1,
                                n_bytes: 1514,
                            }),
                            queue.n_waiting(),
                        );
                        *sum += 1514;
                    }
                }
            }
            let all: u64 = paces.iter().map(|(_, sum)| sum).sum();
            assert!(
                (12_350_000..12_570_000).contains(&all),
                "{n_coming} of {n_waiting}: {all} bytes in a second"
            );
            let (least, most) = (
                paces.iter().map(|p| p.1).min().unwrap(),
                paces.iter().map(|p| p.1).max().unwrap(),
            );
            assert!(
                n_coming < n_waiting || least * 10 >= most * 9,
                "{least} and {most}"
            );
            drop(places);
            assert_eq!(queue.n_waiting(), 0);
        }
    }
}
