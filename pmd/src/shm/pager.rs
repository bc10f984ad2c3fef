//! Makes the pages that cores want, on a thread for each guest, so that no core waits for the
//! kernel to clear one, and no guest for another's file: a front-end can make whoever wants pages
//! of its file wait, by giving some of it back meanwhile.
//!
//! The thread begins with the guest's first mapping of large pages, sleeps while nothing is wanted,
//! and ends with the guest. What cores do to be heard is two atomic operations and, if it may be
//! asleep, a write to an eventfd.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::account::{Credit, Desk, OF_ALL};
use super::presence::{Backing, Presence};
use crate::lock::lock;
use crate::sys::{self, Epoll, EventFd, userfault};

/// Bytes of a pager's stack: there are many.
const STACK: usize = 1 << 18;

/// Takes care of a mapping from now on. False: no thread can be started for it.
pub(super) fn register(presence: &Arc<Presence>) -> bool {
    let Some(pager) = presence.account.pager.get_or_init(Desk::start) else {
        return false;
    };
    let mut mappings = lock(&pager.mappings);
    mappings.retain(|mapping| mapping.strong_count() > 0);
    mappings.push(Arc::downgrade(presence));
    true
}

/// Makes the pages of `len` bytes at `at` and grants them, on the caller's thread, which is
/// control's. Those of a ring, which cores touch without asking. If they can't be had, the memory
/// is marked so. A front-end that takes its rings' pages away waits here until it is their turn.
pub(super) fn grant_now(presence: &Presence, at: usize, len: usize) {
    for page in at >> presence.page_bits..=(at + len.max(1) - 1) >> presence.page_bits {
        if presence.is_hole(page) {
            wait_for_turn(presence);
        }
        if !make(presence, &lock(&presence.backing), page) {
            return presence.goes();
        }
    }
}

/// Until one page of this guest's may be put back.
fn wait_for_turn(presence: &Presence) {
    loop {
        match presence.account.take_turn(sys::monotonic_ns(), &OF_ALL) {
            0 => return,
            wait => std::thread::sleep(Duration::from_nanos(wait)),
        }
    }
}

impl Desk<Presence> {
    fn start() -> Option<Arc<Self>> {
        let (wake, epoll) = (EventFd::new().ok()?, Epoll::new().ok()?);
        if !epoll.add(wake.as_fd()) {
            return None;
        }
        let (is_called, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let pager = Arc::new(Self {
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
            // A core that wants something from here on calls again.
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
        if !unsafe { map(backing, base, offset, len) } {
            return false;
        }
        presence.mend(page);
        if presence.is_scattered() && !map_anew(presence, backing, page) {
            return false;
        }
    }
    // SAFETY: as above. If it was taken away again already, the core will hear of it.
    unsafe { userfault::enter(base, len) };
    presence.grant(page);
    true
}

/// Maps part of the file over what is there, and has accesses to pages that it lacks told again.
/// False: the kernel can't.
///
/// # Safety
/// As of [`userfault::map_over`].
unsafe fn map(backing: &Backing, base: usize, offset: u64, len: usize) -> bool {
    // SAFETY: the caller's promise.
    let is_mapped = unsafe { userfault::map_over(base, &backing.file, offset, len) }.is_ok();
    if is_mapped && backing.is_told {
        userfault::tell_by_signal(base, len);
    }
    is_mapped
}

/// Maps the file over a stretch of many mappings around a page, which makes one of them. Pages in
/// it that are holes are the file's then, and are still not granted. False: the kernel can't.
fn map_anew(presence: &Presence, backing: &Backing, page: usize) -> bool {
    let pages = presence.stretch_around(page);
    let place = |page: usize| page << presence.page_bits;
    let (base, len) = (backing.base + place(pages.start), place(pages.len()));
    let offset = backing.offset + place(pages.start) as u64;
    // SAFETY: whole pages inside a mapping that has not ended, as its lock is held; what is there
    // is the file's, or empty.
    if !unsafe { map(backing, base, offset, len) } {
        return false;
    }
    presence.join(&pages);
    for page in pages.filter(|&page| presence.has(page)) {
        // SAFETY: as above. If it was taken away, the core will hear of it.
        unsafe { userfault::enter(backing.base + place(page), place(1)) };
    }
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

#[cfg(test)]
#[path = "pager_tests.rs"]
mod tests;
