//! What the floods of a port may cost: copies a second, limit or no limit.
//!
//! One budget a port, over all its queues and cores. A trunk's serves many networks, of which one
//! must not spend what the others need: each has a reserve of its own besides, which is charged
//! while there is nothing left for all. So a flood in one VLAN costs the others nothing that they
//! get by their reserve: ARP, neighbour discovery, DHCP.
//!
//! Control makes it when the port first comes up and keeps it: a guest that sets up its queues anew
//! has what it had before.

use flowtable::{Ingress, NetworkId, Networks};

use crate::limit::gate::SHUT_MIN;
use crate::limit::rate::Limiter;
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
    all: Limiter,
    /// By network; a port in one network has none.
    reserves: Box<[Limiter]>,
}

impl FloodBudget {
    /// That of a port that comes up at `now` for the first time, with all saved up.
    pub(crate) fn new(ingress: &Ingress, networks: &Networks, now: Nanos) -> Self {
        let limiter = |rate, saved| Limiter::of_packets(rate, Some(saved)).saved_up(now);
        let n_reserves = if ingress.trunk.is_some() {
            networks.networks.len()
        } else {
            0
        };
        let is_of_port = |exit: flowtable::Exit| exit.port == ingress.port;
        let n_networks = networks
            .networks
            .iter()
            .filter(|network| network.uplink.is_some_and(is_of_port))
            .count();
        let rate = (COPIES_PER_SEC / n_networks.max(1) as u64).min(RESERVE_PER_SEC);
        Self {
            all: limiter(COPIES_PER_SEC, COPIES_SAVED),
            reserves: (0..n_reserves)
                .map(|_| limiter(rate, RESERVE_SAVED))
                .collect(),
        }
    }

    /// Whether another flood may begin in this network now.
    ///
    /// # Errors
    /// It may not; when it may.
    #[cold]
    pub(crate) fn may_begin(&self, network: NetworkId, now: Nanos) -> Result<(), Nanos> {
        let limiters = [Some(&self.all), self.reserve(network)];
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
        self.reserves.get(at)
    }
}
