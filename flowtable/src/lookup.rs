//! The order in which a burst is decided: key and hash of every frame, then remembered decisions, then, for what is new,
//! the whole question.

use crate::action::{Action, DropReason};
use crate::front::{Front, When};
use crate::header::{ETHERNET_LEN, Header, TAG_LEN};
use crate::key::Key;
use crate::mac::{EntryRef, Found, Kind, Learned, MacTable};
use crate::network::{Ingress, Network, Networks, PortId, SourcePolicy, TrunkId};
use crate::table::{Decision, FlowTable, Hit};
use crate::tally::Tally;
use crate::tuple::{KeyFields, Tuple};
use std::sync::Arc;

/// Frames that [`Lookup::decide`] takes at once.
pub const BURST_MAX: usize = 32;
/// Decisions that a core has at hand: a quarter of a usual second-level cache.
const FRONT_FLOWS: usize = 1 << 12;

/// What one core decides with: flows, addresses and networks, which it shares with all others, and what it has at hand.
#[derive(Debug)]
pub struct Lookup {
    front: Front,
    flows: Arc<FlowTable>,
    macs: Arc<MacTable>,
    networks: Arc<Networks>,
    tally: Arc<Tally>,
    keys: Box<[(Key, u64); BURST_MAX]>,
}

/// A burst on its way through the table.
#[derive(Clone, Copy)]
struct Asked<'a> {
    from: &'a Ingress,
    headers: &'a [Header],
    lens: &'a [u32],
    fields: KeyFields,
    /// Longest frame without tag.
    frame_max: u32,
    /// The greatest generation that an answer of now rests on.
    stamp: u32,
    /// Of the MAC table, before anything of it was looked at.
    epoch: u32,
    now: u32,
}

