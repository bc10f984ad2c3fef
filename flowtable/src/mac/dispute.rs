//! Decides who has an address that a guest and the wire both send from.
//!
//! The address stays where it is until the other side has *claimed* it three times within a second
//! while the holder sent nothing. A claim counts if it is at least [`GAP`] after the last one. So a
//! guest's broadcasts that the fabric sends back right after it sent them prove nothing, however
//! many they are, and a thief that sends a million frames a second has to wait until the owner has
//! been silent for two gaps. (A guest that QEMU migrated here announces itself 0, 50, 200, 450 and
//! 800 ms after it resumed.)
//!
//! The holder's frames hit the flow caches, which writes nothing. So the first claim bumps the
//! entry's sequence: the holder's next frame takes the slow path, which ends the claim. That
//! happens at most once a gap and address.
//!
//! *Firm* claims are not ended by frames of the holder. They are frames that the holder can't have
//! sent, and count against a port that took the address from the wire a short time ago
//! ([`crate::mac::owner`]): its owner there may have been silent by chance.

/// Ticks of claims are 2 to this power nanoseconds, about a millisecond.
pub const TICK_SHIFT: u32 = 20;
/// Ticks from one claim that counts to the next.
pub(crate) const GAP: u32 = 180;
/// Ticks from the first of three claims to the last, at most.
const WITHIN: u32 = 954;
/// Cores read the clock at different times: a claim may seem this much older than the one before
/// it.
const SLACK: u32 = 64;
/// Claims that prove the address.
const ENOUGH: u64 = 3;

/// The state of an address's dispute. As a word: tick of the last claim that counted, whether the
/// claims are firm, their number, ticks since the first of them, and the port that claims. Zero:
/// there never was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dispute(pub(crate) u64);

const N_SHIFT: u32 = 28;
const N_MASK: u64 = 3 << N_SHIFT;
const FIRM: u64 = 1 << 30;

/// Result of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is too close to the one before, or another port's claim is not over.
    Ignored,
    /// It counts. `is_first`: the holder's frames must be noticed from now on.
    Counts { after: Dispute, is_first: bool },
    /// It is the third.
    Proven { after: Dispute },
}

impl Dispute {
    fn new(last: u32, span: u32, n: u64, by: u16) -> Self {
        Self(u64::from(last) << 32 | n << N_SHIFT | u64::from(span & 0xfff) << 16 | u64::from(by))
    }

    /// No dispute, of an address that is away from this port.
    pub(crate) fn owned(port: u16) -> Self {
        Self(port.into())
    }

