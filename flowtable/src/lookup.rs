//! The order in which a burst is decided: key and hash of every frame, then remembered decisions, then, for what is new,
//! the whole question.

use crate::action::{Action, DropReason};
use crate::header::{ETHERNET_LEN, Header, TAG_LEN};
use crate::mac::{EntryRef, Found, Kind, Learned, MacTable};
use crate::network::{Ingress, Network, Networks, PortId, SourcePolicy, TrunkId};
use crate::table::{Flow, FlowTable, Key, TAGGED};
use std::sync::Arc;

/// Frames that [`Lookup::decide`] takes at once.
pub const BURST_MAX: usize = 32;

/// New addresses and moves that one port may cause in a second on one core; the rest is forwarded without being learned.
const LEARNS_PER_SECOND: u32 = 1 << 17;
const MOVES_PER_SECOND: u32 = 1 << 10;

/// What one core decides with: its own table of flows, and the addresses and networks it shares with all others.
#[derive(Debug)]
pub struct Lookup {
    flows: FlowTable,
    n_flows: usize,
    seeds: [u64; 2],
    macs: Arc<MacTable>,
    networks: Arc<Networks>,
    budgets: Box<[Budget]>,
}

/// What a port has used up of this second's budget.
#[derive(Clone, Copy, Debug, Default)]
struct Budget {
    second: u32,
    n_learned: u32,
    n_moved: u32,
}

/// A decision and what it rests on. `None`: not worth remembering.
struct Composed {
    action: Action,
    rests_on: Option<(EntryRef, Option<EntryRef>)>,
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
    /// `n_flows`: room for this many remembered decisions, once [`Lookup::make_room`] was called. `n_ports`: as the MAC table has.
    pub fn new(n_flows: usize, n_ports: usize, macs: Arc<MacTable>, networks: Arc<Networks>, seeds: [u64; 2]) -> Self {
        let flows = FlowTable::new(0, seeds);
        Self { flows, n_flows, seeds, macs, networks, budgets: vec![Budget::default(); n_ports].into() }
    }

    /// Takes up the memory for all the decisions that may be remembered; until then it is just a few. For the thread that
    /// will use it, so that it lies near its CPU.
    pub fn make_room(&mut self) {
        self.flows = FlowTable::new(self.n_flows, self.seeds);
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

    /// Decides a burst of one ingress port.
    ///
    /// `headers[k]` and `lens[k]` (bytes of the frame without FCS) say what came, `actions[k]` receives the answer; a frame
    /// of length zero was refused before and keeps its action. `now`: seconds of the switch's clock.
    /// Shapes: all three of the same length, [`BURST_MAX`] at most. Two passes: hash and prefetch all, then compare.
    #[inline]
    pub fn decide(&mut self, from: &Ingress, headers: &[Header], lens: &[u32], actions: &mut [Action], now: u32) {
        let n = headers.len().min(lens.len()).min(actions.len()).min(BURST_MAX);
        let (headers, lens, actions) = (&headers[..n], &lens[..n], &mut actions[..n]);
        if let Some(trunk) = from.trunk {
            return self.decide_trunk(from, trunk, headers, lens, actions, now);
        }
        let mut keys = [Key { lo: 0, hi: 0 }; BURST_MAX];
        let mut places = [0; BURST_MAX];
        for ((header, key), place) in headers.iter().zip(&mut keys).zip(&mut places) {
            *key = Key::new(header.words(), from.port);
            *place = self.flows.prefetch(*key);
        }
        let epoch = self.macs.epoch();
        let frame_max = self.networks.network(from.network).frame_max;
        // One look at all lengths saves two at each: zero, for frames refused before, counts as the longest there is.
        let longest = lens.iter().fold(0, |most, len| most.max(len.wrapping_sub(1)));
        let all_fit = longest < frame_max;
        for k in 0..n {
            let key = keys[k];
            if !all_fit && !fits(lens[k], frame_max, key, &mut actions[k]) {
                continue;
            }
            let flow = self.flows.at(places[k]);
            let fresh =
                flow.key == key && flow.generation == from.generation && flow.epoch == epoch && flow.seen == now;
            actions[k] =
                if fresh { flow.action } else { self.decide_slowly(from, &headers[k], key, places[k], epoch, now) };
        }
    }

    /// The same for a port whose frames say by their outer tag to which network they belong. That tag goes before they are
    /// sent on, so it counts for no length.
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
        let mut keys = [Key { lo: 0, hi: 0 }; BURST_MAX];
        let mut places = [0; BURST_MAX];
        for ((header, key), place) in headers.iter().zip(&mut keys).zip(&mut places) {
            *key = Key::of_trunk(header.words(), from.port);
            *place = self.flows.prefetch(*key);
        }
        let epoch = self.macs.epoch();
        for k in 0..headers.len() {
            let key = keys[k];
            if lens[k] == 0 {
                continue;
            }
            if key.hi & TAGGED != 0 && lens[k] < ETHERNET_LEN + TAG_LEN {
                actions[k] = Action::Drop(DropReason::Runt);
                continue;
            }
            let Some(network) = self.networks.of_vlan(trunk, key.vlan()) else {
                actions[k] = Action::Drop(DropReason::UnknownVlan);
                continue;
            };
            let tags_len = TAG_LEN * headers[k].n_tags(lens[k] as usize);
            if lens[k] > self.networks.network(network).frame_max + tags_len {
                actions[k] = Action::Drop(DropReason::TooBig);
                continue;
            }
            let flow = self.flows.at(places[k]);
            let fresh =
                flow.key == key && flow.generation == from.generation && flow.epoch == epoch && flow.seen == now;
            actions[k] = if fresh {
                flow.action
            } else {
                self.decide_slowly(&Ingress { network, ..*from }, &headers[k], key, places[k], epoch, now)
            };
        }
    }

