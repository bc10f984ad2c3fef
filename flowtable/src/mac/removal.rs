//! Ports and networks that are gone, whose numbers others get: nothing that was known of them is
//! left.
//!
//! For control, once no core takes frames of that port, or knows that network, any more: then
//! nothing brings back what is removed here. Cores go on with everything else meanwhile.

use crate::ids::{NetworkId, PortId};
use crate::mac::dispute::Dispute;
use crate::mac::entry::{AWAY, Kind, VALID, key_of, kind_of, network_of, port_of};
use crate::mac::table::MacTable;
use crate::memory::sync::Ordering;
use crate::network::{Ingress, SourcePolicy};

impl MacTable {
    /// Removes a port with all that is known of it: addresses behind it, its own one wherever that
    /// is, what it has claimed, lost and won, what it took from an uplink, or others from it. For a
    /// port that is no longer in the topology. Returns how many addresses went.
    pub fn remove_port(&self, port: PortId) -> usize {
        self.owners.forget(port);
        let n_removed =
            self.remove_all(|slot, word| port_of(word) == port || self.owner(slot, word) == port);
        self.end_claims(port);
        if let Some(budgets) = self.budgets.get(usize::from(port)) {
            budgets.0.learns.forget();
            budgets.0.moves.forget();
        }
        n_removed
    }

    /// Removes a network with all its addresses. For one that is no longer in the topology; ports
    /// that were in it are gone, or in another one. Returns how many addresses went.
    pub fn remove_network(&self, network: NetworkId) -> usize {
        self.owners.unpin_in(network);
        let n_removed = self
            .remove_all(|slot, _| network_of(self.keys[slot].load(Ordering::Relaxed)) == network);
        self.reserves.forget(network);
        n_removed
    }

    /// A port that stays has other addresses, or another network, than `before`: removes those that
    /// it may not have any more. All cores decide by `now` already. A sticky address goes along to
    /// another network; of a port that may learn fewer addresses all go, to be learned again.
    pub fn change_port(&self, before: &Ingress, now: &Ingress) -> usize {
        let port = now.port;
        let is_same_network = before.network == now.network;
        let stays_sticky = matches!(
            (before.source, now.source),
            (SourcePolicy::Sticky, SourcePolicy::Sticky)
        );
        if !stays_sticky {
            self.owners.unpin(port);
        } else if !is_same_network {
            self.owners.bring_along(port, now.network);
        }
        let pin = self.owners.pin(port);
        let keeps_learned = match (before.source, now.source) {
            (SourcePolicy::Learn(n), SourcePolicy::Learn(m)) => n <= m,
            // Their bound depends on how many such ports there are.
            (SourcePolicy::Any(_), SourcePolicy::Any(_)) => true,
            _ => false,
        };
        self.remove_all(|slot, word| {
            if port_of(word) != port && self.owner(slot, word) != port {
                return false;
            }
            let key = self.keys[slot].load(Ordering::Relaxed);
            let stays = match (kind_of(word), now.source) {
                (Kind::Static, SourcePolicy::Fixed(mac)) => key == key_of(now.network, mac),
                (Kind::Sticky, SourcePolicy::Sticky) => key == pin,
                (Kind::Counted, SourcePolicy::Learn(_)) | (Kind::Learned, SourcePolicy::Any(_)) => {
                    keeps_learned
                }
                _ => false,
            };
            let is_here = now.trunk.is_some() || network_of(key) == now.network;
            !(stays && is_here)
        })
    }

    /// Removes each entry that is `gone`, also one that another core is just changing.
    fn remove_all(&self, gone: impl Fn(usize, u64) -> bool) -> usize {
        let mut n_removed = 0;
        for slot in 0..self.keys.len() {
            loop {
                let word = self.words[slot].load(Ordering::Acquire);
                if word & VALID == 0 || !gone(slot, word) {
                    break;
                }
                // If it fails, another core has changed it: it may be somebody else's now.
                if self.remove(slot, word) {
                    n_removed += 1;
                    break;
                }
            }
        }
        n_removed
    }

    /// Claims of a port that is gone count for nobody.
    fn end_claims(&self, port: PortId) {
        for slot in 0..self.keys.len() {
            let dispute = self.disputes[slot].load(Ordering::Relaxed);
            // Of an address that is away it would be the owner, whose entry was removed.
            let is_away = self.words[slot].load(Ordering::Relaxed) & AWAY != 0;
            if dispute != 0 && !is_away && Dispute(dispute).by() == port {
                // If it fails, another port has claimed it meanwhile.
                let _ = self.disputes[slot].compare_exchange(
                    dispute,
                    0,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
        }
    }
}
