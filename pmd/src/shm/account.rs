//! What one guest may have put back of the pages that it took away, and where its pager is told.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use super::damage::Damage;
use crate::lock::lock;
use crate::sys::EventFd;

/// A hole costs a core about ten microseconds, and milliseconds were seen, the cause of which is
/// not known, when one was put back every other millisecond. So a guest may have few, over all its
/// mappings, after what it has saved up.
pub(super) const NS_A_HOLE: u64 = 50_000_000;
pub(super) const HOLES_SAVED: u64 = 16;
/// The same for all guests together, in turn.
pub(super) const NS_A_HOLE_OF_ALL: u64 = 10_000_000;
pub(super) const HOLES_SAVED_OF_ALL: u64 = 64;

/// What all guests together have.
pub(super) static OF_ALL: Mutex<Credit> = Mutex::new(Credit { paid_until: 0 });

/// Where a guest's pager is told what is wanted, of which mappings (`M`).
#[derive(Debug)]
pub(super) struct Desk<M> {
    pub(super) wake: EventFd,
    pub(super) is_called: AtomicBool,
    /// The guest has gone.
    pub(super) is_over: AtomicBool,
    pub(super) mappings: Mutex<Vec<Weak<M>>>,
}

/// What one guest may have put back, over all its mappings, whatever regions it takes away and adds
/// again.
#[derive(Debug)]
pub(super) struct Account<M> {
    pub(super) credit: Mutex<Credit>,
    /// When it may have the next one put back: its turn among all guests, paid for already.
    turn: Mutex<Option<u64>>,
    /// Holes that count against `presence::HOLES_MAX`.
    n_holes: AtomicUsize,
    /// Those of them whose mapping has ended: they count until they could have been put back.
    n_orphans: AtomicUsize,
    /// Pages that were put back and are mappings of their own since.
    n_apart: AtomicUsize,
    /// Pages made for it so far.
    n_served: AtomicU64,
    /// Of whom mappings of large pages are; none: the process can have no more files or threads.
    pub(super) pager: OnceLock<Option<Arc<Desk<M>>>>,
    /// Of all its mappings, of small pages too.
    pub(super) damage: Arc<Damage>,
}

// Written out, since the derived one would ask for mappings that have a default.
impl<M> Default for Account<M> {
    fn default() -> Self {
        Self {
            credit: Mutex::default(),
            turn: Mutex::default(),
            n_holes: AtomicUsize::default(),
            n_orphans: AtomicUsize::default(),
            n_apart: AtomicUsize::default(),
            n_served: AtomicU64::default(),
            pager: OnceLock::default(),
            damage: Arc::default(),
        }
    }
}

impl<M> Account<M> {
    /// Whether one page may be put back now, which is paid for then: 0; or after how many
    /// nanoseconds to ask again. A guest's turn stays its own however many others ask meanwhile.
    pub(super) fn take_turn(&self, now: u64, of_all: &Mutex<Credit>) -> u64 {
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

    /// Something is wanted. For cores and for the signal handler: it never waits.
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

    pub(super) fn n_apart(&self) -> usize {
        self.n_apart.load(Ordering::Relaxed)
    }

    pub(super) fn is_apart(&self) {
        self.n_apart.fetch_add(1, Ordering::Relaxed);
    }

    /// So many are mappings of their own no more.
    pub(super) fn are_joined(&self, n: usize) {
        self.n_apart.fetch_sub(n, Ordering::Relaxed);
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
    pub(super) fn forgive(&self, now: u64) {
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

impl<M> Drop for Account<M> {
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
    pub(super) paid_until: u64,
}

impl Credit {
    /// How long the next payment has to wait, at `price` nanoseconds each, of which `n_saved` may
    /// be had at once.
    pub(super) fn wait(&mut self, now: u64, price: u64, n_saved: u64) -> u64 {
        self.paid_until = self.paid_until.max(now);
        (self.paid_until + price).saturating_sub(now + price * n_saved)
    }

    pub(super) fn pay(&mut self, price: u64) {
        self.paid_until += price;
    }

    /// Pays for the next time at which it may be spent, and gives that.
    pub(super) fn reserve(&mut self, now: u64, price: u64, n_saved: u64) -> u64 {
        let at = now + self.wait(now, price, n_saved);
        self.pay(price);
        at
    }

    pub(super) fn give_back(&mut self, price: u64) {
        self.paid_until = self.paid_until.saturating_sub(price);
    }
}
