//! Makes the pages that cores want, on a thread for each guest, so that no core waits for the
//! kernel to clear one, and no guest for another's file: a front-end can make whoever wants pages
//! of its file wait, by giving some of it back meanwhile.
//!
//! The thread begins with the guest's first mapping of large pages, sleeps while nothing is wanted,
//! and ends with the guest. What cores do to be heard is two atomic operations and, if it may be
//! asleep, a write to an eventfd.

use super::damage::Damage;
use super::presence::{Backing, Presence};
use crate::lock::lock;
use crate::sys::{self, Epoll, EventFd, userfault};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// A hole costs a core about ten microseconds, and milliseconds were seen, the cause of which is
/// not known, when one was put back every other millisecond. So a guest may have few, over all its
/// mappings, after what it has saved up.
const NS_A_HOLE: u64 = 50_000_000;
const HOLES_SAVED: u64 = 16;
/// The same for all guests together, in turn.
const NS_A_HOLE_OF_ALL: u64 = 10_000_000;
const HOLES_SAVED_OF_ALL: u64 = 64;

/// What all guests together have.
static OF_ALL: Mutex<Credit> = Mutex::new(Credit { paid_until: 0 });

/// Bytes of a pager's stack: there are many.
const STACK: usize = 1 << 18;

#[derive(Debug)]
struct Pager {
    wake: EventFd,
    is_called: AtomicBool,
    /// The guest has gone.
    is_over: AtomicBool,
    mappings: Mutex<Vec<Weak<Presence>>>,
}

/// Takes care of a mapping from now on. False: nobody will.
pub(super) fn attend(presence: &Arc<Presence>) -> bool {
    let Some(pager) = presence.account.pager.get_or_init(Pager::start) else {
        return false;
    };
    let mut mappings = lock(&pager.mappings);
    mappings.retain(|mapping| mapping.strong_count() > 0);
    mappings.push(Arc::downgrade(presence));
    true
}

/// Makes the pages of `len` bytes at `at` and grants them, on the caller's thread, which is
/// control's. Those of a ring, which cores touch without asking. If they can't be had, the memory
/// is marked so.
pub(super) fn grant_now(presence: &Presence, at: usize, len: usize) {
    let backing = lock(&presence.backing);
    for page in at >> presence.page_bits..=(at + len.max(1) - 1) >> presence.page_bits {
        if !make(presence, &backing, page) {
            presence.goes();
        }
    }
}

impl Pager {
    fn start() -> Option<Arc<Pager>> {
        let (wake, epoll) = (EventFd::new().ok()?, Epoll::new().ok()?);
        if !epoll.add(wake.as_fd()) {
            return None;
        }
        let (is_called, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let pager = Arc::new(Pager {
            wake,
            is_called,
            is_over,
            mappings: Mutex::default(),
        });
        let thread = std::thread::Builder::new()
            .name("weir-pager".to_owned())
            .stack_size(STACK);
        let its = pager.clone();
        thread.spawn(move || its.run(&epoll)).ok()?;
        Some(pager)
    }

    fn run(&self, epoll: &Epoll) {
        let mut next = None;
        while !self.is_over.load(Ordering::Acquire) {
            epoll.wait(next);
            self.wake.clear();
            // Whoever wants something from here on calls again.
            self.is_called.swap(false, Ordering::AcqRel);
            loop {
                // In a value of their own, so that nobody waits for a page to be made who has
                // another mapping.
                let mut mappings: Vec<_> = lock(&self.mappings)
                    .iter()
                    .filter_map(Weak::upgrade)
                    .collect();
                let pass = serve_one(&mut mappings, &OF_ALL);
                next = pass.due;
                if !pass.has_made {
                    break;
                }
            }
        }
    }
}

/// What a pass came to.
#[derive(Debug, Default)]
struct Pass {
    has_made: bool,
    /// After how many nanoseconds some page is due that had to wait.
    due: Option<u64>,
}

impl Pass {
    fn waits(&mut self, wait: u64) {
        self.due = Some(self.due.map_or(wait, |first| first.min(wait)));
    }
}

/// Makes one page that the guest wants, of its mappings first of that one which was served least
/// recently.
fn serve_one(mappings: &mut [Arc<Presence>], of_all: &Mutex<Credit>) -> Pass {
    mappings.sort_by_key(|presence| presence.served_at.load(Ordering::Relaxed));
    if let Some(presence) = mappings.first() {
        presence.account.forgive(sys::monotonic_ns());
    }
    let mut pass = Pass::default();
    pass.has_made = mappings
        .iter()
        .any(|presence| serve(presence, of_all, &mut pass));
    pass
}

/// Makes one page that is wanted of a mapping. False: none is, or has to wait, or can be had.
fn serve(presence: &Presence, of_all: &Mutex<Credit>, pass: &mut Pass) -> bool {
    for page in presence.wanted() {
        let backing = lock(&presence.backing);
        if backing.has_ended || presence.is_gone() {
            return false;
        }
        if presence.is_hole(page) {
            let wait = presence.account.take_turn(sys::monotonic_ns(), of_all);
            if wait > 0 {
                pass.waits(wait);
                continue;
            }
        }
        presence.take_wanted(page);
        if !make(presence, &backing, page) {
            presence.goes();
            return false;
        }
        enter_neighbours(presence, &backing, page);
        presence.served();
        return true;
    }
    false
}

/// Makes one page, puts it back where a hole is, and grants it. False: it can't be had.
fn make(presence: &Presence, backing: &Backing, page: usize) -> bool {
    if presence.has(page) {
        return true;
    }
    let len = 1usize << presence.page_bits;
    let (base, offset) = (
        backing.base + (page << presence.page_bits),
        backing.offset + ((page as u64) << presence.page_bits),
    );
    // It must not be made behind the end of a file that was cut short.
    let is_inside = backing
        .file
        .metadata()
        .is_ok_and(|facts| offset + len as u64 <= facts.len());
    if !is_inside || userfault::allocate(&backing.file, offset, len as u64).is_err() {
        return false;
    }
    if presence.is_hole(page) {
        // SAFETY: a whole page inside a mapping that has not ended, as its lock is held; what is
        // there are empty pages.
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
        // SAFETY: a page inside a mapping that has not ended: `has` says yes to those beyond its
        // end.
        if !presence.has(page) && unsafe { userfault::enter(base, 1 << presence.page_bits) } {
            presence.grant(page);
        }
    }
}

/// What one guest may have put back, over all its mappings, whatever regions it takes away and adds
/// again.
#[derive(Debug, Default)]
pub(super) struct Account {
    credit: Mutex<Credit>,
    /// When it may have the next one put back: its turn among all guests, paid for already.
    turn: Mutex<Option<u64>>,
    /// Holes that count against [`super::presence::HOLES_MAX`].
    n_holes: AtomicUsize,
    /// Those of them whose mapping has ended: they count until they could have been put back.
    n_orphans: AtomicUsize,
    /// Pages made for it so far.
    n_served: AtomicU64,
    /// Of whom mappings of large pages are; none: the process can have no more files or threads.
    pager: OnceLock<Option<Arc<Pager>>>,
    /// Of all its mappings, of small pages too.
    pub(super) damage: Arc<Damage>,
}

impl Account {
    /// Whether one page may be put back now, which is paid for then: 0; or after how many
    /// nanoseconds to ask again. A guest's turn stays its own however many others ask meanwhile.
    fn take_turn(&self, now: u64, of_all: &Mutex<Credit>) -> u64 {
        let mut credit = lock(&self.credit);
        let wait = credit.wait(now, NS_A_HOLE, HOLES_SAVED);
        if wait > 0 {
            return wait;
        }
        let mut turn = lock(&self.turn);
        let at = *turn
            .get_or_insert_with(|| lock(of_all).reserve(now, NS_A_HOLE_OF_ALL, HOLES_SAVED_OF_ALL));
        if at <= now {
            *turn = None;
            credit.pay(NS_A_HOLE);
        }
        at.saturating_sub(now)
    }

