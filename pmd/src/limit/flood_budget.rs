//! What the floods of a port may cost: copies a second, limit or no limit.
//!
//! One budget a port, over all its queues and cores. A trunk's serves many networks, of which one
//! must not spend what the others need: each has a reserve of its own besides, which is charged
//! while there is nothing left for all. So a flood in one VLAN costs the others nothing that they
//! get by their reserve: ARP, neighbour discovery, DHCP.
//!
//! Control makes it when the port first comes up and keeps it: a guest that sets up its queues anew
//! has what it had before, and so has a trunk that carries other networks than before.

use std::sync::Arc;

use flowtable::{Ingress, Network, NetworkId, Networks};

use crate::limit::gate::SHUT_MIN;
use crate::limit::rate::{Limiter, Setting};
use crate::time::Nanos;

/// Copies beyond the first that the floods of one port may make in a second, over all its queues: a
/// tenth to a sixth of a core, at a hundred to a hundred and fifty nanoseconds each, and a thousand
/// broadcasts into a network of a thousand.
pub const COPIES_PER_SEC: u64 = 1_000_000;
/// Those that may be saved up: 64 broadcasts at once into a network of a thousand.
pub const COPIES_SAVED: u64 = 1 << 16;
/// What each network of a trunk may have besides, in a second and at once; of many networks less,
/// so that all of them have no more in a second than [`COPIES_PER_SEC`].
pub const RESERVE_PER_SEC: u64 = 50_000;
/// See [`RESERVE_PER_SEC`].
pub const RESERVE_SAVED: u64 = 1 << 12;

/// One port's.
#[derive(Debug)]
pub(crate) struct FloodBudget {
    all: Arc<Limiter>,
    /// By network; a port in one network has none.
    reserves: Box<[Arc<Limiter>]>,
}

/// What each network of the port may have besides.
fn reserve(ingress: &Ingress, networks: &Networks) -> Setting {
    let of_port = networks
        .networks
        .iter()
        .filter(|network| is_behind(network, ingress));
    let n_networks = of_port.count().max(1) as u64;
    let rate = (COPIES_PER_SEC / n_networks).min(RESERVE_PER_SEC);
    Setting::of_packets(rate, Some(RESERVE_SAVED))
}

fn is_behind(network: &Network, ingress: &Ingress) -> bool {
    network.uplink.is_some_and(|exit| exit.port == ingress.port)
}

impl FloodBudget {
    /// That of a port that comes up at `now` for the first time, with all saved up.
    pub(crate) fn new(ingress: &Ingress, networks: &Networks, now: Nanos) -> Self {
        let limiter = |setting| Arc::new(Limiter::new(setting).saved_up(now));
        let n_reserves = if ingress.trunk.is_some() {
            networks.networks.len()
        } else {
            0
        };
        let setting = reserve(ingress, networks);
        Self {
            all: limiter(Setting::of_packets(COPIES_PER_SEC, Some(COPIES_SAVED))),
            reserves: (0..n_reserves).map(|_| limiter(setting)).collect(),
        }
    }

    /// The same port's, when it carries other networks than `before`; `None`: as many as before,
    /// and the same. What was spent for all, or in a network that it carries on, stays spent.
    pub(crate) fn following(
        &self,
        ingress: &Ingress,
        (before, networks): (&Networks, &Networks),
        now: Nanos,
    ) -> Option<Self> {
        let carries = |networks: &Networks, id: usize| {
            networks
                .networks
                .get(id)
                .is_some_and(|network| is_behind(network, ingress))
        };
        let n_networks = networks.networks.len();
        let is_same = |id| carries(before, id) == carries(networks, id);
        if ingress.trunk.is_none()
            || n_networks == self.reserves.len() && (0..n_networks).all(is_same)
        {
            return None;
        }
        let setting = reserve(ingress, networks);
        let limiter = |id: usize| match self.reserves.get(id) {
            Some(limiter) if carries(before, id) => {
                limiter.change(now, setting);
                limiter.clone()
            }
            _ => Arc::new(Limiter::new(setting).saved_up(now)),
        };
        Some(Self {
            all: self.all.clone(),
            reserves: (0..n_networks).map(limiter).collect(),
        })
    }

