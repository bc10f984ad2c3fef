//! The limit on what a VM gets, while a burst is sent to one of its queues: what of the burst may
//! go, and what is charged for that. What is over the limit waits ([`super::queue`]), or, where the
//! limit has no queue, is dropped.

use super::one_way::Limit;
use crate::amount::Amount;
use crate::burst::Burst;
use crate::time::Nanos;

/// How the limit is checked and charged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OutLimit<'a> {
    /// There is no limit.
    None,
    /// About each frame, or those that go together.
    Each(&'a Limit),
    /// Once: it lets the whole burst pass, wherever in the VM that goes, and is charged for what
    /// went when that is done.
    Whole(&'a Limit),
}

impl<'a> OutLimit<'a> {
    /// Of a burst of which nothing went there yet.
    #[inline(always)]
    pub(crate) fn new(limit: Option<&'a Limit>) -> Self {
        limit.map_or(Self::None, Self::Each)
    }

    /// The limit, if it has to be checked before more may go.
    #[inline(always)]
    pub(crate) fn to_ask(self) -> Option<&'a Limit> {
        match self {
            Self::Each(limit) => Some(limit),
            Self::None | Self::Whole(_) => None,
        }
    }

    /// How many of the `n` frames from `k` on may go, the one that crosses the limit included.
    /// `may_be_whole`: the burst as a whole may be let pass: nothing of it went there yet, and
    /// these are no copies, which may go to others of the VM's NICs too.
    #[inline(always)]
    pub(crate) fn admit(
        &mut self,
        burst: &Burst,
        k: usize,
        n: usize,
        may_be_whole: bool,
        now: Nanos,
    ) -> usize {
        let Self::Each(limit) = *self else {
            return n;
        };
        let Ok(allowance) = limit.allowance(now) else {
            return 0;
        };
        let is_ample = allowance.n_bytes >= burst.sum_bytes && allowance.n_frames >= burst.n;
        // A frame that is to be cut up is charged for more than it is.
        if is_ample && burst.with_offload == 0 && may_be_whole {
            *self = Self::Whole(limit);
            return n;
        }
        burst.n_within(k, n, allowance)
    }

    /// The `n` frames from `k` on got places: charges them, unless the whole burst is charged once.
    #[inline(always)]
    pub(crate) fn charge(self, burst: &Burst, k: usize, n: usize, now: Nanos) {
        if let Self::Each(limit) = self {
            limit.charge(now, burst.amount(k, n));
        }
    }

    /// So much of the burst went: charges that, if it was let pass as a whole.
    #[inline(always)]
    pub(crate) fn settle(self, amount: Amount, now: Nanos) {
        if let Self::Whole(limit) = self {
            limit.charge(now, amount);
        }
    }

    /// Charges the `frames` that got places so far if the burst was let pass as a whole. Copies of
    /// a frame are more than the burst has, so each is checked from now on.
    #[cold]
    pub(crate) fn settle_before_copies(&mut self, burst: &Burst, frames: u32, now: Nanos) {
        let Self::Whole(limit) = *self else {
            return;
        };
        let lens = (0..burst.n).filter(|k| frames >> k & 1 != 0);
        let amount = Amount {
            n_frames: frames.count_ones().into(),
            n_bytes: lens.map(|k| u64::from(burst.lens[k])).sum(),
        };
        self.settle(amount, now);
        *self = Self::Each(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::limit::options::LimitOptions;
    use crate::virtio_net::Offload;

    /// What may go.
    #[derive(Debug, PartialEq, Eq)]
    enum Pass {
        /// Every frame of the burst, to be charged together.
        All,
        /// So many of those that were checked.
        Some(usize),
    }

    fn pass(limit: &Limit, burst: &Burst, k: usize, n: usize, is_copy: bool, now: Nanos) -> Pass {
        let mut out = OutLimit::new(Some(limit));
        let n_admitted = out.admit(burst, k, n, !is_copy, now);
        match out {
            OutLimit::Whole(_) => Pass::All,
            _ => Pass::Some(n_admitted),
        }
    }

    const START: Nanos = 1_000_000_000;

    /// 64 packets and 64 KiB saved up.
    fn limit() -> Limit {
        let options = LimitOptions {
            bits_per_sec: Some(8_000_000),
            packets_per_sec: Some(1000),
            burst_bytes: None,
            queue: None,
        };
        Limit::new(options).unwrap()
    }

    fn burst(lens: &[u32]) -> Box<Burst> {
        let mut burst = Box::<Burst>::default();
        burst.n = lens.len();
        lens.iter()
            .enumerate()
            .for_each(|(k, &len)| burst.add_len(k, len));
        burst
    }

    #[test]
    fn burst_within_the_limit_passes_as_a_whole_but_for_copies() {
        assert_eq!(
            pass(&limit(), &burst(&[1514; 32]), 3, 1, false, START),
            Pass::All
        );
        assert_eq!(
            pass(&limit(), &burst(&[1514; 32]), 3, 1, true, START),
            Pass::Some(1)
        );
    }

    #[test]
    fn frame_that_crosses_the_limit_passes_and_none_behind_it() {
        let limit = limit();
        limit.charge(
            START,
            Amount {
                n_frames: 0,
                n_bytes: 65_536 - 2000,
            },
        );
        assert_eq!(
            pass(&limit, &burst(&[1514; 32]), 3, 20, false, START),
            Pass::Some(2)
        );
        limit.charge(
            START,
            Amount {
                n_frames: 62,
                n_bytes: 0,
            },
        );
        let left = limit.allowance(START).unwrap().n_frames;
        assert!((2..=3).contains(&left), "{left}: a tick more is one more");
        assert_eq!(
            pass(&limit, &burst(&[60; 20]), 0, 20, false, START),
            Pass::Some(left)
        );
        limit.charge(
            START,
            Amount {
                n_frames: 3,
                n_bytes: 0,
            },
        );
        assert_eq!(
            pass(&limit, &burst(&[60]), 0, 1, false, START),
            Pass::Some(0)
        );
    }

    #[test]
    fn frame_that_is_to_be_cut_up_is_looked_at_by_itself() {
        // The first is one packet; of each behind it become 31, of 66 bytes of headers and 100 of
        // payload.
        const BECOMES: u64 = 31 * (66 + 100);
        let mut burst = burst(&[66 + 31 * 100; 8]);
        burst.with_offload = 0b1111_1110;
        burst.offloads = [Offload {
            needs_csum: true,
            gso_type: 1,
            gso_size: 100,
            csum_start: 34,
            csum_offset: 16,
        }; 32];
        (0..8).for_each(|k| burst.headers[k].0[34 + 12] = 8 << 4);
        assert_eq!(
            burst.amount(1, 1),
            Amount {
                n_frames: 31,
                n_bytes: BECOMES
            }
        );
        // Packets: 1 + 31 + 31 are below 64, and the next crosses that.
        assert_eq!(pass(&limit(), &burst, 0, 8, false, START), Pass::Some(4));
        // Bytes: two of them are below what is left, and the next crosses that.
        let limit = limit();
        limit.charge(
            START,
            Amount {
                n_frames: 0,
                n_bytes: 65_536 - (2 * BECOMES + 100),
            },
        );
        assert_eq!(pass(&limit, &burst, 1, 7, false, START), Pass::Some(3));
    }
}
