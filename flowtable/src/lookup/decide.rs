//! Decides a burst: key and hash of every frame, then the core's own cache, then the shared flow
//! table, then the slow path for flows that neither has.

use std::sync::Arc;

use crate::action::Action;
use crate::cache::key::{Key, Mask};
use crate::cache::per_core::{CoreCache, Flow, When};
use crate::cache::table::{Decision, FlowTable, Hit};
use crate::cache::tally::Tally;
use crate::ids::{PortId, TrunkId};
use crate::lookup::context::{BurstContext, refuse_vlan};
use crate::lookup::slow_path::{SlowDecision, SlowPath};
use crate::mac::dispute::TICK_SHIFT;
use crate::mac::table::{Known, MacTable};
use crate::network::{Ingress, Networks};
use crate::wire::header::Header;

/// Frames that [`Lookup::decide`] takes at once.
pub const BURST_MAX: usize = 32;
/// Flows in a core's own cache: a quarter of a usual second-level CPU cache.
const CORE_CACHE_FLOWS: usize = 1 << 12;

/// What one core decides with: the tables of flows and addresses and the networks, shared by all
/// cores, and its own flow cache.
#[derive(Debug)]
pub struct Lookup {
    core_cache: CoreCache,
    flows: Arc<FlowTable>,
    macs: Arc<MacTable>,
    networks: Arc<Networks>,
    tally: Arc<Tally>,
    keys: Box<[(Key, u64); BURST_MAX]>,
    tick: u32,
}

impl Lookup {
    /// With a cache of a few flows until [`Lookup::make_room`].
    pub fn new(flows: Arc<FlowTable>, macs: Arc<MacTable>, networks: Arc<Networks>) -> Self {
        let keys = Box::new([Default::default(); BURST_MAX]);
        Self {
            core_cache: CoreCache::new(0, 0),
            flows,
            macs,
            networks,
            tally: Arc::default(),
            keys,
            tick: 0,
        }
    }

    /// Goes on with the counts of a core that is no more, whose place this one takes.
    #[must_use]
    pub fn counting_in(mut self, tally: Arc<Tally>) -> Self {
        self.tally = tally;
        self
    }

    /// Sets the time by which claims to an address are judged; once a turn. `now`: nanoseconds of
    /// the switch's clock.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "it wraps, and may")]
    pub fn set_time(&mut self, now: u64) {
        self.tick = (now >> TICK_SHIFT) as u32;
    }

    /// Allocates the core's own cache. Called on the core's thread, so that the memory is near its
    /// CPU.
    pub fn make_room(&mut self) {
        self.core_cache = CoreCache::new(CORE_CACHE_FLOWS, self.flows.n_ports());
    }

    /// Swaps the networks between bursts; the old value goes back to control, which frees it.
    pub fn set_networks(&mut self, networks: Arc<Networks>) -> Arc<Networks> {
        std::mem::replace(&mut self.networks, networks)
    }

