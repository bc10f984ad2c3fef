//! Which pages of a mapping a core may touch.
//!
//! A large page that its file doesn't have yet is made by the thread that touches it first: the
//! kernel clears two megabytes, or a gigabyte, and all others that the core serves wait. So a core
//! leads no address into such a mapping before the page was *granted*: it marks the page as wanted,
//! leaves the frame where it is, and goes on; `pager` makes the page on a thread of its own and
//! grants it. A page is wanted because the guest posted a buffer there, so no memory is made
//! without need.
//!
//! A front-end may take a granted page away again (a balloon, free pages that the guest reported,
//! malice). Touching it then raises SIGBUS where the kernel can tell by signal (`sys::userfault`);
//! the handler puts empty pages over that one page, a *hole*, and the pager puts the file's back,
//! at a bounded rate for each guest. More holes of a guest at a time than [`HOLES_MAX`], and all of
//! the mapping counts as damaged. A page that was put back stays a mapping of its own, as the
//! kernel joins none of large pages; where there are too many of those, the file is mapped anew.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::account;
use crate::lock::lock;

/// Holes of one guest at a time, about ten microseconds of a core's each.
pub(crate) const HOLES_MAX: usize = 32;
/// Holes of all guests together: each makes two mappings more of one, and the kernel allows a
/// process so many.
const HOLES_MAX_OF_ALL: usize = 2048;
static N_HOLES: AtomicUsize = AtomicUsize::new(0);
/// Pages of one guest that were put back and are mappings of their own.
const APART_MAX: usize = 32;
/// The same of all guests together: two mappings more for each, as with holes.
const APART_MAX_OF_ALL: usize = 1024;
/// Pages that are mapped anew at once, aligned: the kernel lets nobody change the process's
/// mappings for about a tenth of a microsecond each. Where two such stretches meet, two mappings
/// do.
const STRETCH: usize = 8192;
static N_APART: AtomicUsize = AtomicUsize::new(0);

/// A guest's, for all its mappings.
pub(super) type Account = account::Account<Presence>;

/// Words of bits that are looked at on either side of a page's own: what it costs to find a place
/// must not grow with what its guest was ever granted. Of pages of two megabytes, a gigabyte.
const WORDS_BESIDE: usize = 4;

/// The pages of one mapping, a bit each. Cores and the signal handler use it without a lock.
#[derive(Debug)]
pub(crate) struct Presence {
    pub(super) page_bits: u32,
    n_pages: usize,
    granted: Box<[AtomicU64]>,
    wanted: Box<[AtomicU64]>,
    holes: Box<[AtomicU64]>,
    /// Pages that were put back since what is around them was mapped: each is a mapping of its own.
    apart: Box<[AtomicU64]>,
    /// Of the guest, for all its mappings.
    pub(super) account: Arc<Account>,
    /// The number of the page that was made of it last, among the guest's.
    pub(super) served_at: AtomicU64,
    /// Holes that there were so far.
    n_lost: AtomicU64,
    /// A page can't be had: the file is shorter by now, or there is no memory.
    is_gone: AtomicBool,
    pub(super) backing: Mutex<Backing>,
}

/// What the pager needs, and what the end of the mapping changes.
#[derive(Debug)]
pub(super) struct Backing {
    pub(super) file: File,
    /// Where in the file the mapping begins.
    pub(super) offset: u64,
    pub(super) base: usize,
    /// Touching what is not there raises a signal.
    pub(super) is_told: bool,
    /// Ended: other mappings may have these addresses.
    pub(super) has_ended: bool,
}