    /// The entry was not there, or not quite fresh: what it rests on is asked for, and only then everything.
    #[cold]
    #[inline(never)]
    fn decide_slowly(&mut self, from: &Ingress, header: &Header, key: Key, place: u32, epoch: u32, now: u32) -> Action {
        let flow = self.flows.at(place);
        if flow.key == key && flow.generation == from.generation {
            let holds = flow.epoch == epoch
                || self.macs.holds(flow.src) && flow.dst.is_some_and(|entry| self.macs.holds(entry));
            if holds {
                flow.epoch = epoch;
                flow.seen = now;
                self.macs.touch(flow.src, now);
                return flow.action;
            }
        }
        let Composed { action, rests_on } = self.compose(from, header, key.hi & TAGGED != 0, now);
        if let Some((src, dst)) = rests_on {
            // The epoch of before the look at the entries: a change since then makes this one be asked for again.
            *self.flows.at(place) = Flow { key, action, epoch, generation: from.generation, seen: now, src, dst };
        }
        action
    }

    /// The whole question.
    fn compose(&mut self, from: &Ingress, header: &Header, is_tagged: bool, now: u32) -> Composed {
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
        let src_entry = match self.source(from, src, now) {
            Ok(entry) => entry,
            Err(reason) => return Composed::drop(reason),
        };
        let (action, dst_entry) = self.destination(from, dst);
        Composed { action, rests_on: src_entry.map(|entry| (entry, dst_entry)) }
    }

    fn destination(&self, from: &Ingress, dst: [u8; 6]) -> (Action, Option<EntryRef>) {
        if dst[0] & 1 != 0 {
            return (Action::Flood(from.network), Some(EntryRef::NONE));
        }
        match self.macs.find(from.network, dst) {
            Some(found) if found.port == from.port => (Action::Drop(DropReason::SamePort), Some(found.entry)),
            Some(found) => (Action::Unicast(found.port), Some(found.entry)),
            None => (Action::Flood(from.network), None),
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
        let in_budget = self.budget(from.port, now).is_some_and(|budget| {
            budget.n_moved += 1;
            budget.n_moved <= MOVES_PER_SECOND
        });
        if in_budget && self.macs.move_to(found, from.port, Kind::Learned, from.source.address_max(), now) {
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
        let in_budget = self.budget(from.port, now).is_some_and(|budget| {
            budget.n_learned += 1;
            budget.n_learned <= LEARNS_PER_SECOND
        });
        if !in_budget {
            return Ok(None);
        }
        match self.macs.learn(from.network, src, from.port, kind, from.source.address_max(), now) {
            Learned::Yes(entry) => Ok(Some(entry)),
            Learned::PortFull => Err(DropReason::Spoofed),
            Learned::NotNow => Ok(None),
        }
    }

    fn budget(&mut self, port: PortId, now: u32) -> Option<&mut Budget> {
        let budget = self.budgets.get_mut(usize::from(port))?;
        if budget.second != now {
            *budget = Budget { second: now, ..Budget::default() };
        }
        Some(budget)
    }
}

/// Whether a frame is to be decided at all: it was not refused before, and is no longer than its network allows.
#[cold]
fn fits(len: u32, frame_max: u32, key: Key, action: &mut Action) -> bool {
    let tag_len = if key.hi & TAGGED == 0 { 0 } else { TAG_LEN };
    if len > frame_max + tag_len {
        *action = Action::Drop(DropReason::TooBig);
    }
    (1..=frame_max + tag_len).contains(&len)
}

/// Who gets a flooded frame: every member but the ingress port.
pub fn flood_members(network: &Network, from: PortId) -> impl Iterator<Item = PortId> + '_ {
    network.members.iter().copied().filter(move |&port| port != from)
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
