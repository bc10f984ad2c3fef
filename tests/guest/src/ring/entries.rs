//! What a ring consists of: descriptors, chains, used entries, and where they are.

use super::*;

/// Descriptor flag: `next` is valid.
pub const NEXT: u16 = 1;
/// Descriptor flag: for the device to write.
pub const WRITE: u16 = 2;
/// Descriptor flag: a table of descriptors.
pub const INDIRECT: u16 = 4;
/// `avail.flags`: don't call. `used.flags` has the same bit for: don't kick.
pub const NO_NOTIFY: u16 = 1;
/// Token of chains that were added raw.
pub const RAW_TOKEN: u32 = u32::MAX;

/// Guest-physical (or user) addresses of a ring's three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingAddresses {
    /// Descriptor table: 16 bytes an entry.
    pub desc: u64,
    /// Avail ring: flags, idx, 2 bytes an entry, `used_event`.
    pub avail: u64,
    /// Used ring: flags, idx, 8 bytes an entry, `avail_event`.
    pub used: u64,
}

/// One descriptor, any numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desc {
    /// Guest-physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// [`NEXT`], [`WRITE`], [`INDIRECT`].
    pub flags: u16,
    /// The following descriptor, if [`NEXT`].
    pub next: u16,
}

impl Desc {
    /// As in memory.
    pub fn to_bytes(self) -> [u8; 16] {
        let word = u128::from(self.addr)
            | u128::from(self.len) << 64
            | u128::from(self.flags) << 96
            | u128::from(self.next) << 112;
        word.to_le_bytes()
    }
}

/// A piece of memory in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Guest-physical address.
    pub gpa: u64,
    /// Bytes.
    pub len: u32,
    /// For the device to write.
    pub writable: bool,
}

/// A chain that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its head.
    pub head: u16,
    /// Bytes that the device says it wrote.
    pub len: u32,
    /// What `add` was given.
    pub token: u32,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) descs: Vec<u16>,
    pub(super) writable_bytes: u64,
    pub(super) token: u32,
}

/// How a ring is made.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Entries.
    pub size: u16,
    /// Guest-physical addresses.
    pub at: RingAddresses,
    /// Event index in place of flags.
    pub event_idx: bool,
    /// Use of indirect tables.
    pub indirect: Indirect,
    /// Guest-physical address of one table a descriptor, each of `indirect_entries`.
    pub tables: u64,
    /// Entries of an indirect table.
    pub indirect_entries: u16,
    /// `IN_ORDER` was negotiated.
    pub in_order: bool,
    /// Chains must come back in ring order.
    pub require_order: bool,
    /// Reuse descriptors first in, first out.
    pub fifo: bool,
}
