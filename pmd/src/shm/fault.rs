//! A front-end that cuts its file short under our mapping must not take the process with it.
//!
//! Touching such a page raises SIGBUS. The handler finds the mapping in a table that is read
//! without a lock, puts empty private pages over a part of it ([`WINDOW`]) and marks the guest's
//! memory as damaged ([`super::damage`]): the core reads zeros there from then on, and control,
//! which looks at the mark, closes that front-end's connection. What was in that part's place goes
//! page by page, on the core, so it must not be long: 0.2 us a page. Another part would cost a
//! signal more, so cores look at the mark too, before they touch anything of such a guest again.
//!
//! Of a mapping of large pages, where one that was taken away raises the same signal, it is that
//! page alone, which [`super::pager`] puts back. A SIGBUS anywhere else goes to whoever handled it
//! before.
//!
//! A part makes two mappings more of one, and the kernel allows a process so many
//! (`vm.max_map_count`). A handler that has no more of them can't go on, and the process ends. So
//! guests get three in four of them, and beyond [`PARTS_MAX`] parts, or where the kernel refuses
//! one, the whole mapping is replaced, which needs none: it may take long, but the process goes on.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};

use super::damage::{self, Damage};
use super::presence::Presence;
use super::slot::{Put, Slot};
use crate::sys::userfault::put_empty_pages as put_pages;

/// Mappings at a time, of all guests together. A slot that was never used is a page that was never
/// touched.
const N_SLOTS: usize = 1 << 16;
/// Mappings that a front-end may have where there is room: as many as hypervisors have memory
/// slots.
const OF_A_PORT_MAX: usize = 256;
/// Mappings that every front-end needs (VHOST_MEMORY_BASELINE_NREGIONS).
const OF_A_PORT_MIN: usize = 8;

/// What the kernel allows a process by default.
const MAP_COUNT: usize = 65_530;
/// Parts that are put for good, of all guests together, two mappings each; cores stop at the first
/// of a guest.
const PARTS_MAX: usize = 2048;

/// Mappings that each of so many ports may have at a time, so that no front-end can use up
/// another's: new memory is mapped before the old one goes, so each may need twice that for a
/// moment.
pub fn mappings_of_a_port(n_ports: usize) -> usize {
    (n_slots() / 2 / n_ports.max(1)).clamp(OF_A_PORT_MIN, OF_A_PORT_MAX)
}

/// What `vm.max_map_count` has to be for so many ports to have that; none: it is enough.
pub fn map_count_for(n_ports: usize) -> Option<usize> {
    let needed = mappings_of_a_port(n_ports) * 2 * n_ports;
    (needed > n_slots()).then(|| needed.div_ceil(3) * 4)
}

/// Mappings that all guests together may have, whose parts, threads and files of our own need the
/// rest of what the kernel allows.
fn n_slots() -> usize {
    static N: OnceLock<usize> = OnceLock::new();
    *N.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
        let allowed = text
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(MAP_COUNT);
        (allowed / 4 * 3).min(N_SLOTS)
    })
}

/// Bytes of a small page.
const SMALL_PAGE: usize = 4096;
/// Bytes of small pages that are replaced together, aligned.
const WINDOW: usize = 1 << 18;

static SLOTS: [Slot; N_SLOTS] = [const {
    Slot {
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        extra: AtomicUsize::new(0),
        n_parts: AtomicUsize::new(0),
        n_inside: AtomicUsize::new(0),
    }
}; N_SLOTS];
/// Slots that are taken; and parts that were put for good into mappings that are there yet.
static N_TAKEN: AtomicUsize = AtomicUsize::new(0);
static N_PARTS: AtomicUsize = AtomicUsize::new(0);
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(null_mut());
static INSTALL: Once = Once::new();

/// How often, and then how long, the end of a mapping waits for handlers that act upon it. A
/// handler makes three system calls, so only one whose thread is off its CPU takes longer than the
/// first.
const N_YIELDS: u32 = 1_000;
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A mapping under guard. Ended before the mapping ends: see [`Guard::end`].
#[derive(Debug)]
pub(crate) struct Guard {
    slot: &'static Slot,
    owner: Arc<Owner>,
}

