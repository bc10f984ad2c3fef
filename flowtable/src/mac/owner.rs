//! What each port owns: its sticky address, and whether it is started.
//!
//! A port without `mac:` owns the first address that it sends from, its *pin*, whatever becomes of
//! that address's entry in the table: a guest whose address is behind another port may not send
//! from any other one. Cores pin by one compare-and-swap, so of two cores with two new addresses of
//! one guest, one loses. Only control unpins, and marks ports as *resting*: ports without a started
//! receive ring. The address of a resting port may be behind the network's uplink meanwhile.
//!
//! An address behind the uplink may belong to a guest that QEMU migrated here, or to the gateway.
//! Time tells them apart: the guest sends as soon as its receive ring starts, the gateway is never
//! silent for long, and goes on sending when its address was taken. So a guest may take its first
//! address from the wire only while it is *young*, or if the address was unused there for long; and
//! a port that took one is on *trial* for a while ([`crate::mac::dispute`]). A port that lost the
//! address on trial is *in doubt* for an hour, whatever guest is there: no guest of it is young,
//! and regaining an address takes a longer silence each time. A port whose guest was replaced
//! during the trial is in doubt as well, or a front-end could end the trial by naming other memory;
//! what it took returns to the uplink. While the port is resting its trial is suspended, or a guest
//! could wait for its end with its receive rings stopped.

use crate::ids::{NetworkId, PortId};
use crate::mac::entry::{in_network, is_same_address, network_of};
use crate::memory::cache_line::Apart;
use crate::memory::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Seconds from the first start of a guest's receive rings in which it may have been migrated here:
/// QEMU announces it within one.
const YOUNG: u32 = 5;
/// Seconds of silence after which an address counts as unused behind the uplink.
const UNUSED: u32 = 30;
/// Seconds for which a port that took an address from the wire may lose it to its former holder.
const TRIAL: u32 = 60;
/// Seconds of silence after which an address lost on trial may be taken again; doubled each time.
const DOUBT: u32 = 5;
const DOUBTS_MAX: u32 = 5;
/// Seconds after which doubts are forgotten.
const FORGIVEN: u32 = 3600;

/// All ports, by id.
#[derive(Debug)]
pub(crate) struct Owners {
    ports: Box<[Apart<Owner>]>,
    /// Seconds of the switch's clock, set by control.
    now: AtomicU32,
}

/// What a guest that is gone leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// The key of its address; 0: none.
    pub(crate) key: u64,
    /// The uplink that it took one from, if it is still on trial.
    pub(crate) taken_from: Option<PortId>,
}

#[derive(Debug, Default)]
struct Owner {
    /// The key of its address in the table; 0: none yet.
    pin: AtomicU64,
    is_resting: AtomicBool,
    /// Since when it rests, if it does.
    rested_at: AtomicU32,
    /// Seconds of the switch's clock. 0: no receive ring of its guest was started yet.
    young_until: AtomicU32,
    trial_until: AtomicU32,
    /// The uplink that it last took an address from.
    taken_from: AtomicU32,
    /// How often it took an address from the wire and lost it on trial, and when it last did.
    n_doubts: AtomicU32,
    doubted_at: AtomicU32,
    n_lost: AtomicU32,
    n_won: AtomicU32,
    n_away: AtomicU32,
}

/// How often addresses moved from a port to the uplink and back, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// To the uplink: used there while the port was silent.
    pub n_lost: u32,
    /// From the uplink: used by the port while the wire was silent.
    pub n_won: u32,
    /// To the uplink while the port was resting; they return when it starts.
    pub n_away: u32,
}

impl Owners {
    pub(crate) fn new(n_ports: usize) -> Self {
        Self {
            ports: (0..n_ports).map(|_| Apart::default()).collect(),
            now: AtomicU32::new(0),
        }
    }

    fn of(&self, port: PortId) -> Option<&Owner> {
        self.ports.get(usize::from(port)).map(|owner| &owner.0)
    }

