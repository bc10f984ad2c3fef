//! Limits of VMs, and spans of time.

use std::sync::Arc;

use flowtable::PortId;
use pmd::limit::{LimitOptions, VmLimits};
use pmd::time::Nanos;

use crate::Rig;

/// A millisecond of virtual time.
pub const MS: Nanos = 1_000_000;
/// A second of it.
pub const SECOND: Nanos = 1000 * MS;

/// No limit at all.
pub const NO_LIMIT: LimitOptions = LimitOptions {
    bits_per_sec: None,
    packets_per_sec: None,
    burst_bytes: None,
    queue: None,
};

/// A limit of bits a second alone, without a queue.
pub fn bits(bits_per_sec: u64) -> LimitOptions {
    LimitOptions {
        bits_per_sec: Some(bits_per_sec),
        ..NO_LIMIT
    }
}

/// A limit of packets a second alone, without a queue.
pub fn packets(packets_per_sec: u64) -> LimitOptions {
    LimitOptions {
        packets_per_sec: Some(packets_per_sec),
        ..NO_LIMIT
    }
}

impl Rig {
    /// These ports are one VM's, with these limits on what it sends and on what it gets.
    pub fn limit(&mut self, ports: &[PortId], from_vm: LimitOptions, to_vm: LimitOptions) {
        self.cores
            .limit(ports, &Arc::new(VmLimits::new(from_vm, to_vm)));
    }
}
