//! Copies of a flooded frame: one for each member of its network but the port that it came from.

use crate::burst::Burst;
use crate::limits::Amount;
use crate::send::{OUTS_MAX, Out, Sender, Views, Way};
use arrayvec::ArrayVec;
use flowtable::lookup::flood_members;
use flowtable::{Action, DropReason, NetworkId, PortId, Tuple};

impl Sender<'_> {
    /// Places for the copies of a flooded frame. It never waits: a copy that is blocked is dropped alone.
    #[cold]
    #[inline(never)]
    pub(crate) fn flood<'v>(
        &mut self,
        views: &'v Views,
        outs: &mut ArrayVec<Out<'v>, OUTS_MAX>,
        burst: &Burst,
        k: usize,
        port: PortId,
        network: NetworkId,
    ) -> u64 {
        let (mut n_sent, mut n_tried) = (0, 0);
        self.settle(outs, burst);
        // Copies that can't wait take no turns with those that can.
        let who = std::mem::take(&mut self.who);
        let networks = self.networks;
        let network = networks.network(network);
        // Read once for all members, and only where one of them has rules.
        let has_rules = !network.fields.is_none();
        let tuple = has_rules.then(|| Tuple::parse(&burst.headers[k], burst.lens[k] as usize));
        for to in flood_members(network, port) {
            if tuple.is_some_and(|tuple| !networks.may_reach(to, &tuple)) {
                // Where nobody is, no copy was due.
                if self.views.get(usize::from(to)).is_some_and(Option::is_some) {
                    n_tried += 1;
                    self.lose(port, DropReason::Denied, Action::Refused(to));
                }
                continue;
            }
            let reason = match self.reserve(views, outs, burst, k, 1, true, to).1 {
                Way::Reserved => {
                    n_sent += 1;
                    n_tried += 1;
                    continue;
                }
                // Nobody is there: no copy was due.
                Way::Lost(DropReason::PortDown) => continue,
                Way::Blocked(_) => self.reason_full(to),
                Way::Lost(reason) => reason,
            };
            n_tried += 1;
            self.lose(port, reason, Action::Unicast(to));
        }
        self.who = who;
        if n_tried == 0 {
            self.stats.port(port).dropped(DropReason::NoDestination);
        } else {
            self.stats.port(port).copied(n_tried - 1);
        }
        n_sent
    }

    /// Charges what was let pass as a whole burst and is not charged yet: copies of a frame are more than the burst has, so from
    /// now on each is asked about.
    #[cold]
    fn settle(&self, outs: &mut ArrayVec<Out<'_>, OUTS_MAX>, burst: &Burst) {
        for out in outs {
            let Some(limit) = out.bill.take() else { continue };
            let frames = (0..burst.n).filter(|k| out.frames >> k & 1 != 0);
            let n_bytes = frames.map(|k| u64::from(burst.lens[k])).sum();
            limit.charge(self.now, Amount { n_frames: out.frames.count_ones().into(), n_bytes });
        }
    }
}
