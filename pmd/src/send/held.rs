//! Frames that waited at a VM's limit, on their way out.

use arrayvec::ArrayVec;
use flowtable::{Action, DropReason, PortId};

use super::outcome::{Block, Way};
use super::sender::{OUTS_MAX, Out, Sender};
use crate::burst::Burst;
use crate::port::views::{lock_at, slot_of};

impl Sender<'_> {
    /// Sends what may go of a burst of frames that waited: all for port `to`, and from `from`.
    /// Gives how many of the first of them went, or were dropped, and what holds up the next.
    #[cold]
    #[inline(never)]
    pub(crate) fn send_held(
        &mut self,
        burst: &mut Burst,
        from: PortId,
        to: PortId,
    ) -> (usize, Option<Block>) {
        let mut outs: ArrayVec<Out<'_>, OUTS_MAX> = ArrayVec::new();
        let (views, mut n_forwarded, mut k, mut block) = (self.views, 0, 0, None);
        while k < burst.n {
            let way = match burst.actions[k] {
                Action::Unicast(_) => {
                    let n_alike = burst.n_alike(k);
                    let (n, way) = self.reserve(views, &mut outs, burst, k, n_alike, false, to);
                    n_forwarded += n as u64;
                    k += n;
                    if way == Way::Reserved {
                        continue;
                    }
                    way
                }
                Action::Drop(reason) => Way::Lost(reason),
                _ => Way::Lost(DropReason::Denied),
            };
            match way {
                Way::Blocked(why) => {
                    block = Some(why);
                    break;
                }
                Way::Lost(reason) => self.lose(from, reason, burst.actions[k]),
                Way::Reserved => {}
            }
            k += 1;
        }
        self.commit(&mut outs, burst, None);
        self.stats.port(from).forwarded(n_forwarded);
        (k, block)
    }

    /// The first of these frames, which waited for port `to`, found its lock taken: they come next.
    #[cold]
    pub(crate) fn reserve_for_held(&self, burst: &Burst, to: PortId) {
        let slot = slot_of(self.views, self.tx_index, burst, 0, to);
        if let Some(lock) = slot.and_then(|slot| lock_at(self.views, slot)) {
            lock.reserve_turn(self.rxq, self.now);
        }
    }
}
