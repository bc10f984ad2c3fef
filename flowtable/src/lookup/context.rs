//! Look-up context of one burst: its frames, all of one port and one network, and what their
//! decisions depend on. Builds the frames' keys, and says which frames need no decision.

use crate::action::{Action, DropReason};
use crate::cache::key::{Key, Mask};
use crate::cache::table::FlowTable;
use crate::network::Ingress;
use crate::wire::header::{ETHERNET_LEN, Header, TAG_LEN};
use crate::wire::tuple::Tuple;

/// One burst and its look-up context.
#[derive(Clone, Copy)]
pub(crate) struct BurstContext<'a> {
    pub(crate) from: &'a Ingress,
    pub(crate) headers: &'a [Header],
    pub(crate) lens: &'a [u32],
    /// What rules can depend on.
    pub(crate) mask: Mask,
    /// Longest frame without tag.
    pub(crate) frame_max: u32,
    /// Whether guests' own tags pass as they are.
    pub(crate) passes_tags: bool,
    /// The greatest generation that a decision made now depends on.
    pub(crate) stamp: u32,
    /// Epoch of the MAC table, read before any of its entries.
    pub(crate) epoch: u32,
    pub(crate) now: u32,
    /// The same, finer: see [`crate::mac::dispute::TICK_SHIFT`].
    pub(crate) tick: u32,
}

impl BurstContext<'_> {
    /// The words that every frame's key holds, with the VLAN for a trunk; and how many tags (at
    /// most one) are removed before it is sent on: a trunk's outer one is its network's, elsewhere
    /// a priority tag is ignored. Rules see neither.
    #[inline(always)]
    pub(crate) fn words(&self, header: &Header, len: u32) -> ([u64; 2], usize) {
        let port = self.from.port;
        if self.from.trunk.is_some() {
            (
                Key::words_of_trunk(header, port),
                usize::from(header.is_tagged()),
            )
        } else if header.is_tagged() {
            self.words_of_tagged(header, len)
        } else {
            (Key::words_without_tag(header, port), 0)
        }
    }

    #[cold]
    #[inline(never)]
    fn words_of_tagged(&self, header: &Header, len: u32) -> ([u64; 2], usize) {
        let port = self.from.port;
        if !self.passes_tags && header.is_priority_tagged(len as usize) {
            (Key::words_without_tag(header, port), 1)
        } else {
            (Key::words_of(header, port), 0)
        }
    }

    /// Writes a frame's key and hash into `place`. Returns the hash too, since it is needed at once
    /// and a key that was just written in parts is slow to read back; and the number of tags to
    /// remove, as [`BurstContext::words`] does.
    #[inline(always)]
    pub(crate) fn find_key(
        &self,
        flows: &FlowTable,
        header: &Header,
        len: u32,
        place: &mut (Key, u64),
    ) -> (u64, usize) {
        let (words, n_popped) = self.words(header, len);
        let key = if self.mask.is_none() {
            Some(Key::from_words(words))
        } else {
            Key::ruled(words, header, len as usize, n_popped, &self.mask)
        };
        let Some(key) = key else {
            return self.find_key_of_any(flows, header, len, place);
        };
        let hash = flows.hash(&key);
        *place = (key, hash);
        (hash, n_popped)
    }

    #[cold]
    #[inline(never)]
    fn find_key_of_any(
        &self,
        flows: &FlowTable,
        header: &Header,
        len: u32,
        place: &mut (Key, u64),
    ) -> (u64, usize) {
        let (words, n_popped) = self.words(header, len);
        let key = Key::ruled_of_any(words, header, len as usize, n_popped, &self.mask);
        *place = (key, flows.hash(&key));
        (place.1, n_popped)
    }

    /// All that rules can test of a frame.
    pub(crate) fn tuple(&self, k: usize) -> Tuple {
        let (header, len) = (&self.headers[k], self.lens[k]);
        Tuple::parse_behind(header, len as usize, self.words(header, len).1)
    }

    /// Whether all frames are to be decided, and none of them is too long. One pass over the
    /// lengths saves two tests of each: a length of zero, of a frame refused before, wraps to the
    /// longest. A trunk's frames are tested one by one.
    #[inline(always)]
    pub(crate) fn all_fit(&self) -> bool {
        let longest = self
            .lens
            .iter()
            .fold(0, |most, len| most.max(len.wrapping_sub(1)));
        longest < self.frame_max && self.from.trunk.is_none()
    }

    /// Whether a frame is to be decided: it was not refused before, and is no longer than its
    /// network allows. The MTU leaves out up to two tags.
    #[cold]
    pub(crate) fn fits(&self, k: usize, action: &mut Action) -> bool {
        let (header, len) = (&self.headers[k], self.lens[k]);
        let n_tags = header.n_tags(len as usize);
        let refusal = match len {
            0 => return false,
            _ if self.from.trunk.is_some() && is_cut_tag(header, len) => DropReason::Runt,
            _ if len > self.frame_max + TAG_LEN * n_tags => DropReason::TooBig,
            _ => return true,
        };
        *action = Action::Drop(refusal);
        false
    }
}

/// Drops frames of a VLAN that belongs to no network.
pub(crate) fn refuse_vlan(headers: &[Header], lens: &[u32], actions: &mut [Action]) {
    for ((header, &len), action) in headers
        .iter()
        .zip(lens)
        .zip(actions)
        .filter(|((_, len), _)| **len > 0)
    {
        *action = Action::Drop(if is_cut_tag(header, len) {
            DropReason::Runt
        } else {
            DropReason::UnknownVlan
        });
    }
}

/// Whether the frame ends within its tag.
fn is_cut_tag(header: &Header, len: u32) -> bool {
    header.is_tagged() && len < ETHERNET_LEN + TAG_LEN
}
