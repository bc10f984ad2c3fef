//! What is in a blocked queue's ring behind its burst.
//!
//! A blocked frame may wait as long as nothing behind it could go, and what is in the burst does
//! not say that: a guest's own segmentation sends 44 frames in a row. So while a queue is blocked
//! and its burst shows nothing that could go, the core looks on, 32 frames at a time, each once:
//! where a frame ahead goes is remembered, by destination, until it has come into the burst. That
//! is a hint and no more: the frame is read and decided anew when it is its turn, so a guest that
//! rewrites its ring in between has lost a frame of its own.
//!
//! Where frames move on so fast that all that wait will be gone in time, nothing is looked at.
//!
//! What is looked at, and when, is in `poll::scan`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions in a ring are 16 bits"
)]

use arrayvec::ArrayVec;

use super::share::Share;
use crate::time::Nanos;

/// Destinations ahead that are told apart; behind more than these, something will be able to go.
const PLACES_MAX: usize = 16;
/// Turns after which a position may mean another lap of the ring: a turn takes a burst at most, and
/// positions are 16 bits.
const TURNS_MAX: u64 = 1000;
/// What each queue may save up, in nanoseconds of scanning.
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

/// Frames to one transmit queue: its place in `slots`, and where the last of them is.
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
            share: Share::new(SAVED_OF_QUEUE_MAX),
        }
    }
}

/// Whether a position is `from` or behind it.
fn is_behind(position: u16, from: u16) -> bool {
    position.wrapping_sub(from) < 1 << 15
}

impl Ahead {
    /// The queue goes to another core, whose turns have other numbers: nothing is known any more
    /// but what it has used of its time.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            share: self.share,
            ..Self::default()
        };
    }

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

    /// Whether frames may be behind the burst that are not looked at, since they will be gone in
    /// time.
    pub(crate) fn is_fast(&self) -> bool {
        !self.pace.is_slow
    }

    /// Whether more is to be looked at; not any more after this.
    pub(crate) fn takes_request(&mut self) -> bool {
        std::mem::take(&mut self.is_wanted)
    }

    /// More is to be looked at, of the queue whose position is `base` now. Its burst looks at so
    /// many frames itself.
    pub(crate) fn begin_look(&mut self, base: u16, n_in_burst: u16, n_rxqs: usize, now: Nanos) {
        let begin = base.wrapping_add(n_in_burst);
        if !is_behind(self.next, begin) {
            (self.next, self.from) = (begin, begin);
        }
        self.places.retain(|place| is_behind(place.last, base));
        self.any = self.any.filter(|&position| is_behind(position, base));
        self.share.earn(now, n_rxqs, SAVED_OF_QUEUE_MAX);
        self.n_refused = self.n_refused.saturating_add(1);
    }

    /// How far behind `base` the first frame is that was not looked at, and how many wait from
    /// there on, of `n_waiting` from `base` on. `None`: nothing more need be known.
    pub(crate) fn rest(&mut self, base: u16, n_waiting: u16) -> Option<(u16, u16)> {
        let from = self.next.wrapping_sub(base);
        let n = n_waiting.saturating_sub(from);
        if n == 0 || self.any.is_some() {
            self.unknown_since = None;
            return None;
        }
        Some((from, n))
    }

    /// Whether some of its part of the time is left.
    pub(crate) fn has_share(&self) -> bool {
        self.share.left > 0
    }

    /// A look was taken that cost so many nanoseconds.
    pub(crate) fn has_looked(&mut self, cost: i64) {
        self.n_refused = 0;
        self.share.left -= cost;
    }

    /// Frames are left that could not be looked at.
    pub(crate) fn leaves_unknown(&mut self, now: Nanos) {
        self.unknown_since.get_or_insert(now);
    }

    /// The frame `k` behind the first that was not looked at could go whatever is blocked.
    pub(crate) fn note_any(&mut self, k: u16) {
        self.any = Some(self.next.wrapping_add(k));
    }

    /// The same frame goes to a transmit queue.
    pub(crate) fn note_at(&mut self, k: u16, slot: usize) {
        self.note(slot, self.next.wrapping_add(k));
    }

    /// So many more frames were looked at.
    pub(crate) fn pass(&mut self, n: u16) {
        self.next = self.next.wrapping_add(n);
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
}