/// What a handler is told of a mapping's guest.
#[derive(Debug)]
struct Owner {
    /// Whose pages are put back one by one.
    presence: Option<Arc<Presence>>,
    damage: Arc<Damage>,
}

impl Guard {
    /// Puts a mapping under guard; `None` when there are too many. `presence`: whose pages are put
    /// back one by one. `damage`: what is marked when its file was cut short and something touched
    /// the missing part.
    pub(crate) fn new(
        base: *mut u8,
        len: usize,
        presence: Option<&Arc<Presence>>,
        damage: &Arc<Damage>,
    ) -> Option<Self> {
        INSTALL.call_once(install);
        let owner = Arc::new(Owner {
            presence: presence.cloned(),
            damage: damage.clone(),
        });
        let extra = Arc::as_ptr(&owner) as usize;
        let has_room = N_TAKEN.fetch_add(1, Ordering::Relaxed) < n_slots();
        let slot = SLOTS
            .iter()
            .find(|slot| has_room && slot.take(base as usize, len, extra));
        if slot.is_none() {
            N_TAKEN.fetch_sub(1, Ordering::Relaxed);
        }
        Some(Self { slot: slot?, owner })
    }

    /// Ends it; whether the mapping may be ended now. False: a handler still acts upon it, and
    /// won't leave; the mapping, and its place in the table, have to be left where they are. For
    /// control threads.
    #[must_use]
    pub(crate) fn end(self) -> bool {
        self.slot.close();
        let mut n_yields = 0;
        let begin = Instant::now();
        while !self.slot.is_left() {
            n_yields += 1;
            if n_yields < N_YIELDS {
                std::thread::yield_now();
            } else if begin.elapsed() < WAIT_MAX {
                std::thread::sleep(Duration::from_millis(1));
            } else {
                // It may look at that for ever.
                std::mem::forget(self.owner);
                return false;
            }
        }
        N_PARTS.fetch_sub(self.slot.n_parts(), Ordering::Relaxed);
        self.slot.free();
        N_TAKEN.fetch_sub(1, Ordering::Relaxed);
        true
    }
}

fn install() {
    // SAFETY: all-zero is a valid `sigaction`; all calls get valid places. What is stored in BEFORE
    // is never freed, since a signal may come at any time.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        // Without SA_NODEFER: a second SIGBUS of the same thread while the handler runs would be a
        // fault of the handler's own.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let before = Box::into_raw(Box::new(std::mem::zeroed()));
        libc::sigaction(libc::SIGBUS, null_mut(), before);
        BEFORE.store(before, Ordering::Release);
        libc::sigaction(libc::SIGBUS, &raw const action, null_mut());
    }
}

/// The handler: atomics and three system calls, nothing that could wait or allocate. What it
/// interrupted finds `errno` as it was.
extern "C" fn on_bus_error(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid `info`, and `errno` has a place on every thread.
    let (code, at, errno) = unsafe {
        (
            (*info).si_code,
            (*info).si_addr() as usize,
            *libc::__errno_location(),
        )
    };
    // One that a process sent (`kill`) says nothing of an address: what stands there are its
    // sender's ids.
    let is_of_memory = code > 0;
    if is_of_memory
        && SLOTS.iter().any(|slot| {
            slot.replace_if_around(at, |base, len, extra| put_empty_pages(at, base, len, extra))
        })
    {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
        return;
    }
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: BEFORE was set before this handler was. Returning repeats the access under the old
    // one; a signal that was sent is sent again.
    unsafe {
        libc::sigaction(signal, before, null_mut());
        if !is_of_memory {
            libc::raise(signal);
        }
    }
}

