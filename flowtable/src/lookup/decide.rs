//! The order in which a burst is decided: key and hash of every frame, then remembered decisions, then, for what is new,
//! the whole question.

use crate::action::Action;
use crate::cache::key::{Key, Mask};
use crate::cache::per_core::{Flow, Front, When};
use crate::cache::table::{Decision, FlowTable, Hit};
use crate::cache::tally::Tally;
use crate::ids::TrunkId;
use crate::lookup::context::{Asked, refuse_vlan};
use crate::lookup::slow_path::{Composed, Composer};
use crate::mac::dispute::TICK_SHIFT;
use crate::mac::table::{Known, MacTable};
use crate::network::{Ingress, Networks};
use crate::wire::header::Header;
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
    tick: u32,
}

impl Lookup {
    /// With nothing at hand yet but a few; see [`Lookup::make_room`].
    pub fn new(flows: Arc<FlowTable>, macs: Arc<MacTable>, networks: Arc<Networks>) -> Self {
        let keys = Box::new([Default::default(); BURST_MAX]);
        Self { front: Front::new(0, 0), flows, macs, networks, tally: Arc::default(), keys, tick: 0 }
    }

    /// What time it is, for who has an address that two use; once a turn. `now`: nanoseconds of the switch's clock.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it wraps, and may")]
    pub fn set_time(&mut self, now: u64) {
        self.tick = (now >> TICK_SHIFT) as u32;
    }

