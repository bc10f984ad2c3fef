//! What a switch is made of, and a port as it comes up and goes down.

use std::sync::Arc;

use flowtable::{Ingress, Networks};

use crate::port::{RxQueue, TxQueue};

/// What a switch is made of.
#[derive(Clone, Debug)]
pub struct CoresOptions {
    /// Polling cores.
    pub n_cores: usize,
    /// Ids of ports that are reserved: every port's id is below this, however many there are. What
    /// is divided among ports is divided by those that exist; see [`Cores::n_ports`].
    ///
    /// [`Cores::n_ports`]: super::Cores::n_ports
    pub n_ports: usize,
    /// Decisions that can be remembered, by all cores together.
    pub n_flows: usize,
    /// Addresses that the MAC table can hold.
    pub n_macs: usize,
    /// All networks.
    pub networks: Arc<Networks>,
    /// Random numbers that key the hashes.
    pub seeds: [u64; 2],
}

/// A port as it comes up.
#[derive(Debug)]
pub struct PortUp {
    /// What decisions about its frames need.
    pub ingress: Ingress,
    /// Queues to receive from; each goes to the core that has the fewest.
    pub rxqs: Vec<RxQueue>,
    /// Queues to send to.
    pub txqs: Vec<TxQueue>,
}

/// A port that went down: all of it, back in one hand.
#[derive(Debug, Default)]
pub struct PortDown {
    /// Its receive queues, at the positions they had reached.
    pub rxqs: Vec<RxQueue>,
    /// Its transmit queues.
    pub txqs: Vec<TxQueue>,
}
