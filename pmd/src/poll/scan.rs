//! The look at what is in a blocked queue's ring behind its burst: see [`crate::blocked::ahead`].
//!
//! **What it costs.** At most a hundredth of the core's time over all its queues, of which each
//! queue has its part and may have more while others leave half of what is saved up, so that one
//! that is scanned for ever hurts itself alone. Counted, not measured: [`FRAME_COST`] and
//! [`DESCRIPTOR_COST`] are what cold lines cost. A queue that may not be scanned now counts after
//! `UNKNOWN_MAX` as one with frames that could go.
#![expect(
    clippy::cast_possible_truncation,
    reason = "positions in a ring are 16 bits"
)]

use flowtable::{Action, Lookup};

use crate::blocked::ahead::Ahead;
use crate::blocked::share::Share;
use crate::burst::{BURST_MAX, Burst};
use crate::port::views::{Views, destination};
use crate::port::{PortView, RxQueue};
use crate::stats::CoreStats;
use crate::sys;
use crate::time::Nanos;

/// Bursts that are looked at ahead in one turn, of one queue and of all.
const CHUNKS_OF_QUEUE: usize = 4;
const CHUNKS_OF_TURN: usize = 64;
/// What a frame and a descriptor behind its first count against the budget, in nanoseconds.
const FRAME_COST: i64 = 60;
const DESCRIPTOR_COST: i64 = 10;
/// What may be saved up, in nanoseconds of scanning, by all queues of a core.
const SAVED_MAX: i64 = 10_000_000;
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
            share: Share::new(SAVED_MAX),
            turn: 0,
            n_chunks: 0,
        }
    }

    fn has_time_for(&self, ahead: &Ahead) -> bool {
        let least = if ahead.has_share() { 0 } else { SAVED_MAX / 2 };
        self.share.left > least
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
    stats: &CoreStats,
    now: Nanos,
) -> bool {
    if !rxq.ahead.takes_request() {
        return false;
    }
    let base = rxq.position();
    let n_waiting = rxq.n_waiting();
    let turn = stats.n_turns();
    if scanner.turn != turn {
        (scanner.turn, scanner.n_chunks) = (turn, 0);
    }
    scanner.share.earn(now, 1, SAVED_MAX);
    rxq.ahead.begin_look(base, BURST_MAX as u16, n_rxqs, now);
    for _ in 0..CHUNKS_OF_QUEUE {
        let Some((from, n)) = rxq.ahead.rest(base, n_waiting) else {
            return false;
        };
        if scanner.n_chunks == CHUNKS_OF_TURN || !scanner.has_time_for(&rxq.ahead) {
            break;
        }
        scanner.n_chunks += 1;
        let then = sys::cycles();
        look_at(rxq, from, n, &mut scanner.burst, lookup, view, views);
        let n_frames = scanner.burst.n as i64;
        let cost = FRAME_COST * n_frames + DESCRIPTOR_COST * scanner.burst.budget.n_spent() as i64;
        scanner.share.left -= cost;
        rxq.ahead.has_looked(cost);
        stats.scanned(sys::cycles().wrapping_sub(then), scanner.burst.n as u64);
    }
    rxq.ahead.leaves_unknown(now);
    scanner.has_time_for(&rxq.ahead)
}

/// Looks at the `n` frames `from` behind the queue's base, as far as a burst goes.
fn look_at(
    rxq: &mut RxQueue,
    from: u16,
    n: u16,
    burst: &mut Burst,
    lookup: &Lookup,
    view: &PortView,
    views: &Views,
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
        match burst.actions[k] {
            Action::Flood(_) => rxq.ahead.note_any(k as u16),
            Action::Unicast(_) => {
                if let Some(slot) = destination(views, rxq.tx_index, burst, k) {
                    rxq.ahead.note_at(k as u16, slot);
                }
            }
            // One that will be dropped waits as well as any other.
            Action::Drop(_) | Action::Refused(_) => {}
        }
    }
    // Where not one can be read, the queue ends: it is stopped when it comes to that.
    let n_done = if n_read == 0 { n } else { n_read as u16 };
    rxq.ahead.pass(n_done);
}
