//! The whole question, for a flow that is new, or rests on something that changed: may the frame be sent from here, where does its
//! address lead to, and what do rules say.

use crate::action::{Action, DropReason};
use crate::ids::{NetworkId, PortId};
use crate::lookup::context::Asked;
use crate::mac::table::{EntryRef, Found, Kind, Learned, MacTable};
use crate::network::{Ingress, Networks, SourcePolicy};
use crate::wire::header::Header;

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
        let src_entry = match self.source(asked, header) {
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
            Ok(found) => (Action::Unicast(self.way_to(from, found)), found.entry),
            Err(absence) => (Action::Flood(from.network), absence),
        }
    }

    /// Whom a frame to this address goes to: a guest that takes no frames has perhaps moved to where the uplink leads.
    fn way_to(&self, from: &Ingress, found: Found) -> PortId {
        match self.networks.network(from.network).uplink {
            Some(uplink) if uplink.port != from.port && self.macs.is_resting(found.port) => uplink.port,
            _ => found.port,
        }
    }

    /// Whether the port may send from this address; learns it, or moves it here. `Ok(None)`: it may, but nothing was
    /// remembered, so the decision must not be either.
    fn source(&self, asked: &Asked<'_>, header: &Header) -> Result<Option<EntryRef>, DropReason> {
        let (from, src) = (asked.from, header.src());
        // What is its own, and what isn't, comes before what can be remembered.
        if !self.may_be_its(from, src) {
            return Err(DropReason::Spoofed);
        }
        match self.macs.find(from.network, src) {
            Some(found) => self.known(asked, found, header),
            None => self.unknown(asked, header),
        }
    }

    /// Whether the address is the port's as far as the port's own ones say.
    pub(crate) fn may_be_its(&self, from: &Ingress, src: [u8; 6]) -> bool {
        match from.source {
            SourcePolicy::Fixed(mac) => mac == src,
            SourcePolicy::Sticky => self.macs.may_stick(from.port, from.network, src),
            SourcePolicy::Learn(_) | SourcePolicy::Any(_) => true,
        }
    }

    /// Nobody has the address.
    fn unknown(&self, asked: &Asked<'_>, header: &Header) -> Result<Option<EntryRef>, DropReason> {
        let (from, now, src) = (asked.from, asked.now, header.src());
        let (kind, address_max) = match from.source {
            SourcePolicy::Fixed(_) => (Kind::Static, u32::MAX),
            // From here on no other address can be its own, whatever becomes of this one's entry.
            SourcePolicy::Sticky if !self.macs.pin(from.port, from.network, src) => return Err(DropReason::Spoofed),
            SourcePolicy::Sticky => (Kind::Sticky, u32::MAX),
            SourcePolicy::Learn(n) => (Kind::Counted, n),
            SourcePolicy::Any(n) => match self.learnable(from, n, now) {
                Some(address_max) => (Kind::Learned, address_max),
                None => return Ok(None),
            },
        };
        match self.macs.learn(from.network, src, from.port, kind, address_max, now) {
            Learned::Yes(entry) => Ok(Some(entry)),
            Learned::PortFull => Self::not_learned(from, DropReason::Spoofed),
            Learned::NotNow => match self.macs.find(from.network, src) {
                Some(found) => self.known(asked, found, header),
                None => Self::not_learned(from, DropReason::NotLearned),
            },
        }
    }

    /// How many addresses a port that may send from any may have, if it may have another one now.
    fn learnable(&self, from: &Ingress, n: u32, now: u32) -> Option<u32> {
        if self.macs.n_addresses(from.port) < n && self.macs.may_learn(from.port, now) {
            return Some(n);
        }
        (from.trunk.is_some() && self.macs.reserves().may_learn(from.network, now)).then_some(u32::MAX)
    }

    /// Whether the port may have no more addresses.
    fn is_full(&self, from: &Ingress, n: u32) -> bool {
        let has_reserve = || from.trunk.is_some() && self.macs.reserves().has_room(from.network);
        self.macs.n_addresses(from.port) >= n && !has_reserve()
    }

    /// Whether the port may take one more address over from another one in this second.
    fn may_move(&self, from: &Ingress, now: u32) -> bool {
        self.macs.may_move(from.port, now) || from.trunk.is_some() && self.macs.reserves().may_move(from.network, now)
    }

    /// What becomes of a frame whose source could not be entered. Of a port with a number of addresses nobody could tell then how many
    /// it has; of others it is known what they may.
    fn not_learned(from: &Ingress, reason: DropReason) -> Result<Option<EntryRef>, DropReason> {
        match from.source {
            SourcePolicy::Learn(_) => Err(reason),
            SourcePolicy::Fixed(_) | SourcePolicy::Sticky | SourcePolicy::Any(_) => Ok(None),
        }
    }

    /// The address is in the table.
    fn known(&self, asked: &Asked<'_>, found: Found, header: &Header) -> Result<Option<EntryRef>, DropReason> {
        let (from, now, src) = (asked.from, asked.now, header.src());
        if found.port == from.port {
            self.macs.touch(found.entry, now);
            self.macs.heard(found.entry);
            return Ok(Some(found.entry));
        }
        let claim = || self.macs.claim(found, from.port, asked.tick, self.is_firm(from, found.port, header.dst(), now));
        match Right::new(self, from, found, src, now, claim) {
            Right::None => Err(DropReason::Spoofed),
            Right::Sends if matches!(from.source, SourcePolicy::Any(_)) => Ok(None),
            Right::Sends => Err(DropReason::Spoofed),
            Right::Owns => Ok(None),
            Right::Has => self.take(from, found, src, now),
        }
    }

    /// Whether a frame from the wire, from an address that port `holder` took from there, can't be one of the holder's own that came
    /// back: it is for a guest here that takes frames, to whom those are sent without leaving the host.
    fn is_firm(&self, from: &Ingress, holder: PortId, dst: [u8; 6], now: u32) -> bool {
        from.trunk.is_some()
            && self.macs.owners().is_on_trial(holder, now)
            && self.macs.find(from.network, dst).is_some_and(|found| {
                found.port != from.port && found.port != holder && !self.macs.is_resting(found.port)
            })
    }

    fn take(&self, from: &Ingress, found: Found, src: [u8; 6], now: u32) -> Result<Option<EntryRef>, DropReason> {
        let (macs, owners) = (self.macs, self.macs.owners());
        let take = |kind, address_max| macs.take_over(found, from.port, kind, false, address_max, now);
        let is_taken = match from.source {
            SourcePolicy::Fixed(_) => take(Kind::Static, u32::MAX),
            SourcePolicy::Sticky if !macs.pin(from.port, from.network, src) => return Err(DropReason::Spoofed),
            SourcePolicy::Sticky => take(Kind::Sticky, u32::MAX),
            // By the uplink alone, from a port that rests or was silent: at most one a port, which its bound need not keep out.
            SourcePolicy::Learn(_) | SourcePolicy::Any(_) if found.kind >= Kind::Sticky => {
                let is_resting = macs.is_resting(found.port);
                if is_resting { macs.send_away(found, from.port, now) } else { take(Kind::Learned, u32::MAX) }
            }
            SourcePolicy::Learn(n) | SourcePolicy::Any(n) if self.is_full(from, n) => {
                return Self::not_learned(from, DropReason::Spoofed);
            }
            SourcePolicy::Learn(_) | SourcePolicy::Any(_) if !self.may_move(from, now) => false,
            SourcePolicy::Learn(n) => take(Kind::Counted, n),
            SourcePolicy::Any(n) => take(Kind::Learned, if from.trunk.is_some() { u32::MAX } else { n }),
        };
        if !is_taken {
            return Self::not_learned(from, DropReason::NotLearned);
        }
        if self.is_wire(from.network, found.port) {
            owners.won(from.port, found.port, now);
        } else if from.trunk.is_some() && !macs.is_resting(found.port) {
            owners.lost(found.port);
            if owners.is_on_trial(found.port, now) {
                owners.doubt(found.port, now);
            }
        }
        // Another one may have it by now; what is decided then is true of this moment.
        Ok(self.macs.find(from.network, src).filter(|found| found.port == from.port).map(|found| found.entry))
    }

    fn is_wire(&self, network: NetworkId, port: PortId) -> bool {
        self.networks.network(network).uplink.is_some_and(|uplink| uplink.port == port)
    }
}

