//! Slow path: decides a flow that is not cached, or whose cached decision is stale. May the port
//! send from this source address, where is the destination, and do the rules allow it?

use crate::action::{Action, DropReason};
use crate::ids::{NetworkId, PortId};
use crate::lookup::context::BurstContext;
use crate::mac::entry::{EntryRef, Found, Kind, Learned};
use crate::mac::table::MacTable;
use crate::network::{Ingress, Networks, SourcePolicy};
use crate::wire::header::Header;

/// The tables that the slow path reads.
pub(crate) struct SlowPath<'a> {
    pub(crate) macs: &'a MacTable,
    pub(crate) networks: &'a Networks,
}

/// A decision, and the MAC entries that it depends on; `None`: it must not be cached.
pub(crate) struct SlowDecision {
    pub(crate) action: Action,
    pub(crate) depends_on: Option<(EntryRef, EntryRef)>,
}

impl SlowDecision {
    fn once(action: Action) -> Self {
        Self {
            action,
            depends_on: None,
        }
    }

    fn drop(reason: DropReason) -> Self {
        Self::once(Action::Drop(reason))
    }
}

impl SlowPath<'_> {
    /// Decides frame `k`, and learns its source address where the port may have it.
    pub(crate) fn decide(
        &self,
        context: &BurstContext<'_>,
        k: usize,
        is_tagged: bool,
    ) -> SlowDecision {
        let (from, header) = (context.from, &context.headers[k]);
        if let Some(reason) = self.refusal(from, header, is_tagged) {
            return SlowDecision::drop(reason);
        }
        let src_entry = match self.source(context, header) {
            Ok(entry) => entry,
            Err(reason) => return SlowDecision::drop(reason),
        };
        let (mut action, dst_entry) = self.destination(from, header.dst());
        if !context.mask.is_none() {
            action = self.networks.judge(from.port, action, &context.tuple(k));
        }
        SlowDecision {
            action,
            depends_on: src_entry.map(|entry| (entry, dst_entry)),
        }
    }

    /// Why the frame is dropped whatever its destination is.
    pub(crate) fn refusal(
        &self,
        from: &Ingress,
        header: &Header,
        is_tagged: bool,
    ) -> Option<DropReason> {
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
        let found = self.macs.find(from.network, dst).ok_or(()).or_else(|()| {
            match self.macs.absent(from.network, dst) {
                Ok(absence) => Err(absence),
                Err(found) => Ok(found),
            }
        });
        match found {
            Ok(found) if found.port == from.port => {
                (Action::Drop(DropReason::SamePort), found.entry)
            }
            Ok(found) => (Action::Unicast(self.way_to(from, found)), found.entry),
            Err(absence) => (Action::Flood(from.network), absence),
        }
    }

    /// The port that a frame to this address goes to. A guest without a started receive ring may
    /// have moved to another host, so its frames go to the uplink.
    fn way_to(&self, from: &Ingress, found: Found) -> PortId {
        match self.networks.network(from.network).uplink {
            Some(uplink) if uplink.port != from.port && self.macs.is_resting(found.port) => {
                uplink.port
            }
            _ => found.port,
        }
    }

    /// Whether the port may send from this address; learns it, or moves it here. `Ok(None)`: it
    /// may, but the address was not learned, so the decision must not be cached.
    fn source(
        &self,
        context: &BurstContext<'_>,
        header: &Header,
    ) -> Result<Option<EntryRef>, DropReason> {
        let (from, src) = (context.from, header.src());
        // Whether the port may use the address comes before whether there is room to learn it.
        if !self.may_be_its(from, src) {
            return Err(DropReason::Spoofed);
        }
        match self.macs.find(from.network, src) {
            Some(found) => self.known(context, found, header),
            None => self.unknown(context, header),
        }
    }

    /// Whether the port's own address, fixed or sticky, allows this one.
    pub(crate) fn may_be_its(&self, from: &Ingress, src: [u8; 6]) -> bool {
        match from.source {
            SourcePolicy::Fixed(mac) => mac == src,
            SourcePolicy::Sticky => self.macs.may_stick(from.port, from.network, src),
            SourcePolicy::Learn(_) | SourcePolicy::Any(_) => true,
        }
    }

    /// The address is not in the table.
    fn unknown(
        &self,
        context: &BurstContext<'_>,
        header: &Header,
    ) -> Result<Option<EntryRef>, DropReason> {
        let (from, now, src) = (context.from, context.now, header.src());
        let (kind, address_max) = match from.source {
            SourcePolicy::Fixed(_) => (Kind::Static, u32::MAX),
            // From here on the port can own no other address, whatever becomes of this one's entry.
            SourcePolicy::Sticky if !self.macs.pin(from.port, from.network, src) => {
                return Err(DropReason::Spoofed);
            }
            SourcePolicy::Sticky => (Kind::Sticky, u32::MAX),
            SourcePolicy::Learn(n) => (Kind::Counted, n),
            SourcePolicy::Any(n) => match self.learnable(from, n, now) {
                Some(address_max) => (Kind::Learned, address_max),
                None => return Ok(None),
            },
        };
        match self
            .macs
            .learn(from.network, src, from.port, kind, address_max, now)
        {
            Learned::Yes(entry) => Ok(Some(entry)),
            Learned::PortFull => Self::not_learned(from, DropReason::Spoofed),
            Learned::NotNow => match self.macs.find(from.network, src) {
                Some(found) => self.known(context, found, header),
                None => Self::not_learned(from, DropReason::NotLearned),
            },
        }
    }

    /// How many addresses a port with policy `Any` may have, if it may learn another one now.
    fn learnable(&self, from: &Ingress, n: u32, now: u32) -> Option<u32> {
        if self.macs.n_addresses(from.port) < n && self.macs.may_learn(from.port, now) {
            return Some(n);
        }
        (from.trunk.is_some() && self.macs.reserves().may_learn(from.network, now))
            .then_some(u32::MAX)
    }

    /// Whether the port has all the addresses that it may have.
    fn is_full(&self, from: &Ingress, n: u32) -> bool {
        let has_reserve = || from.trunk.is_some() && self.macs.reserves().has_room(from.network);
        self.macs.n_addresses(from.port) >= n && !has_reserve()
    }

    /// Whether the port may take one more address over from another one in this second.
    fn may_move(&self, from: &Ingress, now: u32) -> bool {
        self.macs.may_move(from.port, now)
            || from.trunk.is_some() && self.macs.reserves().may_move(from.network, now)
    }

    /// What to do with a frame whose source address could not be learned. For a port with a bound
    /// on its number of addresses it would be an uncounted one, so the frame is dropped; other
    /// ports' rights don't depend on the table.
    fn not_learned(from: &Ingress, reason: DropReason) -> Result<Option<EntryRef>, DropReason> {
        match from.source {
            SourcePolicy::Learn(_) => Err(reason),
            SourcePolicy::Fixed(_) | SourcePolicy::Sticky | SourcePolicy::Any(_) => Ok(None),
        }
    }

    /// The address is in the table.
    fn known(
        &self,
        context: &BurstContext<'_>,
        found: Found,
        header: &Header,
    ) -> Result<Option<EntryRef>, DropReason> {
        let (from, now, src) = (context.from, context.now, header.src());
        if found.port == from.port {
            self.macs.touch(found.entry, now);
            self.macs.heard(found.entry);
            return Ok(Some(found.entry));
        }
        let is_firm = || self.is_firm(from, found.port, header.dst(), now);
        let claim = || {
            let (port, tick) = (from.port, context.tick);
            self.macs.claim(found, port, tick, is_firm())
        };
        match Right::new(self, from, found, src, now, claim) {
            Right::None => Err(DropReason::Spoofed),
            Right::Sends if matches!(from.source, SourcePolicy::Any(_)) => Ok(None),
            Right::Sends => Err(DropReason::Spoofed),
            Right::Owns => Ok(None),
            Right::Has => self.take(from, found, src, now, is_firm),
        }
    }

    /// Whether a frame from the wire, from an address that port `holder` took from there, can't be
    /// one of the holder's own frames that the fabric sent back: its destination is a guest on this
    /// host, to which the holder's frames don't leave the host.
    fn is_firm(&self, from: &Ingress, holder: PortId, dst: [u8; 6], now: u32) -> bool {
        from.trunk.is_some()
            && self.macs.owners().is_on_trial(holder, now)
            && self.macs.find(from.network, dst).is_some_and(|found| {
                found.port != from.port && found.port != holder && !self.macs.is_resting(found.port)
            })
    }

    fn take(
        &self,
        from: &Ingress,
        found: Found,
        src: [u8; 6],
        now: u32,
        is_firm: impl Fn() -> bool,
    ) -> Result<Option<EntryRef>, DropReason> {
        let (macs, owners) = (self.macs, self.macs.owners());
        // Where its own owner speaks, who took it and rests has not stood its trial.
        let is_away = from.trunk.is_some()
            && macs.is_resting(found.port)
            && (found.kind == Kind::Static || !is_firm());
        let take =
            |kind, address_max| macs.take_over(found, from.port, kind, false, address_max, now);
        let is_taken = match from.source {
            SourcePolicy::Fixed(_) => take(Kind::Static, u32::MAX),
            SourcePolicy::Sticky if !macs.pin(from.port, from.network, src) => {
                return Err(DropReason::Spoofed);
            }
            SourcePolicy::Sticky => take(Kind::Sticky, u32::MAX),
            // Only an uplink gets here, for the address of a port that is resting or was silent: at
            // most one per port.
            SourcePolicy::Learn(_) | SourcePolicy::Any(_) if found.kind >= Kind::Sticky => {
                if is_away {
                    macs.send_away(found, from.port, now)
                } else {
                    take(Kind::Learned, u32::MAX)
                }
            }
            SourcePolicy::Learn(n) | SourcePolicy::Any(n) if self.is_full(from, n) => {
                return Self::not_learned(from, DropReason::Spoofed);
            }
            SourcePolicy::Learn(_) | SourcePolicy::Any(_) if !self.may_move(from, now) => false,
            SourcePolicy::Learn(n) => take(Kind::Counted, n),
            SourcePolicy::Any(n) => take(
                Kind::Learned,
                if from.trunk.is_some() { u32::MAX } else { n },
            ),
        };
        if !is_taken {
            return Self::not_learned(from, DropReason::NotLearned);
        }
        if self.is_wire(from.network, found.port) {
            owners.won(from.port, found.port, now);
        } else if from.trunk.is_some() && !is_away {
            owners.lost(found.port);
            if owners.is_on_trial(found.port, now) {
                owners.doubt(found.port, now);
            }
        }
        // Another core may have moved it since; then the decision holds for this frame alone.
        Ok(self
            .macs
            .find(from.network, src)
            .filter(|found| found.port == from.port)
            .map(|found| found.entry))
    }

    fn is_wire(&self, network: NetworkId, port: PortId) -> bool {
        self.networks
            .network(network)
            .uplink
            .is_some_and(|uplink| uplink.port == port)
    }
}

