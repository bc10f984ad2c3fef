//! A front-end that cuts its file short under our mapping must not take the process with it.
//!
//! Touching such a page raises SIGBUS. The handler finds the mapping in a table that is read without a lock, puts empty
//! private pages over all of it and marks it as damaged: the core reads zeros from then on, and control, which looks at the
//! mark, closes that front-end's connection. A SIGBUS anywhere else goes to whoever handled it before.

use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Mappings at a time, of all guests together. A slot that was never used is a page that was never touched.
const N_SLOTS: usize = 1 << 16;
/// Mappings that a front-end may have where there is room: as many as hypervisors have memory slots.
const OF_A_PORT_MAX: usize = 256;
/// Mappings that every front-end needs (VHOST_MEMORY_BASELINE_NREGIONS).
const OF_A_PORT_MIN: usize = 8;

/// Mappings that each of so many ports may have at a time, so that no front-end can use up another's: new memory is mapped
/// before the old one goes, so each may need twice that for a moment.
pub fn mappings_of_a_port(n_ports: usize) -> usize {
    (N_SLOTS / 2 / n_ports.max(1)).clamp(OF_A_PORT_MIN, OF_A_PORT_MAX)
}

struct Slot {
    /// 0: free. 1: being entered.
    base: AtomicUsize,
    len: AtomicUsize,
    damaged: AtomicBool,
}

static SLOTS: [Slot; N_SLOTS] =
    [const { Slot { base: AtomicUsize::new(0), len: AtomicUsize::new(0), damaged: AtomicBool::new(false) } }; N_SLOTS];
static BEFORE: AtomicPtr<libc::sigaction> = AtomicPtr::new(null_mut());
static INSTALL: Once = Once::new();

/// A mapping under guard. Dropped before the mapping ends.
#[derive(Debug)]
pub(crate) struct Guard(usize);

impl Guard {
    /// Puts a mapping under guard; `None` when there are too many.
    pub(crate) fn new(base: *mut u8, len: usize) -> Option<Self> {
        INSTALL.call_once(install);
        let place = SLOTS
            .iter()
            .position(|slot| slot.base.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok())?;
        SLOTS[place].len.store(len, Ordering::Relaxed);
        SLOTS[place].damaged.store(false, Ordering::Relaxed);
        // Release, with the Acquire in the handler: whoever sees the base sees the length.
        SLOTS[place].base.store(base as usize, Ordering::Release);
        Some(Self(place))
    }

    /// Whether its file was cut short and something touched the missing part.
    pub(crate) fn is_damaged(&self) -> bool {
        SLOTS[self.0].damaged.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        SLOTS[self.0].base.store(0, Ordering::Release);
    }
}

fn install() {
    // SAFETY: all-zero is a valid `sigaction`; all calls get valid places. What is stored in BEFORE is never freed, since a
    // signal may come at any time.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let before = Box::into_raw(Box::new(std::mem::zeroed()));
        libc::sigaction(libc::SIGBUS, null_mut(), before);
        BEFORE.store(before, Ordering::Release);
        libc::sigaction(libc::SIGBUS, &raw const action, null_mut());
    }
}

/// The handler: atomics and two system calls, nothing that could wait or allocate.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `info`.
    let at = unsafe { (*info).si_addr() } as usize;
    for slot in &SLOTS {
        let base = slot.base.load(Ordering::Acquire);
        if base <= 1 || at < base || at - base >= slot.len.load(Ordering::Relaxed) {
            continue;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let len = slot.len.load(Ordering::Relaxed);
        // SAFETY: replaces a mapping of ours, whole, by empty pages at the same addresses; its owner unmaps the same range.
        let put =
            unsafe { libc::mmap(base as *mut libc::c_void, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if put != libc::MAP_FAILED {
            slot.damaged.store(true, Ordering::Release);
            return;
        }
    }
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: BEFORE was set before this handler was. Returning repeats the access under the old one.
    unsafe { libc::sigaction(signal, before, null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_every_port_of_the_largest_switch_twice() {
        for n_ports in [1, 16, 100, 4096] {
            let of_a_port = mappings_of_a_port(n_ports);
            assert!(of_a_port >= OF_A_PORT_MIN && of_a_port * 2 * n_ports <= N_SLOTS, "{n_ports}: {of_a_port}");
        }
        assert_eq!(mappings_of_a_port(16), OF_A_PORT_MAX);
    }
}
