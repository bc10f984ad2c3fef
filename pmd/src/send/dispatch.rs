//! A burst, frame after frame: reserve for each in order, cut where one may not go now, then copy
//! and publish.

use arrayvec::ArrayVec;
use flowtable::{Action, DropReason, Exit};

use super::flood::Copied;
use super::outcome::{Block, Flooded, Over, Sent, Wait, Way};
use super::sender::{OUTS_MAX, Out, Sender};
use crate::burst::Burst;
use crate::port::{PortView, RxQueue};

impl Sender<'_> {
    /// Sends what may go of a burst that came in by `from`.
    ///
    /// Frames before the cut are sent or dropped, each copy counted. `can_hold`: whether frames may
    /// wait where they are.
    #[inline]
    pub(crate) fn send(
        &mut self,
        burst: &mut Burst,
        from: &PortView,
        rxq: &mut RxQueue,
        can_hold: bool,
    ) -> Sent {
        let mut outs: ArrayVec<Out<'_>, OUTS_MAX> = ArrayVec::new();
        let (views, port) = (self.views, from.ingress.port);
        let (mut n_forwarded, mut k, mut copied) = (0, 0, Copied::default());
        let (mut was_held, mut was_cut) = (false, false);
        let (mut at_limit, mut flood_waits_until) = (None, None);
        while k < burst.n {
            let way = match burst.actions[k] {
                Action::Unicast(to) => {
                    let n_alike = burst.n_alike(k);
                    let (n, way) = self.reserve(views, &mut outs, burst, k, n_alike, false, to);
                    n_forwarded += n as u64;
                    k += n;
                    if n == n_alike || way == Way::Reserved {
                        continue;
                    }
                    way
                }
                Action::Drop(reason) => Way::Lost(reason),
                Action::Refused(_) => Way::Lost(DropReason::Denied),
                Action::Flood(network) => {
                    let (n, end) = self.flood(
                        &mut outs,
                        burst,
                        k,
                        from,
                        rxq,
                        network,
                        can_hold,
                        &mut copied,
                    );
                    n_forwarded += n;
                    match end {
                        Flooded::Done => {
                            k += 1;
                            continue;
                        }
                        Flooded::Next => was_cut = true,
                        Flooded::Waits => was_held = true,
                        Flooded::WaitsUntil(opens_at) => {
                            was_held = true;
                            flood_waits_until = Some(opens_at);
                        }
                    }
                    break;
                }
            };
            match way {
                Way::Blocked(Block::Limit) => {
                    match self.over_limit(&mut outs, burst, k, rxq, can_hold) {
                        Over::Held => {
                            at_limit = burst.port_of(k);
                            self.stats.port(port).held();
                            break;
                        }
                        Over::Queued => self.stats.port(port).queued(),
                        Over::Lost => self.lose(port, DropReason::Limit, burst.actions[k]),
                    }
                }
                Way::Blocked(why) => match self.blocked(&mut outs, burst, k, rxq, why, can_hold) {
                    Ok(Wait::Next) => break,
                    Ok(Wait::Held) => {
                        was_held = true;
                        break;
                    }
                    Err(reason) => self.lose(port, reason, burst.actions[k]),
                },
                Way::Lost(reason) => self.lose(port, reason, burst.actions[k]),
                Way::Reserved => {}
            }
            k += 1;
        }
        if was_held | rxq.hold.is_used() {
            self.settle_hold(&mut outs, rxq, was_held, was_cut);
        }
        self.commit(&mut outs, burst, self.exit(from));
        self.stats.port(port).forwarded(n_forwarded);
        Sent {
            n: k,
            at_limit,
            flood_waits_until,
        }
    }

    /// Where frames of this port get a tag. Those of a trunk have lost theirs, and its networks
    /// have no other uplink.
    #[inline(always)]
    fn exit(&self, from: &PortView) -> Option<Exit> {
        if from.ingress.trunk.is_some() {
            None
        } else {
            self.networks.network(from.ingress.network).uplink
        }
    }
}
