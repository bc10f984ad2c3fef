//! A port that changes while it is up, but for its queues.

use std::sync::Arc;

use flowtable::PortId;

use super::core::{Core, Leaving};
use super::mailbox::Reply;
use crate::port::PortView;
use crate::port::views::limits_of;
use crate::time::Nanos;

impl Core {
    /// What all cores know of a port is this from now on. Nothing that waits goes on waiting by
    /// what was so before.
    #[cold]
    pub(super) fn replace(&mut self, view: Arc<PortView>, now: Nanos) {
        let port = view.ingress.port;
        let place = usize::from(port);
        let Some(before) = self.views[place].replace(view) else {
            // It is down.
            self.views[place]
                .take()
                .into_iter()
                .for_each(|view| self.mailbox.answer(Reply::View(view)));
            return;
        };
        let is_elsewhere = self.views[place].as_ref().is_some_and(|view| {
            (view.ingress.network, view.ingress.trunk)
                != (before.ingress.network, before.ingress.trunk)
        });
        if is_elsewhere {
            // What waits was decided for the network that it is in no more.
            self.leaving = Some(Leaving {
                port,
                is_down: false,
            });
        }
        self.mailbox.answer(Reply::View(before));
        self.look_again_at(port, is_elsewhere, now);
    }

    /// Queues of this port, and what waits for it anywhere, are looked at again at once.
    fn look_again_at(&mut self, port: PortId, is_elsewhere: bool, now: Nanos) {
        for rxq in &mut self.rxqs {
            if rxq.port == port {
                rxq.gate.renew(limits_of(&self.views, port), now);
                if is_elsewhere {
                    rxq.hold.forget_flood();
                }
            } else if rxq.turn.is_at(port) {
                rxq.gate.look_again(now);
            }
        }
        self.queues.look_again_at(port, now);
    }
}