    /// Of a guest for whom no pager can be started.
    #[cfg(test)]
    pub(super) fn without_pager() -> Self {
        let account = Self::default();
        account.pager.get_or_init(|| None);
        account
    }

    /// Something is wanted. For cores and for the signal handler: waits for nobody.
    pub(super) fn wake(&self) {
        if let Some(Some(pager)) = self.pager.get()
            && !pager.is_called.swap(true, Ordering::AcqRel)
        {
            pager.wake.signal();
        }
    }

    pub(super) fn n_holes(&self) -> usize {
        self.n_holes.load(Ordering::Relaxed)
    }

    pub(super) fn has_hole(&self) {
        self.n_holes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_mended(&self) {
        self.n_holes.fetch_sub(1, Ordering::Relaxed);
    }

    /// A mapping ended that had so many.
    pub(super) fn orphan(&self, n: usize) {
        self.n_orphans.fetch_add(n, Ordering::Relaxed);
    }

    /// A page was made: the number of it.
    pub(super) fn served(&self) -> u64 {
        self.n_served.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Holes of mappings that have ended count no longer, as far as there is credit for them.
    fn forgive(&self, now: u64) {
        while self.n_orphans.load(Ordering::Relaxed) > 0 {
            let mut credit = lock(&self.credit);
            if credit.wait(now, NS_A_HOLE, HOLES_SAVED) > 0 {
                return;
            }
            credit.pay(NS_A_HOLE);
            self.n_orphans.fetch_sub(1, Ordering::Relaxed);
            self.n_holes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        // Guests that come and go would else take all turns.
        if lock(&self.turn).is_some() {
            lock(&OF_ALL).give_back(NS_A_HOLE_OF_ALL);
        }
        if let Some(Some(pager)) = self.pager.get() {
            pager.is_over.store(true, Ordering::Release);
            pager.wake.signal();
        }
    }
}

/// What may be spent at a steady rate, after what was saved: a time in the future that grows with
/// every payment.
#[derive(Debug, Default)]
pub(super) struct Credit {
    paid_until: u64,
}

impl Credit {
    /// How long the next payment has to wait, at `price` nanoseconds each, of which `n_saved` may
    /// be had at once.
    fn wait(&mut self, now: u64, price: u64, n_saved: u64) -> u64 {
        self.paid_until = self.paid_until.max(now);
        (self.paid_until + price).saturating_sub(now + price * n_saved)
    }

    fn pay(&mut self, price: u64) {
        self.paid_until += price;
    }

    /// Pays for the next time at which it may be spent, and gives that.
    fn reserve(&mut self, now: u64, price: u64, n_saved: u64) -> u64 {
        let at = now + self.wait(now, price, n_saved);
        self.pay(price);
        at
    }

    fn give_back(&mut self, price: u64) {
        self.paid_until = self.paid_until.saturating_sub(price);
    }
}

#[cfg(test)]
#[path = "pager_tests.rs"]
mod tests;
