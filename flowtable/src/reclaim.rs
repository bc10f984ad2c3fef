//! Quiet states: how control learns that no core uses an old value any more.
//!
//! Each core announces once a turn, between bursts, that it holds nothing of before ([`Quiet::pass`]), or that it sleeps
//! and holds nothing at all ([`Quiet::offline`]). Control takes a [`Quiet::snapshot`] after a change and frees what was
//! replaced once [`Quiet::passed`] says that every core has been through a quiet state since.
//! Cores never wait for anything here; control does.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Low bit set: the core is online. The rest counts its turns.
const ONLINE: u64 = 1;
const TURN: u64 = 2;

/// One counter a core, each on a cache line of its own.
#[derive(Debug)]
pub struct Quiet {
    cores: Box<[Line]>,
}

#[derive(Debug, Default)]
#[repr(align(128))] // two lines: the neighbour is prefetched in pairs
struct Line(AtomicU64);

impl Quiet {
    /// For `n_cores` cores, all offline.
    pub fn new(n_cores: usize) -> Self {
        Self { cores: (0..n_cores).map(|_| Line::default()).collect() }
    }

    /// The core has finished a turn and holds no reference to anything shared. Only the core itself calls this.
    pub fn pass(&self, core: usize) {
        let turns = self.cores[core].0.load(Ordering::Relaxed);
        // Release: what the core read in the turn happens before control's acquire in `passed`.
        self.cores[core].0.store((turns | ONLINE) + TURN, Ordering::Release);
    }

    /// The core goes to sleep and will look at nothing shared before [`Quiet::online`].
    pub fn offline(&self, core: usize) {
        let turns = self.cores[core].0.load(Ordering::Relaxed);
        self.cores[core].0.store((turns & !ONLINE) + TURN, Ordering::Release);
    }

    /// The core is back. Must come before its first look at anything shared.
    pub fn online(&self, core: usize) {
        let turns = self.cores[core].0.load(Ordering::Relaxed);
        self.cores[core].0.store(turns | ONLINE, Ordering::Relaxed);
        // Pairs with the fence in `snapshot`: either control sees the core online, or the core sees control's change.
        fence(Ordering::SeqCst);
    }

    /// Where every core stands now. Taken by control after it has made its change.
    pub fn snapshot(&self) -> Vec<u64> {
        fence(Ordering::SeqCst);
        self.cores.iter().map(|core| core.0.load(Ordering::Acquire)).collect()
    }

    /// Whether each core has been quiet at least once since `before` was taken.
    pub fn passed(&self, before: &[u64]) -> bool {
        self.cores.iter().zip(before).all(|(core, &then)| {
            let now = core.0.load(Ordering::Acquire);
            then & ONLINE == 0 || now & !ONLINE != then & !ONLINE
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_in_the_middle_of_its_turn_has_not_passed() {
        let quiet = Quiet::new(2);
        quiet.online(0);
        quiet.online(1);
        let before = quiet.snapshot();
        assert!(!quiet.passed(&before));
        quiet.pass(0);
        assert!(!quiet.passed(&before));
        quiet.pass(1);
        assert!(quiet.passed(&before));
    }

    #[test]
    fn sleeping_core_counts_as_quiet() {
        let quiet = Quiet::new(2);
        quiet.online(0);
        let before = quiet.snapshot();
        quiet.offline(0);
        assert!(quiet.passed(&before), "one fell asleep after the change, the other slept all along");
        quiet.online(0);
        assert!(quiet.passed(&before), "and waking up again takes nothing back");
    }
}