impl Asked<'_> {
    /// The words that every frame's key holds: a trunk's say the VLAN too.
    #[inline(always)]
    fn words(&self, header: &Header) -> [u64; 2] {
        let port = self.from.port;
        if self.from.trunk.is_some() { Key::words_of_trunk(header, port) } else { Key::words_of(header, port) }
    }

    /// All that rules can ask of a frame. Of a trunk's its outer tag is no part: it is the network's, and goes before the frame is sent on.
    #[inline(always)]
    fn tuple(&self, header: &Header, len: u32) -> Tuple {
        let n_popped = usize::from(self.from.trunk.is_some() && header.is_tagged());
        Tuple::parse_behind(header, len as usize, n_popped)
    }

    /// Whether all frames are to be decided, and none of them is too long. One look at all lengths saves two at each: zero,
    /// for frames refused before, counts as the longest there is. Of a trunk's frames each is looked at.
    #[inline(always)]
    fn all_fit(&self) -> bool {
        let longest = self.lens.iter().fold(0, |most, len| most.max(len.wrapping_sub(1)));
        longest < self.frame_max && self.from.trunk.is_none()
    }

    /// Whether a frame is to be decided: it was not refused before, and is no longer than its network allows. A trunk's tag
    /// goes before the frame is sent on, so it counts for no length.
    #[cold]
    fn fits(&self, k: usize, action: &mut Action) -> bool {
        let (header, len) = (&self.headers[k], self.lens[k]);
        let n_tags = match self.from.trunk {
            Some(_) => header.n_tags(len as usize),
            None => u32::from(header.is_tagged()),
        };
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

/// Frames of a VLAN that is no network's.
fn refuse_vlan(headers: &[Header], lens: &[u32], actions: &mut [Action]) {
    for ((header, &len), action) in headers.iter().zip(lens).zip(actions).filter(|((_, len), _)| **len > 0) {
        *action = Action::Drop(if is_cut_tag(header, len) { DropReason::Runt } else { DropReason::UnknownVlan });
    }
}

/// Whether the frame ends within its tag.
fn is_cut_tag(header: &Header, len: u32) -> bool {
    header.is_tagged() && len < ETHERNET_LEN + TAG_LEN
}

/// A decision and what it rests on. `None`: not worth remembering.
struct Composed {
    action: Action,
    rests_on: Option<(EntryRef, EntryRef)>,
}

impl Composed {
    fn once(action: Action) -> Self {
        Self { action, rests_on: None }
    }

    fn drop(reason: DropReason) -> Self {
        Self::once(Action::Drop(reason))
    }
}

impl Lookup {
    /// With nothing at hand yet but a few; see [`Lookup::make_room`].
    pub fn new(flows: Arc<FlowTable>, macs: Arc<MacTable>, networks: Arc<Networks>) -> Self {
        let keys = Box::new([Default::default(); BURST_MAX]);
        Self { front: Front::new(0), flows, macs, networks, tally: Arc::default(), keys }
    }

    /// Takes up the memory for what a core has at hand. For the thread that will use it, so that it lies near its CPU.
    pub fn make_room(&mut self) {
        self.front = Front::new(FRONT_FLOWS);
    }

    /// Swaps the networks between bursts; the old value goes back to control, which frees it.
    pub fn set_networks(&mut self, networks: Arc<Networks>) -> Arc<Networks> {
        std::mem::replace(&mut self.networks, networks)
    }

    /// The networks in force.
    #[inline(always)]
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// What this core counts of its decisions.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Decides a burst of one ingress port.
    ///
    /// `headers[k]` and `lens[k]` (bytes of the frame without FCS) say what came, `actions[k]` receives the answer; a frame
    /// of length zero was refused before and keeps its action. `now`: seconds of the switch's clock.
    /// Shapes: all three of the same length, [`BURST_MAX`] at most. Two passes: hash and prefetch all, then compare; what
    /// this core doesn't have at hand goes through the shared table in the same way.
    #[inline]
    pub fn decide(&mut self, from: &Ingress, headers: &[Header], lens: &[u32], actions: &mut [Action], now: u32) {
        let n = headers.len().min(lens.len()).min(actions.len()).min(BURST_MAX);
        let (headers, lens, actions) = (&headers[..n], &lens[..n], &mut actions[..n]);
        if let Some(trunk) = from.trunk {
            return self.decide_trunk(from, trunk, headers, lens, actions, now);
        }
        self.decide_network(from, headers, lens, actions, now);
    }

    /// For a port whose frames say by their outer tag to which network they belong: frames of one network that follow each
    /// other are decided as a burst.
    #[inline(never)]
    fn decide_trunk(
        &mut self,
        from: &Ingress,
        trunk: TrunkId,
        headers: &[Header],
        lens: &[u32],
        actions: &mut [Action],
        now: u32,
    ) {
        let mut begin = 0;
        for alike in headers.chunk_by(|one, other| one.vlan() == other.vlan()) {
            let all = begin..begin + alike.len();
            begin = all.end;
            let (lens, actions) = (&lens[all.clone()], &mut actions[all]);
            match self.networks.of_vlan(trunk, alike[0].vlan()) {
                Some(network) => self.decide_network(&Ingress { network, ..*from }, alike, lens, actions, now),
                None => refuse_vlan(alike, lens, actions),
            }
        }
    }

    #[inline(always)]
    fn decide_network(&mut self, from: &Ingress, headers: &[Header], lens: &[u32], actions: &mut [Action], now: u32) {
        let network = self.networks.network(from.network);
        let stamp = from.generation.max(network.generation);
        let fields = self.networks.key_fields(from.port, from.network);
        let epoch = self.macs.epoch(from.network);
        let asked = Asked { from, headers, lens, fields, frame_max: network.frame_max, stamp, epoch, now };
        if fields.is_none() { self.decide_by_addresses(&asked, actions) } else { self.decide_by_rules(&asked, actions) }
    }

    /// Where no rules ask for more, two words are the key. Its other words can't differ: what is at hand with another kind of
    /// key has another stamp, since rules have changed.
    #[inline(always)]
    fn decide_by_addresses(&mut self, asked: &Asked<'_>, actions: &mut [Action]) {
        let n = asked.headers.len();
        let mut keys = [[0; 2]; BURST_MAX];
        let mut places = [0; BURST_MAX];
        for ((header, key), place) in asked.headers.iter().zip(&mut keys).zip(&mut places) {
            *key = asked.words(header);
            *place = self.front.prefetch(self.flows.hash_of(*key));
        }
        let all_fit = asked.all_fit();
        let (known, when) = (self.macs.known(), When::new(asked.stamp, asked.now));
        let mut missed = 0u32;
        for k in 0..n {
            if !all_fit && !asked.fits(k, &mut actions[k]) {
                continue;
            }
            let flow = self.front.at(places[k]);
            if [flow.key[0], flow.key[1]] == keys[k] && flow.is_fresh(when, asked.epoch, known) {
                actions[k] = flow.action;
            } else {
                missed |= 1 << k;
            }
        }
        self.tally.front_hits.add(n as u64 - u64::from(missed.count_ones()));
        if missed != 0 {
            for k in bits(missed) {
                let key = Key::from_words(keys[k]);
                self.keys[k] = (key, self.flows.hash(&key));
            }
            self.decide_missed(asked, actions, missed, &places);
        }
    }

    /// The same where rules ask for more.
    #[inline(never)]
    fn decide_by_rules(&mut self, asked: &Asked<'_>, actions: &mut [Action]) {
        let n = asked.headers.len();
        let mut places = [0; BURST_MAX];
        let frames = asked.headers.iter().zip(asked.lens).zip(self.keys.iter_mut()).zip(&mut places);
        for (((header, &len), (key, hash)), place) in frames {
            *key = Key::from_words(asked.words(header)).with(&asked.tuple(header, len).cut(asked.fields));
            *hash = self.flows.hash(key);
            *place = self.front.prefetch(*hash);
        }
        let all_fit = asked.all_fit();
        let (known, when) = (self.macs.known(), When::new(asked.stamp, asked.now));
        let mut missed = 0u32;
        for k in 0..n {
            if !all_fit && !asked.fits(k, &mut actions[k]) {
                continue;
            }
            let flow = self.front.at(places[k]);
            if flow.key == self.keys[k].0.short() && flow.is_fresh(when, asked.epoch, known) {
                actions[k] = flow.action;
            } else {
                missed |= 1 << k;
            }
        }
        self.tally.front_hits.add(n as u64 - u64::from(missed.count_ones()));
        if missed != 0 {
            self.decide_missed(asked, actions, missed, &places);
        }
    }

    /// The frames whose bit is set in `missed`, through the shared table: buckets, then entries, then what they rest on, each for all
    /// frames before the next.
    #[inline(never)]
    fn decide_missed(&mut self, asked: &Asked<'_>, actions: &mut [Action], missed: u32, places: &[u32; BURST_MAX]) {
        for k in bits(missed) {
            self.flows.prefetch(self.keys[k].1);
        }
        let mut entries = [None; BURST_MAX];
        for k in bits(missed) {
            let (key, hash) = &self.keys[k];
            entries[k] = self.flows.candidate(*hash, key);
        }
        let mut hits = [None; BURST_MAX];
        for k in bits(missed) {
            let hit = entries[k].and_then(|entry| self.flows.get(entry, &self.keys[k].0));
            if let Some(hit) = &hit {
                self.macs.prefetch(hit.decision.src);
                self.macs.prefetch(hit.decision.dst);
            }
            hits[k] = hit;
        }
        let mut n_hits = 0;
        for k in bits(missed) {
            match hits[k] {
                Some(hit) if self.is_fresh(&hit, asked) => {
                    n_hits += 1;
                    self.found(asked, k, places[k], &hit);
                    actions[k] = hit.decision.action;
                }
                _ => actions[k] = self.decide_slowly(asked, k, places[k]),
            }
        }
        self.tally.hits.add(n_hits);
    }

    #[inline(always)]
    fn is_fresh(&self, hit: &Hit, asked: &Asked<'_>) -> bool {
        let Decision { stamp, src, dst, .. } = hit.decision;
        stamp == asked.stamp && self.macs.holds(src) && self.macs.holds(dst)
    }

    /// A flow of the table is in use: that is noted, and it is kept at hand.
    #[inline(always)]
    fn found(&mut self, asked: &Asked<'_>, k: usize, place: u32, hit: &Hit) {
        let now = asked.now;
        if hit.seen != now {
            self.flows.touch(hit, now);
            self.macs.touch(hit.decision.src, now);
        }
        self.front.offer(place, &self.keys[k].0, &hit.decision, asked.epoch, now);
    }

    /// The flow was not there, or rests on something that changed, when the burst's were looked for: it may be there by now,
    /// entered by a frame before this one. If not, the whole question is asked.
    #[cold]
    #[inline(never)]
    fn decide_slowly(&mut self, asked: &Asked<'_>, k: usize, place: u32) -> Action {
        let (key, hash) = self.keys[k];
        let hit = self.flows.find(hash, &key);
        if let Some(hit) = hit.filter(|hit| self.is_fresh(hit, asked)) {
            self.tally.hits.add(1);
            self.found(asked, k, place, &hit);
            return hit.decision.action;
        }
        self.tally.misses.add(1);
        let Composed { action, rests_on } = self.compose(asked, k, key.is_tagged());
        let Some((src, dst)) = rests_on else {
            self.tally.not_remembered();
            return action;
        };
        let decision = Decision { action, stamp: asked.stamp, src, dst };
        let now = asked.now;
        match hit {
            Some(hit) => self.tally.updated(self.flows.update(&hit, &decision, now)),
            None => {
                let generation = asked.from.generation;
                self.tally.entered(self.flows.insert(hash, &key, &decision, generation, &self.macs, now));
            }
        }
        action
    }

    /// The whole question: may the frame be sent from here, where does its address lead to, and what do rules say.
    fn compose(&mut self, asked: &Asked<'_>, k: usize, is_tagged: bool) -> Composed {
        let (from, header) = (asked.from, &asked.headers[k]);
        let (src, dst) = (header.src(), header.dst());
        if is_tagged && from.trunk.is_none() && !self.networks.network(from.network).passes_tags {
            return Composed::drop(DropReason::Tagged);
        }
        if src[0] & 1 != 0 || src == [0; 6] {
            return Composed::drop(DropReason::BadSource);
        }
        if dst[..5] == [0x01, 0x80, 0xc2, 0, 0] && dst[5] < 0x10 {
            return Composed::drop(DropReason::LinkLocal);
        }
        let src_entry = match self.source(from, src, asked.now) {
            Ok(entry) => entry,
            Err(reason) => return Composed::drop(reason),
        };
        let (mut action, dst_entry) = self.destination(from, dst);
        if !asked.fields.is_none() {
            action = self.networks.judge(from.port, action, &asked.tuple(header, asked.lens[k]));
        }
        Composed { action, rests_on: src_entry.map(|entry| (entry, dst_entry)) }
    }

    fn destination(&self, from: &Ingress, dst: [u8; 6]) -> (Action, EntryRef) {
        if dst[0] & 1 != 0 {
            return (Action::Flood(from.network), EntryRef::NONE);
        }
        let found =
            self.macs.find(from.network, dst).ok_or(()).or_else(|()| match self.macs.absent(from.network, dst) {
                Ok(absence) => Err(absence),
                Err(found) => Ok(found),
            });
        match found {
            Ok(found) if found.port == from.port => (Action::Drop(DropReason::SamePort), found.entry),
            Ok(found) => (Action::Unicast(found.port), found.entry),
            Err(absence) => (Action::Flood(from.network), absence),
        }
    }

    /// Whether the port may send from this address; learns it, or moves it here. `Ok(None)`: it may, but nothing was
    /// remembered, so the decision must not be either.
    fn source(&mut self, from: &Ingress, src: [u8; 6], now: u32) -> Result<Option<EntryRef>, DropReason> {
        let Some(found) = self.macs.find(from.network, src) else { return self.learn(from, src, now) };
        if found.port == from.port {
            self.macs.touch(found.entry, now);
            return Ok(Some(found.entry));
        }
        match from.source {
            _ if !found.movable => return Err(DropReason::Spoofed),
            SourcePolicy::Fixed(_) => return Err(DropReason::Spoofed),
            // Its first address, which somebody who may have any was quicker to use.
            SourcePolicy::Sticky => return self.take_over(from, found, src, now),
            SourcePolicy::Learn(_) => {}
        }
        if self.macs.may_move(from.port, now)
            && self.macs.move_to(found, from.port, Kind::Learned, from.source.address_max(), now)
        {
            return Ok(self.macs.find(from.network, src).map(|found| found.entry));
        }
        Ok(None)
    }

    fn take_over(&self, from: &Ingress, found: Found, src: [u8; 6], now: u32) -> Result<Option<EntryRef>, DropReason> {
        if self.macs.move_to(found, from.port, Kind::Sticky, 1, now) {
            Ok(self.macs.find(from.network, src).map(|found| found.entry))
        } else {
            Err(DropReason::Spoofed)
        }
    }

    fn learn(&mut self, from: &Ingress, src: [u8; 6], now: u32) -> Result<Option<EntryRef>, DropReason> {
        let kind = match from.source {
            SourcePolicy::Fixed(mac) if mac != src => return Err(DropReason::Spoofed),
            SourcePolicy::Fixed(_) => Kind::Static,
            SourcePolicy::Sticky => Kind::Sticky,
            SourcePolicy::Learn(_) => Kind::Learned,
        };
        if !self.macs.may_learn(from.port, now) {
            return Ok(None);
        }
        match self.macs.learn(from.network, src, from.port, kind, from.source.address_max(), now) {
            Learned::Yes(entry) => Ok(Some(entry)),
            Learned::PortFull => Err(DropReason::Spoofed),
            Learned::NotNow => Ok(None),
        }
    }
}

/// The numbers of the bits that are set, from the lowest on.
#[inline(always)]
fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros() as usize;
        (set != 0).then(|| {
            set &= set - 1;
            bit
        })
    })
}

/// Who gets a flooded frame: every member but the ingress port.
pub fn flood_members(network: &Network, from: PortId) -> impl Iterator<Item = PortId> + '_ {
    network.members.iter().copied().filter(move |&port| port != from)
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
