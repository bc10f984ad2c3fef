//! Ports' own addresses: those from the topology, and the first one of a port without `mac:`.

use crate::ids::{NetworkId, PortId};
use crate::mac::dispute::Dispute;
use crate::mac::entry::{
    AWAY, Found, Kind, STICKY, VALID, found_at, is_same_address, key_of, mac_of, network_of,
    port_of,
};
use crate::mac::owner::{Left, Moves, Owners};
use crate::mac::table::MacTable;
use crate::memory::sync::Ordering;
use crate::network::{Ingress, SourcePolicy};

/// Ports and their own addresses.
impl MacTable {
    /// Whether the port's sticky address allows this one: it has none yet, or this.
    pub(crate) fn may_stick(&self, port: PortId, network: NetworkId, mac: [u8; 6]) -> bool {
        let pin = self.owners.pin(port);
        // A port is in one network. In the moment in which it goes to another its pin is of the old
        // one yet.
        pin == 0 || is_same_address(pin, key_of(network, mac))
    }

    /// Makes the address the port's own, if it has no other. Returns whether it is.
    pub fn pin(&self, port: PortId, network: NetworkId, mac: [u8; 6]) -> bool {
        self.owners.try_pin(port, key_of(network, mac))
    }

    /// Another guest is at the port, which is down: removes the sticky address, or returns it to
    /// the uplink if the port took it from there a short time ago.
    pub fn unpin(&self, port: PortId) {
        let (Left { key, taken_from }, now) = (self.owners.unpin(port), self.owners.now());
        if taken_from.is_some() {
            self.owners.doubt(port, now);
        }
        let (buckets, _) = self.places(key);
        let found = if key == 0 {
            None
        } else {
            self.find_slot(key, buckets)
        };
        if let Some((slot, word)) =
            found.filter(|&(slot, word)| word & STICKY != 0 && self.owner(slot, word) == port)
        {
            let goes_back = |uplink| {
                self.take_over(
                    found_at(slot, word),
                    uplink,
                    Kind::Learned,
                    false,
                    u32::MAX,
                    now,
                )
            };
            if !taken_from.is_some_and(goes_back) {
                self.remove(slot, word);
            }
        }
    }

    /// Sticky addresses: port, network and address.
    pub fn pins(&self) -> Vec<(PortId, NetworkId, [u8; 6])> {
        let pins = (0..self.owners.n_ports())
            .zip(0..)
            .map(|(_, port)| (port, self.owners.pin(port)));
        pins.filter(|&(_, key)| key != 0)
            .map(|(port, key)| (port, network_of(key), mac_of(key)))
            .collect()
    }

    /// The uplink that the port's address was taken from, if the port is on trial for it.
    pub fn on_trial_of(&self, port: PortId) -> Option<PortId> {
        self.owners.on_trial_of(port)
    }

    /// Restarts the trial of a port whose address was taken from this uplink, since an earlier
    /// daemon ended before the trial did. `now`: seconds of the switch's clock.
    pub fn try_again(&self, port: PortId, uplink: PortId, now: u32) {
        self.owners.try_again(port, uplink, now);
    }

    /// Whether an address behind the uplink may be the port's: it is its own, its guest was started
    /// just now (after a migration), or it is unused there.
    pub(crate) fn may_be_moved(
        &self,
        found: Found,
        to: PortId,
        network: NetworkId,
        mac: [u8; 6],
        now: u32,
    ) -> bool {
        let seen = self
            .seen
            .get(found.entry.slot as usize)
            .map_or(0, |seen| seen.load(Ordering::Relaxed));
        now.saturating_sub(seen) >= self.owners.silence_needed(to, key_of(network, mac), now)
    }

    /// How often addresses of the port moved to its network's uplink, and back.
    pub fn moves(&self, port: PortId) -> Moves {
        self.owners.moves(port)
    }

    /// Whether none of the port's receive rings is started.
    pub fn is_resting(&self, port: PortId) -> bool {
        self.owners.is_resting(port)
    }

    pub(crate) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// None of the port's receive rings is started any more: until [`MacTable::start`] its
    /// addresses may be behind the uplink of their network. Decisions that depend on them become
    /// stale.
    pub fn rest(&self, port: PortId) {
        if self.owners.rest(port) {
            self.bump_port(port);
        }
    }

    /// A receive ring of the port is started: moves the port's own address back to it. One from the
    /// topology wherever it is, a sticky one if it went away while the port was resting.
    pub fn start(&self, from: &Ingress, now: u32) {
        self.owners.begin(from.port, now);
        if !self.owners.start(from.port, now) {
            return;
        }
        let own = match from.source {
            SourcePolicy::Fixed(mac) => Some((key_of(from.network, mac), Kind::Static)),
            _ => Some((self.owners.pin(from.port), Kind::Sticky)).filter(|&(key, _)| key != 0),
        };
        if let Some((key, kind)) = own {
            self.bring_home(key, kind, from.port, now);
        }
        self.bump_port(from.port);
    }

    /// Retries if another core changes the entry. That ends: such a change is by a core that still
    /// knew the port as resting, and each core has at most one of those left.
    fn bring_home(&self, key: u64, kind: Kind, port: PortId, now: u32) {
        let (buckets, _) = self.places(key);
        loop {
            let Some((slot, word)) = self.find_slot(key, buckets) else {
                self.learn(network_of(key), mac_of(key), port, kind, u32::MAX, now);
                return;
            };
            let found = found_at(slot, word);
            let is_done = match found {
                _ if found.port == port => self.bump(slot, word),
                _ if kind == Kind::Static || found.is_away && self.owner(slot, word) == port => {
                    self.take_over(found, port, kind, false, u32::MAX, now)
                }
                // It was lost before, and has to be claimed.
                _ => true,
            };
            if is_done {
                return;
            }
        }
    }

    /// Moves an address to the uplink `to`, where it is used while its owner is resting. False:
    /// another core changed it meanwhile.
    pub fn send_away(&self, found: Found, to: PortId, now: u32) -> bool {
        if let Some(dispute) = self.disputes.get(found.entry.slot as usize) {
            // An address that is away is not claimed, so the word can hold its owner.
            dispute.store(Dispute::owned(found.port).0, Ordering::Relaxed);
        }
        let went = self.take_over(found, to, found.kind, true, u32::MAX, now);
        if went {
            self.owners.went_away(found.port);
        }
        went
    }

    /// The port that owns the address, wherever it is.
    pub(super) fn owner(&self, slot: usize, word: u64) -> PortId {
        if word & AWAY == 0 {
            port_of(word)
        } else {
            Dispute(self.disputes[slot].load(Ordering::Relaxed)).by()
        }
    }

    fn bump_port(&self, port: PortId) {
        for slot in 0..self.keys.len() {
            let word = self.words[slot].load(Ordering::Acquire);
            if word & VALID != 0 && port_of(word) == port {
                // If it fails, another core has changed it.
                self.bump(slot, word);
            }
        }
    }
}