    /// Takes up the memory for what a core has at hand. For the thread that will use it, so that it lies near its CPU.
    pub fn make_room(&mut self) {
        self.front = Front::new(FRONT_FLOWS, self.flows.n_ports());
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

    /// Addresses, shared with all cores.
    pub(crate) fn macs(&self) -> &MacTable {
        &self.macs
    }

    /// What this core counts of its decisions.
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Decides a burst of one ingress port.
    ///
    /// `headers[k]` and `lens[k]` (bytes of the frame without FCS) say what came, `actions[k]` receives the answer; a frame
    /// of length zero was refused before and keeps its action. `now`: seconds of the switch's clock.
    /// True: some frames may have a tag that goes before they are sent on, which is the caller's to do: a trunk's outer one;
    /// elsewhere what [`Header::is_priority_tagged`] says, since it was decided without it.
    /// Shapes: all three of the same length, [`BURST_MAX`] at most. Two passes: hash and prefetch all, then compare; what
    /// this core doesn't have at hand goes through the shared table in the same way.
    #[inline]
    pub fn decide(
        &mut self,
        from: &Ingress,
        headers: &[Header],
        lens: &[u32],
        actions: &mut [Action],
        now: u32,
    ) -> bool {
        let n = headers.len().min(lens.len()).min(actions.len()).min(BURST_MAX);
        let (headers, lens, actions) = (&headers[..n], &lens[..n], &mut actions[..n]);
        if let Some(trunk) = from.trunk {
            self.decide_trunk(from, trunk, headers, lens, actions, now);
            return true;
        }
        self.decide_network(from, headers, lens, actions, now)
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
                Some(network) => {
                    self.decide_network(&Ingress { network, ..*from }, alike, lens, actions, now);
                }
                None => refuse_vlan(alike, lens, actions),
            }
        }
    }

    #[inline(always)]
    fn decide_network(
        &mut self,
        from: &Ingress,
        headers: &[Header],
        lens: &[u32],
        actions: &mut [Action],
        now: u32,
    ) -> bool {
        let network = self.networks.network(from.network);
        let stamp = from.generation.max(network.generation);
        let mask = Mask::new(self.networks.key_fields(from.port, from.network));
        let epoch = self.macs.epoch(from.network);
        let asked = Asked {
            from,
            headers,
            lens,
            mask,
            frame_max: network.frame_max,
            passes_tags: network.passes_tags,
            stamp,
            epoch,
            now,
            tick: self.tick,
        };
        if !self.front.is_asked(from.port, headers.len()) {
            self.decide_by_table(&asked, actions)
        } else if mask.is_none() {
            self.decide_by_addresses(&asked, actions)
        } else {
            self.decide_by_rules(&asked, actions)
        }
    }

    /// Where no rules ask for more, two words are the key. Its other words can't differ: what is at hand with another kind of
    /// key has another stamp, since rules have changed.
    #[inline(always)]
    fn decide_by_addresses(&mut self, asked: &Asked<'_>, actions: &mut [Action]) -> bool {
        let mut keys = [[0; 2]; BURST_MAX];
        let mut places = [0; BURST_MAX];
        let mut n_popped = 0;
        for (((header, &len), key), place) in asked.headers.iter().zip(asked.lens).zip(&mut keys).zip(&mut places) {
            let (words, n) = asked.words(header, len);
            *key = words;
            n_popped |= n;
            *place = self.front.prefetch(self.flows.hash_of(*key));
        }
        let missed = self.look_at_hand(asked, actions, &places, |_, flow, k| flow.key[..2] == keys[k]);
        if missed != 0 {
            for k in bits(missed) {
                let key = Key::from_words(keys[k]);
                self.keys[k] = (key, self.flows.hash(&key));
                self.flows.prefetch(self.keys[k].1);
            }
            self.decide_missed::<true>(asked, actions, missed, &places);
        }
        n_popped != 0
    }

    /// The same where rules ask for more.
    #[inline(never)]
    fn decide_by_rules(&mut self, asked: &Asked<'_>, actions: &mut [Action]) -> bool {
        let mut places = [0; BURST_MAX];
        let mut n_popped = 0;
        let frames = asked.headers.iter().zip(asked.lens).zip(self.keys.iter_mut()).zip(&mut places);
        for (((header, &len), key), place) in frames {
            let (hash, n) = asked.find_key(&self.flows, header, len, key);
            n_popped |= n;
            *place = self.front.prefetch(hash);
        }
        let missed = self.look_at_hand(asked, actions, &places, |keys, flow, k| flow.key == keys[k].0.short());
        if missed != 0 {
            bits(missed).for_each(|k| self.flows.prefetch(self.keys[k].1));
            self.decide_missed::<true>(asked, actions, missed, &places);
        }
        n_popped != 0
    }

    /// The frames that what is at hand does not decide, a bit each.
    #[inline(always)]
    fn look_at_hand(
        &mut self,
        asked: &Asked<'_>,
        actions: &mut [Action],
        places: &[u32; BURST_MAX],
        is_key: impl Fn(&[(Key, u64)], &Flow, usize) -> bool,
    ) -> u32 {
        let n = asked.headers.len();
        let all_fit = asked.all_fit();
        let (known, when) = (self.macs.known(), When::new(asked.stamp, asked.now));
        let mut missed = 0u32;
        for k in 0..n {
            if !all_fit && !asked.fits(k, &mut actions[k]) {
                continue;
            }
            let flow = self.front.at(places[k]);
            if is_key(&self.keys[..], flow, k) && flow.is_fresh(when, asked.epoch, known) {
                actions[k] = flow.action;
            } else {
                missed |= 1 << k;
            }
        }
        let n_missed = missed.count_ones();
        self.tally.front_hits.add(n as u64 - u64::from(n_missed));
        self.front.missed(asked.from.port, n_missed);
        missed
    }

    /// Where the port has so many flows that few are at hand: the shared table is asked at once.
    #[inline(never)]
    fn decide_by_table(&mut self, asked: &Asked<'_>, actions: &mut [Action]) -> bool {
        let (all_fit, mut n_popped) = (asked.all_fit(), 0);
        for ((header, &len), key) in asked.headers.iter().zip(asked.lens).zip(self.keys.iter_mut()) {
            let (hash, n) = asked.find_key(&self.flows, header, len, key);
            n_popped |= n;
            self.flows.prefetch(hash);
        }
        let mut wanted = 0u32;
        for (k, action) in actions.iter_mut().enumerate() {
            wanted |= u32::from(all_fit || asked.fits(k, action)) << k;
        }
        self.decide_missed::<false>(asked, actions, wanted, &[0; BURST_MAX]);
        n_popped != 0
    }

    /// The frames whose bit is set in `missed`, through the shared table, whose buckets were asked from memory: buckets, then
    /// what entries rest on, then entries, each for all frames before the next. `KEEP`: they are kept at hand, in `places`.
    #[inline(never)]
    fn decide_missed<const KEEP: bool>(
        &mut self,
        asked: &Asked<'_>,
        actions: &mut [Action],
        missed: u32,
        places: &[u32; BURST_MAX],
    ) {
        const NONE: u32 = u32::MAX;
        let mut entries = [NONE; BURST_MAX];
        for k in bits(missed) {
            let (key, hash) = &self.keys[k];
            entries[k] = self.flows.candidate(*hash, key).unwrap_or(NONE);
        }
        let known = self.macs.known();
        entries.iter().filter(|&&entry| entry != NONE).for_each(|&entry| self.flows.prefetch_rests(entry, known));
        let mut n_hits = 0;
        for k in bits(missed) {
            let hit = if entries[k] == NONE { None } else { self.flows.get(entries[k], &self.keys[k].0) };
            actions[k] = match hit {
                Some(hit) if is_fresh(&hit, asked, self.macs.known()) => {
                    n_hits += 1;
                    self.found::<KEEP>(asked, k, places[k], &hit);
                    hit.decision.action
                }
                _ => self.decide_slowly::<KEEP>(asked, k, places[k]),
            };
        }
        self.tally.hits.add(n_hits);
    }

    /// A flow of the table is in use: that is noted, and it is kept at hand if `KEEP`.
    #[inline(always)]
    fn found<const KEEP: bool>(&mut self, asked: &Asked<'_>, k: usize, place: u32, hit: &Hit) {
        let now = asked.now;
        if hit.seen != now {
            self.flows.touch(hit, now);
            self.macs.touch(hit.decision.src, now);
        }
        if KEEP {
            self.front.offer(place, &self.keys[k].0, &hit.decision, asked.epoch, now);
        }
    }

    /// The flow was not there, or rests on something that changed, when the burst's were looked for: it may be there by now,
    /// entered by a frame before this one. If not, the whole question is asked.
    #[cold]
    #[inline(never)]
    fn decide_slowly<const KEEP: bool>(&mut self, asked: &Asked<'_>, k: usize, place: u32) -> Action {
        let (key, hash) = self.keys[k];
        let hit = self.flows.find(hash, &key);
        if let Some(hit) = hit.filter(|hit| is_fresh(hit, asked, self.macs.known())) {
            self.tally.hits.add(1);
            self.found::<KEEP>(asked, k, place, &hit);
            return hit.decision.action;
        }
        self.tally.misses.add(1);
        let composer = Composer { macs: &self.macs, networks: &self.networks };
        let Composed { action, rests_on } = composer.compose(asked, k, key.is_tagged());
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
}

#[inline(always)]
fn is_fresh(hit: &Hit, asked: &Asked<'_>, known: Known<'_>) -> bool {
    let Decision { stamp, src, dst, .. } = hit.decision;
    stamp == asked.stamp && known.holds(src) && known.holds(dst)
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

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
