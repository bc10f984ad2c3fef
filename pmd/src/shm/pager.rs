//! Makes the pages that cores want, on a thread of its own, so that no core waits for the kernel to clear one.
//!
//! The thread begins with the first mapping of large pages and sleeps while nothing is wanted. What cores do to be heard is two atomic
//! operations and, if it may be asleep, a write to an eventfd.

use super::presence::{Backing, Presence};
use crate::sys::{self, Epoll, EventFd, userfault};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// A hole costs a core about ten microseconds, and milliseconds were seen, the cause of which is not known, when one was put
/// back every other millisecond. So a mapping may have few, after what it has saved up.
const NS_A_HOLE: u64 = 50_000_000;
const HOLES_SAVED: u64 = 16;
/// The same for all mappings together.
const NS_A_HOLE_OF_ALL: u64 = 10_000_000;
const HOLES_SAVED_OF_ALL: u64 = 64;

struct Pager {
    wake: EventFd,
    is_called: AtomicBool,
    mappings: Mutex<Vec<Weak<Presence>>>,
}

/// None: the process can have no more files or threads.
static PAGER: OnceLock<Option<&'static Pager>> = OnceLock::new();

/// Takes care of a mapping from now on. False: nobody will.
pub(super) fn attend(presence: &Arc<Presence>) -> bool {
    let Some(pager) = PAGER.get_or_init(Pager::start) else { return false };
    let mut mappings = lock(&pager.mappings);
    mappings.retain(|mapping| mapping.strong_count() > 0);
    mappings.push(Arc::downgrade(presence));
    true
}

/// Something is wanted. For cores and for the signal handler: waits for nobody.
pub(super) fn wake() {
    if let Some(Some(pager)) = PAGER.get()
        && !pager.is_called.swap(true, Ordering::AcqRel)
    {
        pager.wake.signal();
    }
}

/// Makes the pages of `len` bytes at `at` and grants them, on the caller's thread, which is control's. Those of a ring, which cores touch without
/// asking. If they can't be had, the memory is marked so.
pub(super) fn grant_now(presence: &Presence, at: usize, len: usize) {
    let backing = lock(&presence.backing);
    for page in at >> presence.page_bits..=(at + len.max(1) - 1) >> presence.page_bits {
        if !make(presence, &backing, page) {
            presence.is_gone.store(true, Ordering::Release);
        }
    }
}

/// A lock whatever became of who had it: what it guards is whole between any two steps.
pub(super) fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pager {
    fn start() -> Option<&'static Pager> {
        let (wake, epoll) = (EventFd::new().ok()?, Epoll::new().ok()?);
        if !epoll.add(wake.as_fd()) {
            return None;
        }
        let pager: &Pager =
            Box::leak(Box::new(Pager { wake, is_called: AtomicBool::new(false), mappings: Mutex::default() }));
        let thread = std::thread::Builder::new().name("weir-pager".to_owned());
        thread.spawn(move || pager.run(&epoll)).ok()?;
        Some(pager)
    }

    fn run(&self, epoll: &Epoll) {
        let mut credit = Credit::default();
        let mut next = None;
        loop {
            epoll.wait(next);
            self.wake.clear();
            // Whoever wants something from here on calls again.
            self.is_called.swap(false, Ordering::AcqRel);
            // In a value of their own, so that nobody waits for a page to be made who has another mapping.
            let mappings: Vec<_> = lock(&self.mappings).iter().filter_map(Weak::upgrade).collect();
            next = mappings.iter().filter_map(|presence| serve(presence, &mut credit)).min();
        }
    }
}

/// Makes what is wanted of one mapping; gives after how many nanoseconds some page is due that had to wait.
fn serve(presence: &Presence, of_all: &mut Credit) -> Option<u64> {
    let mut due = None;
    for page in presence.take_wanted() {
        let mut backing = lock(&presence.backing);
        if backing.has_ended || presence.is_gone() {
            return None;
        }
        if presence.is_hole(page) {
            let now = sys::monotonic_ns();
            let wait = backing.credit.wait(now, NS_A_HOLE, HOLES_SAVED).max(of_all.wait(
                now,
                NS_A_HOLE_OF_ALL,
                HOLES_SAVED_OF_ALL,
            ));
            if wait > 0 {
                presence.want(page);
                due = Some(due.map_or(wait, |first: u64| first.min(wait)));
                continue;
            }
            backing.credit.pay(NS_A_HOLE);
            of_all.pay(NS_A_HOLE_OF_ALL);
        }
        if !make(presence, &backing, page) {
            presence.is_gone.store(true, Ordering::Release);
            return None;
        }
        enter_neighbours(presence, &backing, page);
    }
    due
}

/// Makes one page, puts it back where a hole is, and grants it. False: it can't be had.
fn make(presence: &Presence, backing: &Backing, page: usize) -> bool {
    if presence.has(page) {
        return true;
    }
    let len = 1usize << presence.page_bits;
    let (base, offset) =
        (backing.base + (page << presence.page_bits), backing.offset + ((page as u64) << presence.page_bits));
    // It must not be made behind the end of a file that was cut short.
    let is_inside = backing.file.metadata().is_ok_and(|facts| offset + len as u64 <= facts.len());
    if !is_inside || userfault::allocate(&backing.file, offset, len as u64).is_err() {
        return false;
    }
    if presence.is_hole(page) {
        // SAFETY: a whole page inside a mapping that has not ended, as its lock is held; what is there are empty pages.
        if unsafe { userfault::map_over(base, &backing.file, offset, len) }.is_err() {
            return false;
        }
        if backing.is_told {
            userfault::tell_by_signal(base, len);
        }
        presence.mend(page);
    }
    // SAFETY: as above. If it was taken away again already, the core will hear of it.
    unsafe { userfault::enter(base, len) };
    presence.grant(page);
    true
}

/// Grants the pages around one that are there already, which makes none.
fn enter_neighbours(presence: &Presence, backing: &Backing, page: usize) {
    if !backing.is_told {
        return;
    }
    for page in (page / 64 * 64..page / 64 * 64 + 64).filter(|&page| !presence.is_hole(page)) {
        let base = backing.base + (page << presence.page_bits);
        // SAFETY: a page inside a mapping that has not ended: `has` says yes to those beyond its end.
        if !presence.has(page) && unsafe { userfault::enter(base, 1 << presence.page_bits) } {
            presence.grant(page);
        }
    }
}

/// What may be spent at a steady rate, after what was saved: a time in the future that grows with every payment.
#[derive(Debug, Default)]
pub(super) struct Credit {
    paid_until: u64,
}

impl Credit {
    /// How long the next payment has to wait, at `price` nanoseconds each, of which `n_saved` may be had at once.
    fn wait(&mut self, now: u64, price: u64, n_saved: u64) -> u64 {
        self.paid_until = self.paid_until.max(now);
        (self.paid_until + price).saturating_sub(now + price * n_saved)
    }

    fn pay(&mut self, price: u64) {
        self.paid_until += price;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_goes_at_once_and_the_rest_at_a_steady_rate() {
        let (mut credit, mut now, mut n) = (Credit::default(), 1_000_000_000, 0);
        let end = now + 1_000_000;
        while now < end {
            match credit.wait(now, 1000, 8) {
                0 => {
                    credit.pay(1000);
                    n += 1;
                }
                wait => now += wait,
            }
        }
        assert!((1000..=1009).contains(&n), "{n}");
        assert_eq!(credit.wait(end + 1_000_000_000, 1000, 8), 0);
    }
}
