//! The policer: what of a burst a VM may get before its limit is used up. What is over it waits
//! ([`crate::limit::queue`]), or, where the limit has no queue, is dropped.

use super::one_way::Limit;
use crate::burst::Burst;
use crate::time::Nanos;

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Every frame of the burst, wherever in the VM it goes once: it is enough to charge them
    /// together when they have gone.
    All,
    /// So many of those that were asked about, to be charged before anything else is asked.
    Some(usize),
}

/// How many of the `n` frames from `k` on may go to a VM, the one that crosses its limit included.
/// `is_copy`: they may go to others of its NICs too, so the burst as a whole says nothing of them.
#[inline(always)]
pub(crate) fn pass(
    limit: &Limit,
    burst: &Burst,
    k: usize,
    n: usize,
    is_copy: bool,
    now: Nanos,
) -> Pass {
    let Ok(allowance) = limit.allowance(now) else {
        return Pass::Some(0);
    };
    let is_ample = allowance.n_bytes >= burst.sum_bytes && allowance.n_frames >= burst.n;
    // A frame that is to be cut up is charged for more than it is.
    if is_ample && burst.wishing == 0 && !is_copy {
        return Pass::All;
    }
    Pass::Some(burst.n_within(k, n, allowance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::limit::options::LimitOptions;
    use crate::virtio_net::Wishes;

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
        burst.wishing = 0b1111_1110;
        burst.wishes = [Wishes {
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
