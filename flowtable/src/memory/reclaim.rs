//! Quiet states: how control learns that no core uses an old value any more.
//!
//! Each core announces once a turn, between bursts, that it holds nothing of before
//! ([`Quiet::pass`]), or that it sleeps and holds nothing at all ([`Quiet::offline`]). Control asks
//! after a change ([`Quiet::ask`]) and frees what was replaced once [`Quiet::passed`] says that
//! every core has been through a quiet state since. Cores never wait for anything here; control
//! does.
//!
//! A core's answer is the number it was asked by, not a count of its turns: a core may well have
//! finished a turn after the change and have begun the next one without seeing the change, its own
//! stores being still on their way. Who has seen the number has seen what was changed before it.
//! `tests/loom.rs` tries all of it.

use crate::memory::sync::{AtomicU64, Ordering, fence};

/// Low bit of a core's word: it is online. The rest is the last number it answered.
const ONLINE: u64 = 1;
/// Numbers leave the low bit free.
const STEP: u64 = 2;

/// The number asked last, and one answer a core, each on a cache line of its own.
#[derive(Debug)]
pub struct Quiet {
    asked: Line,
    cores: Box<[Line]>,
}

#[derive(Debug)]
#[repr(align(128))] // two lines: the neighbour is prefetched in pairs
struct Line(AtomicU64);

impl Quiet {
    /// For `n_cores` cores, all offline.
    pub fn new(n_cores: usize) -> Self {
        let line = || Line(AtomicU64::new(0));
        Self {
            asked: line(),
            cores: (0..n_cores).map(|_| line()).collect(),
        }
    }

    /// The core has finished a turn and holds no reference to anything shared. Only the core itself
    /// calls this.
    #[inline]
    pub fn pass(&self, core: usize) {
        // Acquire, with the Release in `ask`: from here on the core sees what was changed before
        // that number.
        let asked = self.asked.0.load(Ordering::Acquire);
        // Release: what the core read in the turn happens before control's acquire in `passed`.
        self.cores[core].0.store(asked | ONLINE, Ordering::Release);
    }

    /// The core goes to sleep and will look at nothing shared before [`Quiet::online`].
    pub fn offline(&self, core: usize) {
        let answered = self.cores[core].0.load(Ordering::Relaxed);
        // Release: as in `pass`.
        self.cores[core]
            .0
            .store(answered & !ONLINE, Ordering::Release);
    }

    /// The core is back. Must come before its first look at anything shared.
    pub fn online(&self, core: usize) {
        // Acquire: as in `pass`; a core that holds nothing answers at once.
        let asked = self.asked.0.load(Ordering::Acquire);
        // Release: a control thread that missed the core's sleep still sees what it did before it
        // as done.
        self.cores[core].0.store(asked | ONLINE, Ordering::Release);
        // Pairs with the fence in `ask`: either control sees the core online, or the core sees
        // control's change.
        fence(Ordering::SeqCst);
    }

    /// Asks every core to pass a quiet state. Called by control after it has made its change; gives
    /// the number to wait for.
    pub fn ask(&self) -> u64 {
        // Release, with the Acquire of whoever answers: the change was made before. (A core that
        // reads the number of a later request sees this one's change too: only such additions ever
        // write there.)
        let asked = self.asked.0.fetch_add(STEP, Ordering::AcqRel) + STEP;
        fence(Ordering::SeqCst);
        asked
    }

    /// Whether each core has been quiet at least once since this was asked.
    pub fn passed(&self, asked: u64) -> bool {
        self.cores.iter().all(|core| {
            let now = core.0.load(Ordering::Acquire);
            now & ONLINE == 0 || now & !ONLINE >= asked
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn core_in_the_middle_of_its_turn_has_not_passed() {
        let quiet = Quiet::new(2);
        quiet.online(0);
        quiet.online(1);
        let asked = quiet.ask();
        assert!(!quiet.passed(asked));
        quiet.pass(0);
        assert!(!quiet.passed(asked));
        quiet.pass(1);
        assert!(quiet.passed(asked));
        assert!(
            !quiet.passed(quiet.ask()),
            "an answer to one request is none to the next"
        );
    }

    #[test]
    fn sleeping_core_counts_as_quiet() {
        let quiet = Quiet::new(2);
        quiet.online(0);
        let asked = quiet.ask();
        quiet.offline(0);
        assert!(
            quiet.passed(asked),
            "one fell asleep after the change, the other slept all along"
        );
        quiet.online(0);
        assert!(
            quiet.passed(asked),
            "and waking up again takes nothing back"
        );
    }
}
