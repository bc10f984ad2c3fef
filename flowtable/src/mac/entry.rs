//! One address of the MAC table: what a look-up finds, and how a slot's word says it.

use crate::ids::{NetworkId, PortId};

/// An entry's slot, and its sequence number when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef {
    pub(super) slot: u32,
    pub(super) sequence: u32,
}

impl EntryRef {
    /// Depends on no entry: a group address, for instance.
    pub const NONE: EntryRef = EntryRef {
        slot: u32::MAX,
        sequence: 0,
    };

    /// As one word, for the flow table.
    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        u64::from(self.slot) << 32 | u64::from(self.sequence)
    }

    /// From such a word.
    #[inline(always)]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            slot: sequence_of(bits >> 32),
            sequence: sequence_of(bits),
        }
    }
}

/// One address as a look-up found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its entry.
    pub entry: EntryRef,
    /// The port that it is behind.
    pub port: PortId,
    /// Whether another port may take the address over by sending from it.
    pub movable: bool,
    /// How it came to be known.
    pub kind: Kind,
    /// Whether it is the own address of another port, which is resting: see
    /// [`crate::MacTable::rest`].
    pub is_away: bool,
}

/// Kind of an entry. Where there is no room, lower kinds are evicted for higher ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Learned from a port that may send from any address, such as an uplink: ages, and moves to
    /// where it was seen last.
    Learned,
    /// The same, from a port with a bound on its addresses.
    Counted,
    /// The first address of a port without `mac:`: stays until another guest comes.
    Sticky,
    /// From the topology: never aged or removed with its guest.
    Static,
}

/// Result of an attempt to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// The address is in the table now.
    Yes(EntryRef),
    /// The port has as many addresses as it may.
    PortFull,
    /// No slot was free, or another core was learning at the same place. The next frame tries
    /// again.
    NotNow,
}

/// A row of [`crate::MacTable::rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The address.
    pub mac: [u8; 6],
    /// The network it was seen in.
    pub network: NetworkId,
    /// The port that it is behind.
    pub port: PortId,
    /// How it came to be known.
    pub kind: Kind,
    /// The port that owns it, and is resting; none: it is behind its owner.
    pub away_from: Option<PortId>,
    /// Whether another port has claimed it, and the port has sent nothing since.
    pub is_disputed: bool,
    /// When it last sent, in seconds of the switch's clock.
    pub seen: u32,
}

// A word: sequence in the low half, port above it, then flags.
pub(super) const VALID: u64 = 1 << 48;
pub(super) const STATIC: u64 = 1 << 49;
pub(super) const STICKY: u64 = 1 << 50;
pub(super) const COUNTED: u64 = 1 << 51;
/// Its port is the uplink; its owner is another one, which is resting.
pub(super) const AWAY: u64 = 1 << 52;

#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
pub(super) fn port_of(word: u64) -> PortId {
    (word >> 32) as u16
}

#[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
pub(super) fn sequence_of(word: u64) -> u32 {
    word as u32
}

pub(super) fn kind_of(word: u64) -> Kind {
    match word & (STATIC | STICKY | COUNTED) {
        0 => Kind::Learned,
        COUNTED => Kind::Counted,
        STATIC => Kind::Static,
        _ => Kind::Sticky,
    }
}

/// The word that follows `before`, for an entry of `port`.
pub(super) fn next_word(before: u64, port: PortId, kind: Kind) -> u64 {
    let flags = match kind {
        Kind::Static => STATIC,
        Kind::Sticky => STICKY,
        Kind::Counted => COUNTED,
        Kind::Learned => 0,
    };
    VALID | flags | u64::from(port) << 32 | next_sequence(before)
}

pub(super) fn next_sequence(before: u64) -> u64 {
    u64::from(sequence_of(before).wrapping_add(1))
}

pub(super) fn key_of(network: NetworkId, mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0]) | u64::from(network)
}

#[expect(clippy::cast_possible_truncation, reason = "takes a key apart")]
pub(super) fn network_of(key: u64) -> NetworkId {
    key as u16
}

/// Whether two keys are of one address, in whatever networks.
pub(super) fn is_same_address(one: u64, other: u64) -> bool {
    mac_of(one) == mac_of(other)
}

/// The key of the same address in another network.
pub(super) fn in_network(key: u64, network: NetworkId) -> u64 {
    key_of(network, mac_of(key))
}

pub(super) fn mac_of(key: u64) -> [u8; 6] {
    let [a, b, c, d, e, f, _, _] = key.to_be_bytes();
    [a, b, c, d, e, f]
}

pub(super) fn found_at(slot: usize, word: u64) -> Found {
    let (kind, is_away) = (kind_of(word), word & AWAY != 0);
    let entry = EntryRef {
        slot: slot_number(slot),
        sequence: sequence_of(word),
    };
    Found {
        entry,
        port: port_of(word),
        movable: kind < Kind::Sticky,
        kind,
        is_away,
    }
}

pub(super) fn slot_number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}
