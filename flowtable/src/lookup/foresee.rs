//! Predicts the decision for frames that wait further back in a ring, without side effects: a hint
//! for whether frames before them block them.
//!
//! Learns, caches, counts and charges nothing, so a prediction may be wrong by the time the frame
//! is decided.

use crate::action::{Action, DropReason};
use crate::cache::key::Mask;
use crate::lookup::context::BurstContext;
use crate::lookup::decide::Lookup;
use crate::lookup::slow_path::{Right, SlowPath};
use crate::network::{Ingress, SourcePolicy};
use crate::wire::header::Header;

impl Lookup {
    /// Predicts for each frame of one port what [`Lookup::decide`] would decide now. A frame of
    /// length zero is dropped.
    ///
    /// For ports of one network: a trunk's frames never wait. Shapes as for [`Lookup::decide`], of
    /// any length.
    pub fn foresee(
        &self,
        from: &Ingress,
        headers: &[Header],
        lens: &[u32],
        actions: &mut [Action],
    ) {
        let network = self.networks().network(from.network);
        let mask = Mask::new(self.networks().key_fields(from.port, from.network));
        let (frame_max, passes_tags) = (network.frame_max, network.passes_tags);
        let context = BurstContext {
            from,
            headers,
            lens,
            mask,
            frame_max,
            passes_tags,
            stamp: 0,
            epoch: 0,
            now: 0,
            tick: 0,
        };
        for k in 0..headers.len().min(lens.len()).min(actions.len()) {
            // Most frames go where the one before them goes.
            actions[k] = match k.checked_sub(1) {
                Some(before) if context.is_alike(before, k) => actions[before],
                _ => self.foresee_one(&context, k),
            };
        }
    }

    fn foresee_one(&self, context: &BurstContext<'_>, k: usize) -> Action {
        let mut action = Action::Drop(DropReason::BadChain);
        if context.fits(k, &mut action) {
            let slow_path = SlowPath {
                macs: self.macs(),
                networks: self.networks(),
            };
            action = slow_path.foresee(context, k);
        }
        action
    }
}

impl BurstContext<'_> {
    /// Whether two frames get the same decision for sure. Not with rules, which may look at more
    /// than is compared.
    fn is_alike(&self, one: usize, other: usize) -> bool {
        let (one, other) = (
            (&self.headers[one], self.lens[one]),
            (&self.headers[other], self.lens[other]),
        );
        self.mask.is_none() && one.1 == other.1 && one.0.0[..14] == other.0.0[..14]
    }
}

impl SlowPath<'_> {
    /// As [`SlowPath::decide`], but the source address is only looked up.
    fn foresee(&self, context: &BurstContext<'_>, k: usize) -> Action {
        let (from, header) = (context.from, &context.headers[k]);
        let is_tagged = header.is_tagged() && !header.is_priority_tagged(context.lens[k] as usize);
        if let Some(reason) = self.refusal(from, header, is_tagged) {
            return Action::Drop(reason);
        }
        if !self.may_seem_to_send(context, header.src()) {
            return Action::Drop(DropReason::Spoofed);
        }
        let (action, _) = self.destination(from, header.dst());
        if context.mask.is_none() {
            action
        } else {
            self.networks.judge(from.port, action, &context.tuple(k))
        }
    }

    /// Whether the address is the port's, or could be learned as far as can be said without trying.
    fn may_seem_to_send(&self, context: &BurstContext<'_>, src: [u8; 6]) -> bool {
        let from = context.from;
        if !self.may_be_its(from, src) {
            return false;
        }
        let has_room = match from.source {
            SourcePolicy::Learn(n) => self.macs.n_addresses(from.port) < n,
            SourcePolicy::Fixed(_) | SourcePolicy::Sticky | SourcePolicy::Any(_) => true,
        };
        match self.macs.find(from.network, src) {
            Some(found) if found.port == from.port => true,
            Some(found) => match Right::new(self, from, found, src, context.now, || false) {
                Right::None => false,
                Right::Sends => matches!(from.source, SourcePolicy::Any(_)),
                Right::Owns => true,
                Right::Has => has_room,
            },
            None => has_room,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::table::FlowTable;
    use crate::mac::table::MacTable;
    use crate::network::{Network, Networks};
    use std::sync::Arc;

    const HERE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THERE: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const ALL: [u8; 6] = [0xff; 6];

    fn header(dst: [u8; 6], src: [u8; 6]) -> Header {
        let mut header = Header::default();
        header.0[..6].copy_from_slice(&dst);
        header.0[6..12].copy_from_slice(&src);
        header.0[12..14].copy_from_slice(&[8, 0]);
        header
    }

    fn lookup() -> Lookup {
        let network = Network {
            members: vec![0, 1],
            frame_max: 1514,
            ..Network::default()
        };
        let networks = Arc::new(Networks {
            networks: vec![network],
            ..Networks::default()
        });
        let (flows, macs) = (FlowTable::new(64, 2, [1, 2]), MacTable::new(64, 2, [1, 2]));
        Lookup::new(Arc::new(flows), Arc::new(macs), networks)
    }

    fn from(port: u16, source: SourcePolicy) -> Ingress {
        Ingress {
            port,
            network: 0,
            trunk: None,
            source,
            generation: 1,
        }
    }

    #[test]
    fn answers_are_those_of_the_decision_to_come_and_leave_no_trace() {
        let mut lookup = lookup();
        lookup.make_room();
        // Port 1 is known before anything is asked of port 0.
        lookup.decide(
            &from(1, SourcePolicy::Sticky),
            &[header(ALL, THERE)],
            &[60],
            &mut [Action::Flood(0)],
            1,
        );
        let frames = [
            (header(THERE, HERE), 60),
            (header(THERE, HERE), 60),
            (header(THERE, HERE), 1515),
            (header([2, 9, 9, 9, 9, 9], HERE), 60),
            (header(ALL, HERE), 60),
            (header(THERE, THERE), 60),
            (header([1, 0x80, 0xc2, 0, 0, 3], HERE), 60),
            (header(THERE, [0; 6]), 60),
            (header(HERE, HERE), 60),
        ];
        let (headers, lens): (Vec<_>, Vec<_>) = frames.into_iter().unzip();
        for source in [
            SourcePolicy::Sticky,
            SourcePolicy::Fixed(HERE),
            SourcePolicy::Learn(3),
        ] {
            let from = from(0, source);
            let report = format!("{:?}", (lookup.tally(), lookup.macs().rows()));
            let mut foreseen = vec![Action::Flood(9); headers.len()];
            lookup.foresee(&from, &headers, &lens, &mut foreseen);
            assert_eq!(
                report,
                format!("{:?}", (lookup.tally(), lookup.macs().rows())),
                "a trace was left"
            );
            let mut decided = foreseen.clone();
            // The last one rests on what the first teaches.
            let n = headers.len() - 1;
            lookup.decide(&from, &headers[..n], &lens[..n], &mut decided[..n], 1);
            assert_eq!(foreseen[..n], decided[..n], "{source:?}");
        }
    }

    #[test]
    fn frame_without_bytes_is_one_that_will_be_dropped() {
        let mut actions = [Action::Flood(0)];
        lookup().foresee(
            &from(0, SourcePolicy::Sticky),
            &[Header::default()],
            &[0],
            &mut actions,
        );
        assert!(matches!(actions, [Action::Drop(_)]));
    }
}