/// The right of a port to an address that the table has behind another port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// None: the address is the other port's.
    None,
    /// It may send from it if its policy allows any address; the entry stays where it is.
    Sends,
    /// The address is its own, but none of its receive rings is started, so the entry stays where
    /// it is.
    Owns,
    /// The entry moves to it.
    Has,
}

impl Right {
    /// The right of port `from` to an address `found` behind another one. `claim` records a claim
    /// to it, and returns whether the claims prove it now.
    pub(crate) fn new(
        slow_path: &SlowPath<'_>,
        from: &Ingress,
        found: Found,
        src: [u8; 6],
        now: u32,
        claim: impl Fn() -> bool,
    ) -> Self {
        let is_resting = |port| slow_path.macs.is_resting(port);
        let proven = || if claim() { Right::Has } else { Right::Sends };
        match from.source {
            SourcePolicy::Fixed(_) if is_resting(from.port) => Right::Owns,
            SourcePolicy::Fixed(_) => Right::Has,
            _ if found.is_away => Right::None,
            // From the wire: the address of a guest here whose receive ring is started is the
            // guest's.
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
            // From a guest: an address behind the uplink is the wire's.
            SourcePolicy::Sticky
                if slow_path.is_wire(from.network, found.port)
                    && !slow_path
                        .macs
                        .may_be_moved(found, from.port, from.network, src, now) =>
            {
                Right::None
            }
            _ if slow_path.is_wire(from.network, found.port) => proven(),
            // Between guests.
            _ if found.kind >= Kind::Sticky => Right::None,
            SourcePolicy::Sticky if found.kind == Kind::Counted && !is_resting(found.port) => {
                proven()
            }
            _ => Right::Has,
        }
    }
}