    /// Another port has this id from now on.
    pub fn forget_port(&mut self, port: PortId) {
        self.core_cache.forget_port(port);
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
    /// Reads `headers[k]` and `lens[k]` (bytes of the frame without FCS), writes `actions[k]`; a
    /// frame of length zero was refused before and keeps its action. `now`: seconds of the switch's
    /// clock. Returns whether the caller must remove a tag of some frames before they are sent: a
    /// trunk's outer one; elsewhere one that [`Header::is_priority_tagged`], since the decision was
    /// made without it. Shapes: all three of the same length, [`BURST_MAX`] at most. Two passes:
    /// hash and prefetch all, then compare; flows that are not in the core's cache go through the
    /// shared table in the same way.
    #[inline]
    pub fn decide(
        &mut self,
        from: &Ingress,
        headers: &[Header],
        lens: &[u32],
        actions: &mut [Action],
        now: u32,
    ) -> bool {
        let n = headers
            .len()
            .min(lens.len())
            .min(actions.len())
            .min(BURST_MAX);
        let (headers, lens, actions) = (&headers[..n], &lens[..n], &mut actions[..n]);
        if let Some(trunk) = from.trunk {
            self.decide_trunk(from, trunk, headers, lens, actions, now);
            return true;
        }
        self.decide_network(from, headers, lens, actions, now)
    }

    /// For a trunk, where a frame's outer tag names its network: consecutive frames of one network
    /// are decided as a burst.
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
                    let generation = from.generation.max(self.networks.trunk_generation(trunk));
                    let from = Ingress {
                        network,
                        generation,
                        ..*from
                    };
                    self.decide_network(&from, alike, lens, actions, now);
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
        let context = BurstContext {
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
        if !self.core_cache.is_on(from.port, headers.len()) {
            self.decide_by_table(&context, actions)
        } else if mask.is_none() {
            self.decide_by_addresses(&context, actions)
        } else {
            self.decide_by_rules(&context, actions)
        }
    }

    /// Without rules two words are the key. The others can't differ: a cached flow with a longer
    /// key has another stamp, since rules have changed.
    #[inline(always)]
    fn decide_by_addresses(&mut self, context: &BurstContext<'_>, actions: &mut [Action]) -> bool {
        let mut keys = [[0; 2]; BURST_MAX];
        let mut places = [0; BURST_MAX];
        let mut n_popped = 0;
        for (((header, &len), key), place) in context
            .headers
            .iter()
            .zip(context.lens)
            .zip(&mut keys)
            .zip(&mut places)
        {
            let (words, n) = context.words(header, len);
            *key = words;
            n_popped |= n;
            *place = self.core_cache.prefetch(self.flows.hash_of(*key));
        }
        let missed = self.look_in_core_cache(context, actions, &places, |_, flow, k| {
            flow.key[..2] == keys[k]
        });
        if missed != 0 {
            for k in bits(missed) {
                let key = Key::from_words(keys[k]);
                self.keys[k] = (key, self.flows.hash(&key));
                self.flows.prefetch(self.keys[k].1);
            }
            self.decide_missed::<true>(context, actions, missed, &places);
        }
        n_popped != 0
    }

    /// The same with rules.
    #[inline(never)]
    fn decide_by_rules(&mut self, context: &BurstContext<'_>, actions: &mut [Action]) -> bool {
        let mut places = [0; BURST_MAX];
        let mut n_popped = 0;
        let frames = context
            .headers
            .iter()
            .zip(context.lens)
            .zip(self.keys.iter_mut())
            .zip(&mut places);
        for (((header, &len), key), place) in frames {
            let (hash, n) = context.find_key(&self.flows, header, len, key);
            n_popped |= n;
            *place = self.core_cache.prefetch(hash);
        }
        let missed = self.look_in_core_cache(context, actions, &places, |keys, flow, k| {
            flow.key == keys[k].0.short()
        });
        if missed != 0 {
            bits(missed).for_each(|k| self.flows.prefetch(self.keys[k].1));
            self.decide_missed::<true>(context, actions, missed, &places);
        }
        n_popped != 0
    }

    /// Decides the frames whose flows are in the core's cache; returns the others, a bit each.
    #[inline(always)]
    fn look_in_core_cache(
        &mut self,
        context: &BurstContext<'_>,
        actions: &mut [Action],
        places: &[u32; BURST_MAX],
        is_key: impl Fn(&[(Key, u64)], &Flow, usize) -> bool,
    ) -> u32 {
        let n = context.headers.len();
        let all_fit = context.all_fit();
        let (known, when) = (self.macs.known(), When::new(context.stamp, context.now));
        let mut missed = 0u32;
        for k in 0..n {
            if !all_fit && !context.fits(k, &mut actions[k]) {
                continue;
            }
            let flow = self.core_cache.at(places[k]);
            if is_key(&self.keys[..], flow, k) && flow.is_fresh(when, context.epoch, known) {
                actions[k] = flow.action;
            } else {
                missed |= 1 << k;
            }
        }
        let n_missed = missed.count_ones();
        self.tally.front_hits.add(n as u64 - u64::from(n_missed));
        self.core_cache.missed(context.from.port, n_missed);
        missed
    }

    /// For a port with so many flows that few are in the core's cache: goes to the shared table at
    /// once.
    #[inline(never)]
    fn decide_by_table(&mut self, context: &BurstContext<'_>, actions: &mut [Action]) -> bool {
        let (all_fit, mut n_popped) = (context.all_fit(), 0);
        for ((header, &len), key) in context
            .headers
            .iter()
            .zip(context.lens)
            .zip(self.keys.iter_mut())
        {
            let (hash, n) = context.find_key(&self.flows, header, len, key);
            n_popped |= n;
            self.flows.prefetch(hash);
        }
        let mut wanted = 0u32;
        for (k, action) in actions.iter_mut().enumerate() {
            wanted |= u32::from(all_fit || context.fits(k, action)) << k;
        }
        self.decide_missed::<false>(context, actions, wanted, &[0; BURST_MAX]);
        n_popped != 0
    }

    /// Decides the frames whose bit is set in `missed` by the shared table, whose buckets were
    /// prefetched: buckets, then the MAC entries that flows depend on, then flows, each for all
    /// frames before the next. `KEEP`: they are entered into the core's cache, at `places`.
    #[inline(never)]
    fn decide_missed<const KEEP: bool>(
        &mut self,
        context: &BurstContext<'_>,
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
        entries
            .iter()
            .filter(|&&entry| entry != NONE)
            .for_each(|&entry| self.flows.prefetch_dependencies(entry, known));
        let mut n_hits = 0;
        for k in bits(missed) {
            let hit = if entries[k] == NONE {
                None
            } else {
                self.flows.get(entries[k], &self.keys[k].0)
            };
            actions[k] = match hit {
                Some(hit) if is_fresh(&hit, context, self.macs.known()) => {
                    n_hits += 1;
                    self.found::<KEEP>(context, k, places[k], &hit);
                    hit.decision.action
                }
                _ => self.decide_slowly::<KEEP>(context, k, places[k]),
            };
        }
        self.tally.hits.add(n_hits);
    }

    /// Marks a flow of the table as in use, and enters it into the core's cache if `KEEP`.
    #[inline(always)]
    fn found<const KEEP: bool>(
        &mut self,
        context: &BurstContext<'_>,
        k: usize,
        place: u32,
        hit: &Hit,
    ) {
        let now = context.now;
        if hit.seen != now {
            self.flows.touch(hit, now);
            self.macs.touch(hit.decision.src, now);
        }
        if KEEP {
            self.core_cache
                .offer(place, &self.keys[k].0, &hit.decision, context.epoch, now);
        }
    }

    /// The flow was not in the table, or stale, when the burst's flows were looked up. An earlier
    /// frame of the burst may have entered it since; if not, the slow path decides.
    #[cold]
    #[inline(never)]
    fn decide_slowly<const KEEP: bool>(
        &mut self,
        context: &BurstContext<'_>,
        k: usize,
        place: u32,
    ) -> Action {
        let (key, hash) = self.keys[k];
        let hit = self.flows.find(hash, &key);
        if let Some(hit) = hit.filter(|hit| is_fresh(hit, context, self.macs.known())) {
            self.tally.hits.add(1);
            self.found::<KEEP>(context, k, place, &hit);
            return hit.decision.action;
        }
        self.tally.misses.add(1);
        let slow_path = SlowPath {
            macs: &self.macs,
            networks: &self.networks,
        };
        let SlowDecision { action, depends_on } = slow_path.decide(context, k, key.is_tagged());
        let Some((src, dst)) = depends_on else {
            self.tally.not_cached();
            return action;
        };
        let decision = Decision {
            action,
            stamp: context.stamp,
            src,
            dst,
        };
        let now = context.now;
        match hit {
            Some(hit) => self.tally.updated(self.flows.update(&hit, &decision, now)),
            None => {
                let generation = context.from.generation;
                self.tally.entered(
                    self.flows
                        .insert(hash, &key, &decision, generation, &self.macs, now),
                );
            }
        }
        action
    }
}

#[inline(always)]
fn is_fresh(hit: &Hit, context: &BurstContext<'_>, known: Known<'_>) -> bool {
    let Decision {
        stamp, src, dst, ..
    } = hit.decision;
    stamp == context.stamp && known.holds(src) && known.holds(dst)
}

/// Numbers of the bits that are set, lowest first.
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
