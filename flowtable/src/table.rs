//! Decisions remembered, one entry a flow, for one core.
//!
//! A direct-mapped table of cache lines: a flow's hash is its place, and whoever comes last has it. An entry says on what
//! it rests (its port's generation, two MAC entries, the MAC table's epoch), so a change makes it stale without anybody
//! hunting for it.

use crate::action::Action;
use crate::header::spread;
use crate::mac::EntryRef;
use crate::network::PortId;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// What a flow is recognised by: both addresses, whether there is a tag, and the port it came in by; of a trunk's frame also
/// the VLAN id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) lo: u64,
    pub(crate) hi: u64,
}

/// Set in `hi` for frames with a VLAN tag.
pub(crate) const TAGGED: u64 = 1 << 63;
/// Set in `hi` always, so that an empty entry matches nothing.
const PRESENT: u64 = 1 << 62;
/// Where in `hi` the VLAN id of a trunk's frame begins.
const VLAN_AT: u32 = 48;

impl Key {
    /// From the frame's first two words: the second begins with the rest of the source address, then come EtherType or tag.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "takes a word apart")]
    pub(crate) fn new(words: (u64, u64), port: PortId) -> Self {
        let tag = if is_tag((words.1 >> 32) as u16) { TAGGED } else { 0 };
        Self { lo: words.0, hi: words.1 & 0xffff_ffff | u64::from(port) << 32 | PRESENT | tag }
    }

    /// The same for a frame that came in by a trunk: with its VLAN id.
    #[inline(always)]
    pub(crate) fn of_trunk(words: (u64, u64), port: PortId) -> Self {
        let key = Self::new(words, port);
        let vlan = if key.hi & TAGGED == 0 { 0 } else { u16::from_be((words.1 >> 48) as u16) & 0xfff };
        Self { lo: key.lo, hi: key.hi | u64::from(vlan) << VLAN_AT }
    }

    /// The VLAN id in the key of a trunk's frame; 0: no tag, or one that says its priority alone.
    #[inline(always)]
    pub(crate) fn vlan(self) -> u16 {
        (self.hi >> VLAN_AT) as u16 & 0xfff
    }
}

/// Whether the two bytes behind the addresses, in the order they lie in memory, begin a VLAN tag.
#[inline(always)]
fn is_tag(kind: u16) -> bool {
    kind == u16::from_le_bytes([0x81, 0x00]) || kind == u16::from_le_bytes([0x88, 0xa8])
}

/// A remembered decision. One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) action: Action,
    /// The MAC table's epoch at which everything below was last known to hold.
    pub(crate) epoch: u32,
    /// The ingress port's generation.
    pub(crate) generation: u32,
    /// Second in which the source was last reported as alive.
    pub(crate) seen: u32,
    pub(crate) src: EntryRef,
    /// `None`: nobody had the address, which any change of the MAC table may end.
    pub(crate) dst: Option<EntryRef>,
}

const EMPTY: Flow = Flow {
    key: Key { lo: 0, hi: 0 },
    action: Action::Flood(0),
    epoch: 0,
    generation: 0,
    seen: 0,
    src: EntryRef::NONE,
    dst: None,
};

/// The table. Belongs to one core.
#[derive(Debug)]
pub(crate) struct FlowTable {
    flows: Box<[Flow]>,
    seeds: [u64; 2],
}

impl FlowTable {
    /// Room for `capacity` flows, rounded up to a power of two. The memory is touched where flows come to lie.
    pub(crate) fn new(capacity: usize, seeds: [u64; 2]) -> Self {
        Self { flows: vec![EMPTY; capacity.max(16).next_power_of_two()].into_boxed_slice(), seeds: seeds.map(spread) }
    }

    /// The flow's place, asked for from memory already.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "keeps the low bits of a hash")]
    pub(crate) fn prefetch(&self, key: Key) -> u32 {
        let wide = u128::from(key.lo ^ self.seeds[0]) * u128::from(key.hi ^ self.seeds[1]);
        let place = (wide ^ wide >> 64) as u32 & (self.flows.len() - 1) as u32;
        // SAFETY: a prefetch of any address does nothing that can be seen; this one is inside the table.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(self.flows.as_ptr().add(place as usize).cast()) };
        place
    }

    /// The entry at a place from [`FlowTable::prefetch`].
    #[inline(always)]
    pub(crate) fn at(&mut self, place: u32) -> &mut Flow {
        let mask = self.flows.len() - 1;
        debug_assert!(self.flows.len().is_power_of_two());
        // SAFETY: the length is a power of two (see `new`), so whatever is cut by the mask is below it.
        unsafe { self.flows.get_unchecked_mut(place as usize & mask) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_is_one_cache_line() {
        assert_eq!((size_of::<Flow>(), align_of::<Flow>()), (64, 64));
    }

    #[test]
    fn keys_of_two_ports_differ_even_for_the_same_addresses() {
        assert_ne!(Key::new((1, 2), 1), Key::new((1, 2), 2));
        assert_ne!(Key::new((1, 2), 1), Key::new((1, 2 | 0x81 << 32), 1), "one has a tag");
        assert_eq!(Key::new((1, 2), 1), Key::new((1, 2 | 0x08 << 32), 1), "the other is IPv4");
        assert_ne!(Key::new((0, 0), 0), EMPTY.key, "an empty entry is no flow");
    }

    #[test]
    fn key_of_a_trunks_frame_holds_its_vlan_and_nothing_else_of_the_tag() {
        let tagged = |kind: [u8; 2], tag: [u8; 2]| {
            let word = u64::from_le_bytes([0, 0, 0, 0, kind[0], kind[1], tag[0], tag[1]]);
            Key::of_trunk((1, word), u16::MAX)
        };
        assert_eq!(tagged([0x81, 0], [0x0f, 0xff]).vlan(), 4095);
        assert_eq!(tagged([0x88, 0xa8], [0xe1, 0x23]).vlan(), 0x123);
        assert_eq!(tagged([0x81, 0], [0x01, 0x23]), tagged([0x81, 0], [0xf1, 0x23]), "priority is no part of it");
        assert_ne!(tagged([0x81, 0], [0x01, 0x23]), tagged([0x81, 0], [0x01, 0x24]));
        assert_eq!(tagged([0x08, 0], [0x45, 0]).vlan(), 0);
        assert_ne!(tagged([0x81, 0], [0, 0]), tagged([0x08, 0], [0, 0]), "one has a tag to be taken off");
    }
}