impl Presence {
    /// Of `len` bytes at `base`, pages of `page` bytes (a power of two), none granted.
    pub(super) fn new(
        file: File,
        offset: u64,
        base: usize,
        len: usize,
        page: usize,
        is_told: bool,
        account: Arc<Account>,
    ) -> Self {
        let n_pages = len >> page.trailing_zeros();
        let bits = || {
            (0..n_pages.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect()
        };
        Self {
            page_bits: page.trailing_zeros(),
            n_pages,
            granted: bits(),
            wanted: bits(),
            holes: bits(),
            apart: bits(),
            account,
            served_at: AtomicU64::new(0),
            n_lost: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
            backing: Mutex::new(Backing {
                file,
                offset,
                base,
                is_told,
                has_ended: false,
            }),
        }
    }

    /// The granted bytes around byte `at` of the mapping, as far as [`WORDS_BESIDE`] tells, from
    /// and to; none: its page is not granted.
    pub(super) fn granted_around(&self, at: usize) -> Option<(usize, usize)> {
        let page = at >> self.page_bits;
        if !is_set(&self.granted, page) {
            return None;
        }
        let (mut first, mut end) = (page, page + 1);
        let word = page / 64;
        let least = word.saturating_sub(WORDS_BESIDE) * 64;
        let most = ((word + 1 + WORDS_BESIDE) * 64).min(self.n_pages);
        while first > least {
            // Of the word that the page before lies in, those up to it.
            let word =
                self.granted[(first - 1) / 64].load(Ordering::Acquire) << (63 - (first - 1) % 64);
            let n = word.leading_ones() as usize;
            first -= n.min((first - 1) % 64 + 1);
            if n == 0 || !first.is_multiple_of(64) {
                break;
            }
        }
        while end < most {
            let word = self.granted[end / 64].load(Ordering::Acquire) >> (end % 64);
            let n = word.trailing_ones() as usize;
            end += n.min(64 - end % 64);
            if n == 0 || !end.is_multiple_of(64) {
                break;
            }
        }
        Some((
            first << self.page_bits,
            end.min(self.n_pages) << self.page_bits,
        ))
    }

    /// Whether every page of `len` bytes at `at` is granted; those that aren't are asked for.
    #[cold]
    pub(super) fn is_granted(&self, at: usize, len: usize) -> bool {
        let mut is_whole = true;
        for page in at >> self.page_bits..=(at + len.max(1) - 1) >> self.page_bits {
            if !is_set(&self.granted, page) {
                is_whole = false;
                if !set(&self.wanted, page) {
                    self.account.wake();
                }
            }
        }
        is_whole
    }

    /// For the signal handler: whether the page around byte `at` may be lost and put back. False:
    /// too many of this guest's were taken away. One of each guest's may be, whatever all others
    /// do.
    pub(super) fn may_lose(&self, at: usize) -> bool {
        self.may_lose_beside(N_HOLES.load(Ordering::Relaxed), at)
    }

    fn may_lose_beside(&self, n_of_all: usize, at: usize) -> bool {
        let n = self.account.n_holes();
        is_set(&self.holes, at >> self.page_bits)
            || n == 0
            || n < HOLES_MAX && n_of_all < HOLES_MAX_OF_ALL
    }

    /// Place and length of the page around byte `at`.
    pub(super) fn page_around(&self, at: usize) -> (usize, usize) {
        (at >> self.page_bits << self.page_bits, 1 << self.page_bits)
    }

    /// Empty pages were put over the page around byte `at`. Said afterwards, since the pager may
    /// put the file's back from now on: whichever of two cores that met the same page says so last,
    /// it is put back after that.
    pub(super) fn lose(&self, at: usize) {
        let page = at >> self.page_bits;
        if !set(&self.holes, page) {
            N_HOLES.fetch_add(1, Ordering::Relaxed);
            self.account.has_hole();
        }
        self.n_lost.fetch_add(1, Ordering::Relaxed);
        clear(&self.granted, page);
        set(&self.wanted, page);
        self.account.wake();
    }

    /// The bytes of a page were put back.
    pub(super) fn mend(&self, page: usize) {
        if clear(&self.holes, page) {
            N_HOLES.fetch_sub(1, Ordering::Relaxed);
            self.account.is_mended();
        }
        if !set(&self.apart, page) {
            N_APART.fetch_add(1, Ordering::Relaxed);
            self.account.is_apart();
        }
    }

    /// Whether it is time to map what was put back anew: too many pages are mappings of their own.
    pub(super) fn is_scattered(&self) -> bool {
        self.account.n_apart() >= APART_MAX || N_APART.load(Ordering::Relaxed) >= APART_MAX_OF_ALL
    }

    /// The pages around one that may be mapped anew at once.
    pub(super) fn stretch_around(&self, page: usize) -> Range<usize> {
        let first = page / STRETCH * STRETCH;
        first..(first + STRETCH).min(self.n_pages)
    }

    /// What [`Presence::stretch_around`] gave is one mapping again.
    pub(super) fn join(&self, stretch: &Range<usize>) {
        self.no_more_apart(&self.apart[stretch.start / 64..stretch.end.div_ceil(64)]);
    }

    fn no_more_apart(&self, apart: &[AtomicU64]) {
        let n = forget(apart);
        N_APART.fetch_sub(n, Ordering::Relaxed);
        self.account.are_joined(n);
    }

    pub(super) fn is_hole(&self, page: usize) -> bool {
        is_set(&self.holes, page)
    }

    /// Cores may touch it from now on.
    pub(super) fn grant(&self, page: usize) {
        set(&self.granted, page);
    }

    pub(super) fn has(&self, page: usize) -> bool {
        page >= self.n_pages || is_set(&self.granted, page)
    }

    /// A page is not wanted any more.
    pub(super) fn take_wanted(&self, page: usize) {
        clear(&self.wanted, page);
    }

    /// The pages that are wanted.
    pub(super) fn wanted(&self) -> impl Iterator<Item = usize> {
        self.wanted.iter().enumerate().flat_map(|(place, word)| {
            let bits = word.load(Ordering::Acquire);
            (0..64)
                .filter(move |bit| bits >> bit & 1 != 0)
                .map(move |bit| place * 64 + bit)
        })
    }

    /// A page was made for it.
    pub(super) fn served(&self) {
        self.served_at
            .store(self.account.served(), Ordering::Relaxed);
    }

    /// Holes that there were so far.
    pub(super) fn n_lost(&self) -> u64 {
        self.n_lost.load(Ordering::Relaxed)
    }

    /// Whether a page can't be had any more.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// A page can't be had: its guest's memory is damaged.
    pub(super) fn goes(&self) {
        self.is_gone.store(true, Ordering::Release);
        self.account.damage.done();
    }

    /// The mapping ends: the pager leaves its addresses alone from now on.
    pub(super) fn end(&self) {
        let mut backing = lock(&self.backing);
        if !std::mem::replace(&mut backing.has_ended, true) {
            // A handler that adds one yet is counted for as long as the guest is there.
            self.account.orphan(self.forget_holes());
            self.no_more_apart(&self.apart);
        }
    }

    fn forget_holes(&self) -> usize {
        let n = forget(&self.holes);
        N_HOLES.fetch_sub(n, Ordering::Relaxed);
        n
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.forget_holes();
        self.no_more_apart(&self.apart);
    }
}

/// Sets none any more; how many were set.
fn forget(bits: &[AtomicU64]) -> usize {
    bits.iter()
        .map(|word| word.swap(0, Ordering::AcqRel).count_ones() as usize)
        .sum()
}

fn is_set(bits: &[AtomicU64], page: usize) -> bool {
    // Acquire, with the release in `set`: what was done to the page before it was granted.
    bits.get(page / 64)
        .is_some_and(|word| word.load(Ordering::Acquire) >> (page % 64) & 1 != 0)
}

/// Whether it was set before.
fn set(bits: &[AtomicU64], page: usize) -> bool {
    let bit = 1 << (page % 64);
    bits.get(page / 64)
        .is_some_and(|word| word.fetch_or(bit, Ordering::AcqRel) & bit != 0)
}

/// Whether it was set before.
fn clear(bits: &[AtomicU64], page: usize) -> bool {
    let bit = 1 << (page % 64);
    bits.get(page / 64)
        .is_some_and(|word| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
}

#[cfg(all(test, not(miri)))]
#[path = "presence_tests.rs"]
mod tests;