    /// Whether another flood may begin in this network now.
    ///
    /// # Errors
    /// It may not; when it may.
    #[cold]
    pub(crate) fn may_begin(&self, network: NetworkId, now: Nanos) -> Result<(), Nanos> {
        let limiters = [Some(&*self.all), self.reserve(network)];
        let wait = limiters
            .into_iter()
            .flatten()
            .map(|limiter| limiter.credit(now).wait())
            .min();
        match wait {
            None | Some(0) => Ok(()),
            Some(wait) => Err(now.saturating_add(wait.max(SHUT_MIN))),
        }
    }

    /// Puts `n` copies on the bill: of all as long as they have something left, else of the network
    /// alone.
    #[cold]
    pub(crate) fn charge(&self, network: NetworkId, now: Nanos, n: u64) {
        let reserve = self
            .reserve(network)
            .filter(|_| !self.all.credit(now).is_some());
        reserve.unwrap_or(&self.all).charge(now, n);
    }

    /// For control, once a second: see [`Limiter::refresh`].
    pub(crate) fn refresh(&self, now: Nanos) {
        std::iter::once(&self.all)
            .chain(&self.reserves)
            .for_each(|limiter| limiter.refresh(now));
    }

    fn reserve(&self, network: NetworkId) -> Option<&Limiter> {
        // More networks than there were share.
        let at = usize::from(network).checked_rem(self.reserves.len())?;
        self.reserves.get(at).map(|limiter| &**limiter)
    }
}

#[cfg(test)]
mod tests {
    use flowtable::{Exit, SourcePolicy};

    use super::*;
    use crate::time::SECOND;

    const UPLINK: Ingress = Ingress {
        port: 9,
        network: NetworkId::MAX,
        trunk: Some(0),
        source: SourcePolicy::Any(1),
        generation: 1,
    };

    /// Networks that the uplink carries, or not.
    fn networks(carried: &[bool]) -> Networks {
        let network = |&is_carried: &bool| Network {
            uplink: is_carried.then_some(Exit {
                port: UPLINK.port,
                vlan: None,
            }),
            ..Network::default()
        };
        Networks {
            networks: carried.iter().map(network).collect(),
            ..Networks::default()
        }
    }

    fn left(budget: &FloodBudget, network: NetworkId, now: Nanos) -> i64 {
        budget
            .reserve(network)
            .map_or(0, |limiter| limiter.left(now))
    }

    #[test]
    fn what_was_spent_stays_spent_and_a_new_network_has_a_reserve_of_its_own() {
        let now = 10 * SECOND;
        let before = networks(&[true, true, false]);
        let budget = FloodBudget::new(&UPLINK, &before, now);
        budget.charge(0, now, COPIES_SAVED);
        for (network, n) in [(0, 1000), (1, 2000)] {
            budget.charge(network, now, n);
        }
        assert!(budget.following(&UPLINK, (&before, &before), now).is_none());
        // One goes, and three come.
        let after = networks(&[true, false, true, true, true]);
        let other = budget.following(&UPLINK, (&before, &after), now).unwrap();
        assert_eq!(other.all.left(now), budget.all.left(now));
        let saved = i64::try_from(RESERVE_SAVED).unwrap();
        assert_eq!(left(&other, 0, now), saved - 1000);
        assert!((2..5).all(|id| left(&other, id, now) == saved));
        // A core that has the one of before yet spends of the same.
        budget.charge(0, now, 20);
        assert_eq!(left(&other, 0, now), saved - 1020);
        // The id of the one that went is another network's.
        let again = other.following(&UPLINK, (&after, &before), now).unwrap();
        assert_eq!(left(&again, 1, now), saved);
        // Of many networks each has less.
        let many = networks(&[true; 100]);
        let time = |budget: &FloodBudget| budget.reserve(0).unwrap().time(1000);
        let few = time(&budget);
        let other = budget.following(&UPLINK, (&before, &many), now).unwrap();
        assert!(time(&other) > few);
    }
}