    /// Once a second, by control.
    pub(crate) fn set_now(&self, now: u32) {
        self.now.store(now, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// The key of the port's sticky address; 0: none.
    pub(crate) fn pin(&self, port: PortId) -> u64 {
        self.of(port)
            .map_or(0, |owner| owner.pin.load(Ordering::Relaxed))
    }

    /// Makes the address the port's own, if it has no other. Returns whether it is.
    pub(crate) fn try_pin(&self, port: PortId, key: u64) -> bool {
        // Relaxed: nothing else depends on it.
        let before = |owner: &Owner| {
            owner
                .pin
                .compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed)
        };
        self.of(port).is_some_and(|owner| {
            before(owner).is_ok_and(|_| true)
                || is_same_address(owner.pin.load(Ordering::Relaxed), key)
        })
    }

    /// Removes the port's sticky address.
    pub(crate) fn unpin(&self, port: PortId) -> Left {
        let Some(owner) = self.of(port) else {
            return Left::default();
        };
        // Not a swap, for which loom explores too many interleavings.
        let key = owner.pin.load(Ordering::Relaxed);
        let taken_from = self.on_trial_of(port);
        owner.pin.store(0, Ordering::Relaxed);
        owner.young_until.store(0, Ordering::Relaxed);
        owner.trial_until.store(0, Ordering::Relaxed);
        Left { key, taken_from }
    }

    /// A port that is gone leaves nothing behind, and what others took from it is theirs.
    pub(crate) fn forget(&self, port: PortId) {
        if let Some(owner) = self.of(port) {
            owner.pin.store(0, Ordering::Relaxed);
            owner.is_resting.store(false, Ordering::Release);
            for count in [
                &owner.rested_at,
                &owner.young_until,
                &owner.trial_until,
                &owner.taken_from,
                &owner.n_doubts,
                &owner.doubted_at,
                &owner.n_lost,
                &owner.n_won,
                &owner.n_away,
            ] {
                count.store(0, Ordering::Relaxed);
            }
        }
        let took = |owner: &&Apart<Owner>| {
            owner.0.taken_from.load(Ordering::Relaxed) == u32::from(port)
                && owner.0.trial_until.load(Ordering::Relaxed) != 0
        };
        for owner in self.ports.iter().filter(took) {
            owner.0.trial_until.store(0, Ordering::Relaxed);
        }
    }

    /// A network is gone: no port has an address there.
    pub(crate) fn unpin_in(&self, network: NetworkId) {
        for owner in &self.ports {
            let pin = owner.0.pin.load(Ordering::Relaxed);
            if pin != 0 && network_of(pin) == network {
                let _ = owner
                    .0
                    .pin
                    .compare_exchange(pin, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// The port is in another network now, with the address that it had.
    pub(crate) fn bring_along(&self, port: PortId, network: NetworkId) {
        let Some(owner) = self.of(port) else { return };
        let pin = owner.pin.load(Ordering::Relaxed);
        if pin != 0 {
            let there = in_network(pin, network);
            // If it fails, a core has just pinned it there.
            let _ = owner
                .pin
                .compare_exchange(pin, there, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The port lost on trial what it took from the wire.
    pub(crate) fn doubt(&self, port: PortId, now: u32) {
        let Some(owner) = self.of(port) else { return };
        let n_doubts = self.n_doubts(port, now);
        owner.n_doubts.store(n_doubts + 1, Ordering::Relaxed);
        owner.doubted_at.store(now, Ordering::Relaxed);
    }

    fn n_doubts(&self, port: PortId, now: u32) -> u32 {
        let Some(owner) = self.of(port) else { return 0 };
        let is_forgiven = now.saturating_sub(owner.doubted_at.load(Ordering::Relaxed)) > FORGIVEN;
        if is_forgiven {
            0
        } else {
            owner.n_doubts.load(Ordering::Relaxed)
        }
    }

    /// Seconds for which an address has to be silent behind the uplink before the port may claim
    /// it.
    pub(crate) fn silence_needed(&self, port: PortId, key: u64, now: u32) -> u32 {
        let is_own = self.pin(port) == key;
        match self.n_doubts(port, now) {
            0 if is_own || self.is_young(port, now) => 0,
            0 => UNUSED,
            n if is_own => DOUBT << (n - 1).min(DOUBTS_MAX),
            n => UNUSED.max(DOUBT << (n - 1).min(DOUBTS_MAX)),
        }
    }

    /// A receive ring of the port's guest is started.
    pub(crate) fn begin(&self, port: PortId, now: u32) {
        let Some(owner) = self.of(port) else { return };
        let until = now.saturating_add(YOUNG);
        let _ = owner
            .young_until
            .compare_exchange(0, until, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the port's guest may still announce that it was migrated here.
    fn is_young(&self, port: PortId, now: u32) -> bool {
        self.of(port)
            .is_some_and(|owner| now < owner.young_until.load(Ordering::Relaxed))
    }

    /// Whether the port took an address from the wire a short time ago, not counting the time for
    /// which it rested.
    pub(crate) fn is_on_trial(&self, port: PortId, now: u32) -> bool {
        self.of(port).is_some_and(|owner| {
            let now = if owner.is_resting.load(Ordering::Acquire) {
                now.min(owner.rested_at.load(Ordering::Relaxed))
            } else {
                now
            };
            now < owner.trial_until.load(Ordering::Relaxed)
        })
    }

    /// The uplink that the port took an address from, if it is on trial.
    pub(crate) fn on_trial_of(&self, port: PortId) -> Option<PortId> {
        let owner = self.of(port)?;
        let uplink = PortId::try_from(owner.taken_from.load(Ordering::Relaxed)).ok();
        uplink.filter(|_| self.is_on_trial(port, self.now()))
    }

    /// Whether none of the port's receive rings is started.
    pub(crate) fn is_resting(&self, port: PortId) -> bool {
        self.of(port)
            .is_some_and(|owner| owner.is_resting.load(Ordering::Acquire))
    }

    /// Marks the port as resting. Returns whether that is new.
    pub(crate) fn rest(&self, port: PortId) -> bool {
        let Some(owner) = self.of(port) else {
            return false;
        };
        if !owner.is_resting.load(Ordering::Relaxed) {
            owner.rested_at.store(self.now(), Ordering::Relaxed);
        }
        // AcqRel: before the entries that are changed for it.
        !owner.is_resting.swap(true, Ordering::AcqRel)
    }

    /// Marks the port as started, and resumes its trial. Returns whether that is new.
    pub(crate) fn start(&self, port: PortId, now: u32) -> bool {
        let Some(owner) = self.of(port) else {
            return false;
        };
        if owner.is_resting.load(Ordering::Relaxed) && self.is_on_trial(port, now) {
            let rested = now.saturating_sub(owner.rested_at.load(Ordering::Relaxed));
            // Added: a core may have begun another trial just now.
            owner.trial_until.fetch_add(rested, Ordering::Relaxed);
        }
        owner.is_resting.swap(false, Ordering::AcqRel)
    }

    /// Restarts a trial that an earlier daemon did not finish.
    pub(crate) fn try_again(&self, port: PortId, uplink: PortId, now: u32) {
        let Some(owner) = self.of(port) else { return };
        owner.taken_from.store(uplink.into(), Ordering::Relaxed);
        owner
            .trial_until
            .store(now.saturating_add(TRIAL), Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, port: PortId) {
        self.of(port)
            .map(|owner| owner.n_lost.fetch_add(1, Ordering::Relaxed));
    }

    /// The port took an address from this uplink.
    pub(crate) fn won(&self, port: PortId, uplink: PortId, now: u32) {
        let Some(owner) = self.of(port) else { return };
        owner.n_won.fetch_add(1, Ordering::Relaxed);
        self.try_again(port, uplink, now);
    }

    pub(crate) fn went_away(&self, port: PortId) {
        self.of(port)
            .map(|owner| owner.n_away.fetch_add(1, Ordering::Relaxed));
    }

    pub(crate) fn moves(&self, port: PortId) -> Moves {
        let get = |count: &AtomicU32| count.load(Ordering::Relaxed);
        self.of(port).map_or_else(Moves::default, |owner| Moves {
            n_lost: get(&owner.n_lost),
            n_won: get(&owner.n_won),
            n_away: get(&owner.n_away),
        })
    }

    pub(crate) fn n_ports(&self) -> usize {
        self.ports.len()
    }
}
