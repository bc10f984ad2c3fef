//! Queues that are not looked at before their receiver has room.
//!
//! To read a burst, decide it and find that nothing of it can go takes a microsecond, turn after
//! turn, and many senders may wait for one slow receiver. So a queue of which all that is known
//! goes to one transmit queue without room only asks whether there is some now. That is a hint:
//! what it has to send is read and decided anew when there is, or a moment later, since what stands
//! in its ring may be another frame by then. The wait counts as any other: for whose turn it is,
//! and for when the receiver is stalled.

#![expect(clippy::cast_possible_truncation, reason = "numbers of ports")]

use std::cell::Cell;
use std::cmp::Ordering;

use flowtable::PortId;

use crate::blocked::room::RoomWait;
use crate::page_faults::PageFaults;
use crate::port::RxQueue;
use crate::port::views::{TXQS_MAX, Views, lock_at};
use crate::time::Nanos;

/// How long a queue is not looked at whose frames are all known: where they go may change.
const KNOWN_MAX: Nanos = 8_000_000;
/// The same where it is not yet known whether those behind the burst will be gone in time.
const UNKNOWN_MAX: Nanos = 1_000_000;

/// What was found in this turn, so that not every queue asks: a transmit queue without room, and
/// whose turn it is there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoRoom {
    pub(crate) found: Option<(usize, u32)>,
    /// The number of the turn.
    pub(crate) turn: u64,
}

/// A burst of the queue was held up, and all that there was time for was looked at behind it:
/// whether it is looked at again only when there is room.
#[cold]
#[inline(never)]
pub(crate) fn begin(rxq: &mut RxQueue, n_left: usize, now: Nanos) {
    let Some((slot, is_whole)) = rxq.room.at() else {
        return rxq.room.does_not_begin();
    };
    let n_waiting = rxq.n_waiting();
    let until = match usize::from(n_waiting).cmp(&n_left) {
        Ordering::Equal => now + KNOWN_MAX,
        Ordering::Greater
            if rxq
                .ahead
                .all_go_to(slot, (rxq.position(), n_left, n_waiting)) =>
        {
            now + KNOWN_MAX
        }
        Ordering::Greater if is_whole && rxq.ahead.is_fast() => now + UNKNOWN_MAX,
        // Of a tap it is not known what waits.
        _ => 0,
    };
    rxq.room.begin(n_waiting, until);
}

/// Whether a queue whose frames were held up goes on waiting for room, unseen.
#[cold]
#[inline(never)]
pub(crate) fn goes_on(
    rxq: &mut RxQueue,
    views: &Views,
    burst: u32,
    no_room: &mut NoRoom,
    faults: &mut PageFaults,
    now: Nanos,
) -> bool {
    let goes_on = rxq.room.waits_at(now).is_some_and(|(slot, n_known)| {
        let n_waiting = rxq.count_waiting(faults, now);
        n_waiting.is_some_and(|n| n <= n_known)
            && has_none(rxq, (slot, views), burst, no_room, faults, now)
    });
    if goes_on {
        rxq.ahead.stays(no_room.turn);
        // Its VM's limit is not what holds it back.
        rxq.gate.passed(now, true);
    } else {
        rxq.room = RoomWait::default();
    }
    goes_on
}

/// Whether there is no room there for this queue.
fn has_none(
    rxq: &mut RxQueue,
    (slot, views): (usize, &Views),
    burst: u32,
    no_room: &mut NoRoom,
    faults: &mut PageFaults,
    now: Nanos,
) -> bool {
    if no_room
        .found
        .is_some_and(|(full, next)| full == slot && next != rxq.who)
    {
        return true;
    }
    let Some(lock) = lock_at(views, slot) else {
        return false;
    };
    // A queue that finds another core there waits for the lock instead.
    let Some(mut txq) = lock.look() else {
        return false;
    };
    if txq.looks_open(&Cell::new(0), ((slot / TXQS_MAX) as PortId, faults), now) {
        return txq.next_sender.must_wait(rxq.who, now);
    }
    if txq.next_sender.is_paused_for_long(now)
        || !txq.next_sender.is_paused(now) && txq.is_stalled(now)
    {
        return false;
    }
    txq.next_sender.reserve(rxq.who, now);
    let next = txq.next_sender.holder(now);
    no_room.found = Some((slot, next));
    if next == rxq.who {
        rxq.hold.reserve(slot, burst);
    }
    true
}
