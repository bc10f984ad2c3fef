//! What stands in a blocked queue's ring behind its burst.
//!
//! A blocked frame may wait as long as nothing behind it could go, and what stands within the burst
//! does not say that: a guest's own segmentation sends 44 frames in a row. So while a queue is
//! blocked and its burst shows nothing that could go, the core looks on, 32 frames at a time, each
//! once: where a frame ahead goes is remembered, by destination, until it has come into the burst.
//! That is a hint and no more: the frame is read and decided anew when it is its turn, so a guest
//! that rewrites its ring in between has lost a frame of its own.
//!
//! Where frames move on so fast that all that wait will be gone in time, nothing is looked at.
//!
//! **What it costs.** At most a hundredth of the core's time over all its queues, of which each
//! queue has its part and may have more while others leave half of what is saved up, so that one
//! that is scanned for ever hurts itself alone. Counted, not measured: [`FRAME_COST`] and
//! [`DESCRIPTOR_COST`] are what cold lines cost. A queue that may not be scanned now counts after
//! [`UNKNOWN_MAX`] as one with frames that could go.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions in a ring are 16 bits"
)]

use crate::burst::{BURST_MAX, Burst};
use crate::port::{PortView, RxQueue};
use crate::send::Views;
use crate::send::destination;
use crate::stats::CoreStats;
use crate::sys;
use crate::time::Nanos;
use arrayvec::ArrayVec;
use flowtable::{Action, Lookup};

/// Destinations ahead that are told apart; behind more than these, something will be able to go.
const PLACES_MAX: usize = 16;
/// Turns after which a position may mean another lap of the ring: a turn takes a burst at most, and
/// positions are 16 bits.
const TURNS_MAX: u64 = 1000;
/// Bursts that are looked at ahead in one turn, of one queue and of all.
const CHUNKS_OF_QUEUE: usize = 4;
const CHUNKS_OF_TURN: usize = 64;
/// What a frame and a descriptor behind its first count against the budget, in nanoseconds.
const FRAME_COST: i64 = 60;
const DESCRIPTOR_COST: i64 = 10;
/// What may be saved up, in nanoseconds of scanning: by all queues of a core, and by each.
const SAVED_MAX: i64 = 10_000_000;
const SAVED_OF_QUEUE_MAX: i64 = 200_000;
/// For how long a queue waits to be scanned before it counts as one with frames that could go.
const UNKNOWN_MAX: Nanos = 4_000_000;
/// In so many turns at least it must have been in vain: a core that was preempted meanwhile had no
/// time to look.
const REFUSED_MIN: u32 = 3;
/// How long a queue's pace is taken, and the time in which all that wait in it must be gone at that
/// pace.
const PACE_TIME: Nanos = 1_000_000;
const GONE_MAX: Nanos = 6_000_000;
/// A pace that was taken so long ago says nothing.
const PACE_OLD: Nanos = 20_000_000;

/// A part of the time that passes, saved up to a bound.
#[derive(Clone, Copy, Debug)]
struct Share {
    left: i64,
    then: Nanos,
}

impl Share {
    fn earn(&mut self, now: Nanos, n_parts: usize, max: i64) {
        // A second is more than enough to earn all that can be saved.
        let passed = i64::try_from(now.saturating_sub(self.then))
            .unwrap_or(i64::MAX)
            .min(1_000_000_000);
        let earned = passed / (100 * i64::try_from(n_parts.max(1)).unwrap_or(i64::MAX));
        // What is less than a nanosecond goes on being earned.
        if earned > 0 {
            self.left = (self.left + earned).min(max);
            self.then = now;
        }
    }
}

/// What a core scans with, for all its queues.
#[derive(Debug)]
pub(crate) struct Scanner {
    burst: Box<Burst>,
    share: Share,
    turn: u64,
    n_chunks: usize,
}

impl Scanner {
    pub(crate) fn new() -> Self {
        Self {
            burst: Box::default(),
            share: Share {
                left: SAVED_MAX,
                then: 0,
            },
            turn: 0,
            n_chunks: 0,
        }
    }

    fn has_time_for(&self, ahead: &Ahead) -> bool {
        let least = if ahead.share.left > 0 {
            0
        } else {
            SAVED_MAX / 2
        };
        self.share.left > least
    }
}

/// Frames to one transmit queue: its place in `slots`, and where the last of them stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: usize,
    last: u16,
}

/// How fast a queue's frames go, since when, from which position on.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    since: Nanos,
    from: u16,
    is_slow: bool,
}

