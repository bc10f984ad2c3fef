//! The whole question, for a flow that is new, or rests on something that changed: may the frame be sent from here, where does its
//! address lead to, and what do rules say.

use crate::action::{Action, DropReason};
use crate::asked::Asked;
use crate::header::Header;
use crate::mac::{EntryRef, Found, Kind, Learned, MacTable};
use crate::network::{Ingress, Networks, SourcePolicy};

/// What it is asked of.
pub(crate) struct Composer<'a> {
    pub(crate) macs: &'a MacTable,
    pub(crate) networks: &'a Networks,
}

/// A decision and what it rests on. `None`: not worth remembering.
pub(crate) struct Composed {
    pub(crate) action: Action,
    pub(crate) rests_on: Option<(EntryRef, EntryRef)>,
}

impl Composed {
    fn once(action: Action) -> Self {
        Self { action, rests_on: None }
    }

    fn drop(reason: DropReason) -> Self {
        Self::once(Action::Drop(reason))
    }
}

impl Composer<'_> {
    /// The answer for frame `k`. Learns its source address, where that may be.
    pub(crate) fn compose(&self, asked: &Asked<'_>, k: usize, is_tagged: bool) -> Composed {
        let (from, header) = (asked.from, &asked.headers[k]);
        if let Some(reason) = self.refusal(from, header, is_tagged) {
            return Composed::drop(reason);
        }
        let src_entry = match self.source(from, header.src(), asked.now) {
            Ok(entry) => entry,
            Err(reason) => return Composed::drop(reason),
        };
        let (mut action, dst_entry) = self.destination(from, header.dst());
        if !asked.mask.is_none() {
            action = self.networks.judge(from.port, action, &asked.tuple(k));
        }
        Composed { action, rests_on: src_entry.map(|entry| (entry, dst_entry)) }
    }

    /// Why the frame is refused for what it is, whoever it is for.
    pub(crate) fn refusal(&self, from: &Ingress, header: &Header, is_tagged: bool) -> Option<DropReason> {
        let (src, dst) = (header.src(), header.dst());
        if is_tagged && from.trunk.is_none() && !self.networks.network(from.network).passes_tags {
            return Some(DropReason::Tagged);
        }
        if src[0] & 1 != 0 || src == [0; 6] {
            return Some(DropReason::BadSource);
        }
        (dst[..5] == [0x01, 0x80, 0xc2, 0, 0] && dst[5] < 0x10).then_some(DropReason::LinkLocal)
    }

    pub(crate) fn destination(&self, from: &Ingress, dst: [u8; 6]) -> (Action, EntryRef) {
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
    fn source(&self, from: &Ingress, src: [u8; 6], now: u32) -> Result<Option<EntryRef>, DropReason> {
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

    fn learn(&self, from: &Ingress, src: [u8; 6], now: u32) -> Result<Option<EntryRef>, DropReason> {
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