/// What right a port has to an address that is behind another one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// None: another one's it is, and stays.
    None,
    /// It may send from it if it may send from any, and the address stays where it is.
    Sends,
    /// It is its own; it takes no frames for now, so the address stays where it is.
    Owns,
    /// It has it from now on.
    Has,
}

impl Right {
    /// Of port `from` to what is `found` elsewhere. `claim`: claims it, where that counts, and says whether it is proven by that.
    pub(crate) fn new(
        composer: &Composer<'_>,
        from: &Ingress,
        found: Found,
        src: [u8; 6],
        now: u32,
        claim: impl Fn() -> bool,
    ) -> Self {
        let is_resting = |port| composer.macs.is_resting(port);
        let proven = || if claim() { Right::Has } else { Right::Sends };
        match from.source {
            SourcePolicy::Fixed(_) if is_resting(from.port) => Right::Owns,
            SourcePolicy::Fixed(_) => Right::Has,
            _ if found.is_away => Right::None,
            // From the wire: what a guest here takes frames for is the guest's.
            _ if from.trunk.is_some() => match found.kind {
                _ if is_resting(found.port) => Right::Has,
                Kind::Static => Right::None,
                Kind::Sticky => {
                    if proven() == Right::Has {
                        Right::Has
                    } else {
                        Right::None
                    }
                }
                Kind::Counted | Kind::Learned => proven(),
            },
            // From a guest: what is behind the uplink is the wire's.
            SourcePolicy::Sticky
                if composer.is_wire(from.network, found.port)
                    && !composer.macs.may_be_moved(found, from.port, from.network, src, now) =>
            {
                Right::None
            }
            _ if composer.is_wire(from.network, found.port) => proven(),
            // Between guests.
            _ if found.kind >= Kind::Sticky => Right::None,
            SourcePolicy::Sticky if found.kind == Kind::Counted && !is_resting(found.port) => proven(),
            _ => Right::Has,
        }
    }
}