impl Pace {
    /// Whether the `n_waiting` frames from `base` on will take too long.
    fn is_slow(&mut self, base: u16, n_waiting: u16, now: Nanos) -> bool {
        let passed = now.saturating_sub(self.since);
        if passed >= PACE_OLD {
            *self = Self {
                since: now,
                from: base,
                is_slow: false,
            };
        } else if passed >= PACE_TIME {
            let n_gone = base.wrapping_sub(self.from);
            let is_slow = u64::from(n_gone) * GONE_MAX < u64::from(n_waiting) * passed;
            *self = Self {
                since: now,
                from: base,
                is_slow,
            };
        }
        self.is_slow
    }
}

/// What one receive queue's core knows of the frames behind its burst. Positions are those of the
/// ring, modulo 2^16.
#[derive(Debug)]
pub(crate) struct Ahead {
    places: ArrayVec<Place, PLACES_MAX>,
    /// The last frame that could go whatever is blocked: a flood, or one to yet another
    /// destination.
    any: Option<u16>,
    /// The first frame that was not looked at.
    next: u16,
    /// From where on those before it were.
    from: u16,
    /// When that was so.
    turn: u64,
    /// Nothing that is known could go: to be looked on.
    is_wanted: bool,
    pace: Pace,
    /// A frame that was found to be able to go, by its place in the burst; behind it, all that are
    /// known of; and what was blocked, when.
    found: (usize, Option<usize>, Nanos),
    /// Since when frames wait that could not be looked at, and in how many turns since not one was.
    unknown_since: Option<Nanos>,
    n_refused: u32,
    share: Share,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            places: ArrayVec::new(),
            any: None,
            next: 0,
            from: 0,
            turn: 0,
            is_wanted: false,
            pace: Pace::default(),
            found: (0, None, 0),
            unknown_since: None,
            n_refused: 0,
            share: Share {
                left: SAVED_OF_QUEUE_MAX,
                then: 0,
            },
        }
    }
}

/// Whether a position stands at `from` or behind it.
fn is_behind(position: u16, from: u16) -> bool {
    position.wrapping_sub(from) < 1 << 15
}

impl Ahead {
    /// Whether a frame behind the burst, of `n` from `base` on, could go elsewhere than to
    /// `blocked`, by what is known. If not, more is looked at when the burst is over. `n_waiting`:
    /// frames from `base` on. `has_room` says whether a transmit queue would take a frame.
    pub(crate) fn could_go(
        &mut self,
        (base, n, n_waiting): (u16, usize, u16),
        blocked: Option<usize>,
        (turn, now): (u64, Nanos),
        mut has_room: impl FnMut(usize) -> bool,
    ) -> bool {
        let from = base.wrapping_add(n as u16);
        self.forget_old(from, turn);
        self.is_wanted = false;
        if usize::from(n_waiting) <= n || !self.pace.is_slow(base, n_waiting, now) {
            self.unknown_since = None;
            return false;
        }
        if self.any.is_some_and(|position| is_behind(position, from)) {
            return true;
        }
        let mut behind = self
            .places
            .iter()
            .filter(|place| is_behind(place.last, from));
        if behind.any(|place| Some(place.slot) != blocked && has_room(place.slot)) {
            return true;
        }
        self.is_wanted = true;
        let is_over = |since| now.saturating_sub(since) >= UNKNOWN_MAX;
        self.n_refused >= REFUSED_MIN && self.unknown_since.is_some_and(is_over)
    }

    /// Whether it was found before, in this burst, that a frame behind `k` could go while `blocked`
    /// is.
    pub(crate) fn knows(&self, k: usize, blocked: Option<usize>, now: Nanos) -> bool {
        let (at, then_blocked, then) = self.found;
        at > k && then_blocked == blocked && then == now
    }

    /// That was looked for. Gives whether it was found.
    pub(crate) fn remember(
        &mut self,
        found: Option<usize>,
        blocked: Option<usize>,
        now: Nanos,
    ) -> bool {
        self.found = (found.unwrap_or(0), blocked, now);
        found.is_some()
    }

    /// Frames before `position` were dropped since others could go: no pace of the queue's own.
    pub(crate) fn dropped(&mut self, position: u16, now: Nanos) {
        (self.pace.since, self.pace.from) = (now, position);
    }

