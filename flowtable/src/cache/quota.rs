//! How many entries each port has, and how many it may have.
//!
//! While a quarter of the table is free, every port may take what it needs. Then the table is
//! *tight*: a port that has its share (an equal part for each port with any entry) gets no more,
//! and others may evict what it has beyond. So the last quarter is left for ports that come late.

use crate::ids::PortId;
use crate::memory::cache_line::Apart;
use crate::memory::sync::{AtomicU32, Ordering};

/// The counts. They are exact only at rest; nothing unsafe depends on them.
#[derive(Debug)]
pub(crate) struct Quota {
    capacity: u32,
    n_used: Apart<AtomicU32>,
    /// Ports with at least one entry.
    n_active: Apart<AtomicU32>,
    ports: Box<[Apart<PortQuota>]>,
}

#[derive(Debug)]
struct PortQuota {
    n_used: AtomicU32,
    /// The port's generation, as known to the core that last entered a flow for it.
    generation: AtomicU32,
}

impl Quota {
    pub(crate) fn new(capacity: u32, n_ports: usize) -> Self {
        let port = || {
            Apart(PortQuota {
                n_used: AtomicU32::new(0),
                generation: AtomicU32::new(0),
            })
        };
        let (n_used, n_active) = (Apart(AtomicU32::new(0)), Apart(AtomicU32::new(0)));
        Self {
            capacity,
            n_used,
            n_active,
            ports: (0..n_ports).map(|_| port()).collect(),
        }
    }

    /// Entries in use.
    pub(crate) fn n_used(&self) -> u32 {
        self.n_used.0.load(Ordering::Relaxed)
    }

    /// Entries of one port.
    pub(crate) fn n_used_by(&self, port: PortId) -> u32 {
        self.port(port)
            .map_or(0, |port| port.n_used.load(Ordering::Relaxed))
    }

    /// What each port may have when the table is tight.
    pub(crate) fn share(&self) -> u32 {
        self.share_of(self.n_active.0.load(Ordering::Relaxed))
    }

    /// The same, counting this port as one with entries.
    fn share_with(&self, port: PortId) -> u32 {
        let is_new = self.n_used_by(port) == 0;
        self.share_of(self.n_active.0.load(Ordering::Relaxed) + u32::from(is_new))
    }

    /// How many ports there can be.
    pub(crate) fn n_ports(&self) -> usize {
        self.ports.len()
    }

    fn share_of(&self, n_ports: u32) -> u32 {
        (self.capacity / n_ports.max(1)).max(1)
    }

    /// Whether shares are enforced.
    pub(crate) fn is_tight(&self) -> bool {
        self.n_used() >= self.capacity - self.capacity / 4
    }

    /// Whether the port may have one more entry.
    pub(crate) fn may_grow(&self, port: PortId) -> bool {
        !self.is_tight() || self.n_used_by(port) < self.share_with(port)
    }

    /// Whether the port has more than its share, so that `other` may evict some of its entries.
    pub(crate) fn is_over(&self, port: PortId, other: PortId) -> bool {
        self.n_used_by(port) > self.share_with(other)
    }

    /// An entry of the port was published.
    pub(crate) fn grew(&self, port: PortId) {
        self.n_used.0.fetch_add(1, Ordering::Relaxed);
        if let Some(port) = self.port(port)
            && port.n_used.fetch_add(1, Ordering::Relaxed) == 0
        {
            self.n_active.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An entry of the port was removed. Comes after its `grew`, so no count falls below zero.
    pub(crate) fn shrank(&self, port: PortId) {
        self.n_used.0.fetch_sub(1, Ordering::Relaxed);
        if let Some(port) = self.port(port)
            && port.n_used.fetch_sub(1, Ordering::Relaxed) == 1
        {
            self.n_active.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Records the generation of the port that a core decides by.
    pub(crate) fn announce(&self, port: PortId, generation: u32) {
        if let Some(port) = self.port(port)
            && port.generation.load(Ordering::Relaxed) != generation
        {
            port.generation.store(generation, Ordering::Relaxed);
        }
    }

    /// Whether a decision with this stamp is older than its port's last change. A decision of a
    /// core that does not know of the change yet counts as old, and one of a network that has
    /// changed since as new: this only finds victims.
    pub(crate) fn is_outdated(&self, port: PortId, stamp: u32) -> bool {
        self.port(port)
            .is_none_or(|port| stamp < port.generation.load(Ordering::Relaxed))
    }

    fn port(&self, port: PortId) -> Option<&PortQuota> {
        self.ports.get(usize::from(port)).map(|port| &port.0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn fill(quota: &Quota, port: PortId, n: u32) {
        (0..n).for_each(|_| quota.grew(port));
    }

    #[test]
    fn shares_bind_when_three_quarters_are_in_use() {
        let quota = Quota::new(100, 4);
        fill(&quota, 1, 74);
        assert!(quota.may_grow(1) && !quota.is_tight());
        fill(&quota, 2, 1);
        assert!(quota.is_tight() && quota.share() == 50);
        assert!(!quota.may_grow(1) && quota.is_over(1, 2));
        assert!(quota.may_grow(2) && !quota.is_over(2, 1));
        assert!(
            quota.is_over(1, 3) && quota.may_grow(3),
            "one that comes is counted already"
        );
        quota.shrank(2);
        assert!(quota.may_grow(1), "nothing is tight any more");
    }

    #[test]
    fn only_ports_with_entries_have_a_share() {
        let quota = Quota::new(90, 1000);
        fill(&quota, 7, 2);
        assert_eq!(quota.share(), 90);
        fill(&quota, 8, 1);
        fill(&quota, 9, 1);
        assert_eq!(quota.share(), 30);
        quota.shrank(8);
        assert_eq!(
            (quota.share(), quota.n_used(), quota.n_used_by(7)),
            (45, 3, 2)
        );
    }
}