/// Around `at` in the mapping of `len` bytes at `base`: one page, if its owner has [`Presence`] to
/// put it back, else for good.
fn put_empty_pages(at: usize, base: usize, len: usize, extra: usize) -> Put {
    // SAFETY: `extra` is the address of the guard's owner, which the guard keeps until the slot is
    // left.
    let owner = unsafe { &*(extra as *const Owner) };
    let may_split = N_PARTS.load(Ordering::Relaxed) < PARTS_MAX;
    // SAFETY: the range is inside a mapping of ours, which its owner does not end before the slot
    // is left.
    let put_at = |from, n| unsafe { put_pages(from, n) };
    let put = put_pages_around(
        at,
        (base, len),
        owner.presence.as_deref(),
        may_split,
        put_at,
    );
    if put == Put::ForGood {
        N_PARTS.fetch_add(1, Ordering::Relaxed);
        owner.damage.done();
        damage::meet();
    }
    put
}

/// The same. `may_split`: the mapping may become several for good. `put_at` puts pages over so many
/// bytes from an address on, if it can.
fn put_pages_around(
    at: usize,
    (base, len): (usize, usize),
    presence: Option<&Presence>,
    may_split: bool,
    put_at: impl Fn(usize, usize) -> bool,
) -> Put {
    let (from, n) = presence.map_or_else(
        || window_around(at, base, len),
        |presence| presence.page_around(at - base),
    );
    // Pages that are put back are counted by themselves: others' parts are nothing to their guest.
    let to_lose = presence.filter(|presence| presence.may_lose(at - base));
    let is_put = (may_split || to_lose.is_some()) && put_at(base + from, n);
    if let Some(presence) = to_lose.filter(|_| is_put) {
        presence.lose(at - base);
        return Put::Page;
    }
    // Where the kernel promises no more memory than there is, a window may be too much, and a small
    // page is not; where it has no more mappings, all of this one needs none.
    let is_put = is_put
        || may_split && presence.is_none() && put_at(at & !(SMALL_PAGE - 1), SMALL_PAGE)
        || put_at(base, len);
    if is_put { Put::ForGood } else { Put::Nothing }
}

/// The part of a mapping of small pages that is replaced for the page at `at`: where it begins in
/// the mapping, and bytes.
fn window_around(at: usize, base: usize, len: usize) -> (usize, usize) {
    let (begin, end) = (at & !(WINDOW - 1), (at & !(WINDOW - 1)) + WINDOW);
    let (begin, end) = (begin.max(base), end.min(base + len));
    (begin - base, end - begin)
}

#[cfg(all(test, not(miri)))]
#[path = "fault_tests.rs"]
mod stress;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_is_around_the_page_and_inside_the_mapping() {
        let base = 7 * WINDOW + 0x3000;
        for (at, from, n) in [
            (0, 0, WINDOW - 0x3000),
            (WINDOW, WINDOW - 0x3000, WINDOW),
            (2 * WINDOW, 2 * WINDOW - 0x3000, 0x4000),
        ] {
            assert_eq!(
                window_around(base + at, base, 2 * WINDOW + 0x1000),
                (from, n)
            );
        }
        assert_eq!(window_around(base + 0x1fff, base, 0x2000), (0, 0x2000));
    }

    #[test]
    fn there_is_room_for_every_port_of_the_largest_switch_twice() {
        for n_ports in [1, 16, 100, 4096] {
            let of_a_port = mappings_of_a_port(n_ports);
            assert!(
                of_a_port >= OF_A_PORT_MIN && of_a_port * 2 * n_ports <= N_SLOTS,
                "{n_ports}: {of_a_port}"
            );
        }
        assert_eq!(mappings_of_a_port(16), OF_A_PORT_MAX);
    }

    #[test]
    fn more_mappings_than_the_kernel_allows_are_asked_for() {
        for n_ports in [1, 16, 100, 3000, 3072, 4096] {
            let needed = mappings_of_a_port(n_ports) * 2 * n_ports;
            let asked_for = map_count_for(n_ports);
            assert_eq!(asked_for.is_some(), needed > n_slots(), "{n_ports}");
            assert!(asked_for.is_none_or(|n| n / 4 * 3 >= needed), "{n_ports}");
        }
    }
}
