//! Quiet states: how control learns that no core uses an old value any more.
//!
//! Each core announces once a turn, between bursts, that it holds no reference from before
//! ([`Quiet::pass`]), or that it sleeps and holds none at all ([`Quiet::offline`]). After a change
//! control requests a quiet state ([`Quiet::ask`]), and frees the old value once every core has
//! passed one ([`Quiet::passed`]). Cores never wait here; control does.
//!
//! A core answers with the number of the request, not with a count of its turns: a core may finish
//! a turn after the change and begin the next one without seeing the change. A core that has seen
//! the number has seen what was changed before it. Checked by loom in `tests/loom.rs`.

use crate::memory::sync::{AtomicU64, Ordering, fence};

/// Low bit of a core's word: it is online. The rest is the last number that it answered.
const ONLINE: u64 = 1;
/// Numbers leave the low bit free.
const STEP: u64 = 2;

/// The last request, and an answer per core, each on a cache line of its own.
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
        // Acquire, pairs with the Release in `ask`: from here on the core sees what was changed
        // before that request.
        let asked = self.asked.0.load(Ordering::Acquire);
        // Release: what the core read in the turn happens before control's acquire in `passed`.
        self.cores[core].0.store(asked | ONLINE, Ordering::Release);
    }

    /// The core goes to sleep and will read nothing shared before [`Quiet::online`].
    pub fn offline(&self, core: usize) {
        let answered = self.cores[core].0.load(Ordering::Relaxed);
        // Release: as in `pass`.
        self.cores[core]
            .0
            .store(answered & !ONLINE, Ordering::Release);
    }

    /// The core is awake. Must come before it reads anything shared.
    pub fn online(&self, core: usize) {
        // Acquire: as in `pass`; a core that holds nothing answers at once.
        let asked = self.asked.0.load(Ordering::Acquire);
        // Release: a control thread that missed the core's sleep still sees what it did before
        // that.
        self.cores[core].0.store(asked | ONLINE, Ordering::Release);
        // Pairs with the fence in `ask`: either control sees the core online, or the core sees
        // control's change.
        fence(Ordering::SeqCst);
    }

    /// Requests a quiet state of every core. Called by control after its change; returns the number
    /// to wait for.
    pub fn ask(&self) -> u64 {
        // Release, pairs with the Acquire of answering cores: the change came before. (A core that
        // reads the number of a later request sees this change, too: only such additions write
        // there.)
        let asked = self.asked.0.fetch_add(STEP, Ordering::AcqRel) + STEP;
        fence(Ordering::SeqCst);
        asked
    }

    /// Whether each core has been quiet at least once since this request.
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