    /// Whether all that waits behind the first `n` frames from `base` on, of `n_waiting`, is known
    /// to go to one transmit queue.
    pub(crate) fn all_go_to(&self, slot: usize, (base, n, n_waiting): (u16, usize, u16)) -> bool {
        let is_known = self.pace.is_slow
            && self.any.is_none()
            && is_behind(base.wrapping_add(n as u16), self.from)
            && is_behind(self.next, base)
            && self.next.wrapping_sub(base) >= n_waiting;
        let mut behind = self
            .places
            .iter()
            .filter(|place| is_behind(place.last, base));
        is_known && behind.all(|place| place.slot == slot)
    }

    /// The queue is not read in this turn, so positions stay what they are.
    pub(crate) fn stays(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// Whether frames may stand behind the burst that are not looked at, since they will be gone in
    /// time.
    pub(crate) fn is_fast(&self) -> bool {
        !self.pace.is_slow
    }

    /// Positions of another lap mean nothing any more.
    fn forget_old(&mut self, from: u16, turn: u64) {
        if turn.wrapping_sub(self.turn) >= TURNS_MAX {
            self.places.clear();
            (self.any, self.unknown_since, self.next, self.from) = (None, None, from, from);
        }
        self.turn = turn;
    }

    fn note(&mut self, slot: usize, last: u16) {
        if let Some(place) = self.places.iter_mut().find(|place| place.slot == slot) {
            place.last = last;
        } else if self.places.try_push(Place { slot, last }).is_err() {
            self.any = Some(last);
        }
    }
}

/// The first part of the burst was dealt with, and what is behind it waits: looks further into the
/// queue's ring, if that is wanted and there is time for it. Gives whether the next turn may look
/// on at once.
#[cold]
#[inline(never)]
pub(crate) fn look_on(
    rxq: &mut RxQueue,
    n_rxqs: usize,
    scanner: &mut Scanner,
    lookup: &Lookup,
    (view, views): (&PortView, &Views),
    (core, stats): (usize, &CoreStats),
    now: Nanos,
) -> bool {
    if !std::mem::take(&mut rxq.ahead.is_wanted) {
        return false;
    }
    let base = rxq.position();
    let n_waiting = rxq.n_waiting();
    let ahead = &mut rxq.ahead;
    // The next burst looks at so many itself.
    let begin = base.wrapping_add(BURST_MAX as u16);
    if !is_behind(ahead.next, begin) {
        (ahead.next, ahead.from) = (begin, begin);
    }
    ahead.places.retain(|place| is_behind(place.last, base));
    ahead.any = ahead.any.filter(|&position| is_behind(position, base));
    let turn = stats.n_turns();
    if scanner.turn != turn {
        (scanner.turn, scanner.n_chunks) = (turn, 0);
    }
    scanner.share.earn(now, 1, SAVED_MAX);
    ahead.share.earn(now, n_rxqs, SAVED_OF_QUEUE_MAX);
    ahead.n_refused = ahead.n_refused.saturating_add(1);
    for _ in 0..CHUNKS_OF_QUEUE {
        let from = rxq.ahead.next.wrapping_sub(base);
        let n = n_waiting.saturating_sub(from);
        if n == 0 || rxq.ahead.any.is_some() {
            rxq.ahead.unknown_since = None;
            return false;
        }
        if scanner.n_chunks == CHUNKS_OF_TURN || !scanner.has_time_for(&rxq.ahead) {
            break;
        }
        scanner.n_chunks += 1;
        rxq.ahead.n_refused = 0;
        let then = sys::cycles();
        look_at(
            rxq,
            from,
            n,
            &mut scanner.burst,
            lookup,
            view,
            (core, views),
        );
        let n_frames = scanner.burst.n as i64;
        let cost = FRAME_COST * n_frames + DESCRIPTOR_COST * scanner.burst.budget.n_spent() as i64;
        scanner.share.left -= cost;
        rxq.ahead.share.left -= cost;
        stats.scanned(sys::cycles().wrapping_sub(then), scanner.burst.n as u64);
    }
    rxq.ahead.unknown_since.get_or_insert(now);
    scanner.has_time_for(&rxq.ahead)
}

/// Looks at the `n` frames that stand `from` behind the queue's base, as far as a burst goes.
fn look_at(
    rxq: &mut RxQueue,
    from: u16,
    n: u16,
    burst: &mut Burst,
    lookup: &Lookup,
    view: &PortView,
    (core, views): (usize, &Views),
) {
    rxq.peek_ahead(from, usize::from(n).min(BURST_MAX), burst);
    let n_read = burst.n;
    lookup.foresee(
        &view.ingress,
        &burst.headers[..n_read],
        &burst.lens[..n_read],
        &mut burst.actions[..n_read],
    );
    for k in 0..n_read {
        let position = rxq.ahead.next.wrapping_add(k as u16);
        match burst.actions[k] {
            Action::Flood(_) => rxq.ahead.any = Some(position),
            Action::Unicast(_) => {
                if let Some(slot) = destination(views, core, burst, k) {
                    rxq.ahead.note(slot, position);
                }
            }
            // One that will be dropped waits as well as any other.
            Action::Drop(_) | Action::Refused(_) => {}
        }
    }
    // Where not one can be read, the queue ends: it is stopped when it comes to that.
    let n_done = if n_read == 0 { n } else { n_read as u16 };
    rxq.ahead.next = rxq.ahead.next.wrapping_add(n_done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_ends_when_its_frame_has_come_into_the_burst_and_a_lap_later() {
        let mut ahead = Ahead::default();
        ahead.note(5, 100);
        ahead.pace.is_slow = true;
        let mut could_go =
            |from, blocked, turn| ahead.could_go((from, 0, 99), Some(blocked), (turn, 0), |_| true);
        assert!(could_go(65_500, 4, 1) && could_go(100, 4, 2));
        assert!(!could_go(100, 5, 3), "it goes where the blocked one goes");
        assert!(!could_go(101, 4, 4));
        assert!(could_go(90, 4, 5));
        assert!(
            !could_go(90, 4, 5 + TURNS_MAX),
            "a ring may have come round"
        );
    }

    #[test]
    fn destination_without_room_is_none_that_a_frame_could_go_to() {
        let mut ahead = Ahead::default();
        (0..3).for_each(|slot| ahead.note(slot, 100));
        ahead.pace.is_slow = true;
        let mut could_go =
            |open: usize| ahead.could_go((30, 20, 99), Some(0), (1, 0), |slot| slot == open);
        assert!(could_go(2) && could_go(1));
        assert!(!could_go(0) && !could_go(3));
    }

    #[test]
    fn among_more_destinations_than_are_told_apart_one_will_do() {
        let mut ahead = Ahead::default();
        (0..PLACES_MAX).for_each(|slot| ahead.note(slot, 100));
        ahead.pace.is_slow = true;
        assert!(!ahead.could_go((50, 0, 99), None, (1, 0), |_| false));
        ahead.note(PLACES_MAX, 101);
        assert!(ahead.could_go((50, 0, 99), None, (1, 0), |_| false));
        assert!(!ahead.could_go((102, 0, 99), None, (1, 0), |_| false));
    }

    #[test]
    fn what_was_looked_at_before_the_burst_says_nothing_of_what_is_behind_it() {
        let mut ahead = Ahead {
            next: 1_032,
            from: 1_000,
            ..Ahead::default()
        };
        ahead.pace.is_slow = true;
        assert!(ahead.all_go_to(5, (1_000, 0, 32)) && !ahead.all_go_to(5, (1_000, 0, 33)));
        assert!(
            !ahead.all_go_to(5, (1_040, 0, 33)),
            "none of them was looked at"
        );
        ahead.note(4, 1_031);
        assert!(!ahead.all_go_to(5, (1_000, 0, 32)));
    }

    #[test]
    fn queue_is_slow_if_what_waits_will_not_be_gone_in_time() {
        let mut pace = Pace::default();
        let mut is_slow = |ms: u64, base| pace.is_slow(base, 1024, 1_000_000_000 + ms * 1_000_000);
        assert!(!is_slow(0, 65_000), "nothing is known yet");
        assert!(!is_slow(1, 65_171), "171 in a millisecond are 1,026 in six");
        assert!(is_slow(2, 65_341), "and 170 are not");
        assert!(is_slow(3, 65_341));
        assert!(!is_slow(4, 65_600_u32 as u16));
        assert!(!is_slow(40, 65_600_u32 as u16), "that was too long ago");
    }

    #[test]
    fn part_of_the_time_is_a_hundredth_and_that_of_one_of_many_queues_less() {
        let mut share = Share { left: 0, then: 0 };
        (1..=1_000_000).for_each(|at| share.earn(at * 1_000, 1, i64::MAX));
        assert_eq!(share.left, 10_000_000);
        let mut share = Share { left: 0, then: 0 };
        (1..=1_000_000).for_each(|at| share.earn(at * 1_000, 64, i64::MAX));
        assert!((140_000..=156_250).contains(&share.left), "{}", share.left);
        share.earn(3_600 * 1_000_000_000, 1, SAVED_OF_QUEUE_MAX);
        assert_eq!(share.left, SAVED_OF_QUEUE_MAX);
    }
}