    /// The port that claims, or the owner of an address that is away.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn by(self) -> u16 {
        self.0 as u16
    }

    /// Claims that counted since the holder last sent.
    pub(crate) fn n_claims(self) -> u64 {
        (self.0 & N_MASK) >> N_SHIFT
    }

    fn is_firm(self) -> bool {
        self.0 & FIRM != 0
    }

    fn firm_if(self, is_firm: bool) -> Self {
        Self(self.0 | if is_firm { FIRM } else { 0 })
    }

    /// The holder sent.
    pub(crate) fn heard(self) -> Self {
        if self.is_firm() {
            self
        } else {
            Self(self.0 & !N_MASK)
        }
    }

    /// Port `by` sends from the address.
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn claim(self, by: u16, tick: u32, is_firm: bool) -> Claim {
        let first = Claim::Counts {
            after: Self::new(tick, 0, 1, by).firm_if(is_firm),
            is_first: true,
        };
        // The holder's own frames, sent back by the fabric, must not delay firm claims: those begin
        // at once.
        if self.0 == 0 || is_firm && !self.is_firm() {
            return first;
        }
        let since = tick.wrapping_sub((self.0 >> 32) as u32);
        if self.is_firm() && !is_firm && since.wrapping_add(SLACK) <= WITHIN + SLACK {
            return Claim::Ignored;
        }
        if since.wrapping_add(SLACK) < GAP + SLACK {
            return Claim::Ignored;
        }
        let span = ((self.0 >> 16) as u32 & 0xfff).saturating_add(since);
        let n = self.n_claims();
        if n == 0 || span > WITHIN {
            return first;
        }
        match self.by() == by {
            false => Claim::Ignored,
            true if n + 1 == ENOUGH => Claim::Proven {
                after: Self::new(tick, 0, 0, by),
            },
            true => Claim::Counts {
                after: Self::new(tick, span, n + 1, by).firm_if(is_firm),
                is_first: false,
            },
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Claims of port 1 at these ticks, what is heard of the holder at `heard`; when it was proven.
    fn proven_at(claims: &[u32], heard: &[u32]) -> Option<u32> {
        let mut dispute = Dispute(0);
        let mut events: Vec<_> = claims
            .iter()
            .map(|&at| (at, true))
            .chain(heard.iter().map(|&at| (at, false)))
            .collect();
        events.sort_unstable();
        for (at, is_claim) in events {
            if !is_claim {
                dispute = dispute.heard();
                continue;
            }
            match dispute.claim(1, at, false) {
                Claim::Ignored => {}
                Claim::Counts { after, .. } => dispute = after,
                Claim::Proven { .. } => return Some(at),
            }
        }
        None
    }

    #[test]
    fn three_claims_within_a_second_are_a_proof_and_two_are_not() {
        assert_eq!(proven_at(&[1000, 1200, 1400], &[]), Some(1400));
        assert_eq!(proven_at(&[1000, 1200], &[]), None);
        assert_eq!(
            proven_at(&[1000, 1500, 2000], &[]),
            None,
            "more than a second"
        );
        assert_eq!(proven_at(&[1000, 1500, 2000, 2200, 2400], &[]), Some(2400));
    }

    #[test]
    fn announcements_of_a_guest_that_was_migrated_are_a_proof() {
        let ms = |ms: u32| 5000 + ms * 1_000_000 / (1 << TICK_SHIFT);
        assert_eq!(
            proven_at(&[0, 50, 200, 450, 800].map(ms), &[]),
            Some(ms(450))
        );
    }

    #[test]
    fn holder_that_sends_in_between_keeps_it_however_many_claims_there_are() {
        let claims: Vec<_> = (0..100_000).collect();
        let heard: Vec<_> = (0..100_000).step_by(2 * GAP as usize).collect();
        assert_eq!(proven_at(&claims, &heard), None);
        assert_eq!(
            proven_at(&claims, &[]),
            Some(2 * GAP),
            "and a silent one is outlived, not outrun"
        );
    }

    #[test]
    fn what_comes_back_of_a_burst_counts_once() {
        let back: Vec<_> = (3000..3000 + GAP).flat_map(|at| [at; 100]).collect();
        assert_eq!(proven_at(&back, &[2999]), None);
    }

    #[test]
    fn claim_is_one_ports_until_it_is_over() {
        let Claim::Counts {
            after,
            is_first: true,
        } = Dispute(0).claim(1, 1000, false)
        else {
            panic!()
        };
        assert_eq!(after.claim(2, 1000 + GAP, false), Claim::Ignored);
        assert!(matches!(
            after.claim(2, 1000 + WITHIN + 1, false),
            Claim::Counts { is_first: true, .. }
        ));
        assert!(matches!(
            after.heard().claim(2, 1000 + GAP, false),
            Claim::Counts { is_first: true, .. }
        ));
        assert_eq!(
            after.heard().claim(1, 1001, false),
            Claim::Ignored,
            "the entry is bumped once a gap at most"
        );
    }

    #[test]
    fn clocks_wrap_and_differ_a_little() {
        let near = u32::MAX - 10;
        assert_eq!(proven_at(&[near], &[]), None);
        let Claim::Counts { after, .. } = Dispute(0).claim(1, near, false) else {
            panic!()
        };
        assert_eq!(
            after.claim(1, near - 3, false),
            Claim::Ignored,
            "a core whose clock was read before"
        );
        let Claim::Counts { after, .. } = after.claim(1, near.wrapping_add(GAP), false) else {
            panic!()
        };
        assert!(matches!(
            after.claim(1, near.wrapping_add(2 * GAP), false),
            Claim::Proven { .. }
        ));
    }

    #[test]
    fn firm_claims_count_whatever_the_holder_sends_and_others_hold_them_up_as_little() {
        let mut dispute = Dispute(0);
        for at in 1000..1000 + GAP {
            // What is sent back of the holder's, ten times a tick, and the holder.
            for _ in 0..10 {
                if let Claim::Counts { after, .. } = dispute.claim(1, at, false) {
                    dispute = after;
                }
            }
            dispute = dispute.heard();
        }
        let mut proven = None;
        for at in 1000 + GAP..1000 + 4 * GAP {
            if (at - 1000) % GAP == 0 {
                match dispute.claim(1, at, true) {
                    Claim::Ignored => {}
                    Claim::Counts { after, .. } => dispute = after,
                    Claim::Proven { .. } => proven = proven.or(Some(at)),
                }
            }
            assert!(proven.is_some() || dispute.claim(1, at, false) == Claim::Ignored);
            dispute = dispute.heard();
        }
        assert_eq!(proven, Some(1000 + 3 * GAP));
        // And when they are over, others count again.
        assert!(matches!(
            dispute.claim(1, 1000 + 10 * GAP, false),
            Claim::Counts { is_first: true, .. }
        ));
    }
}
