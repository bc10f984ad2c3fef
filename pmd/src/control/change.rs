//! Ports that change while they are up: other addresses, another network, other limits. They keep
//! their queues, and no frame is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flowtable::{Ingress, Networks, PortId};

use super::books::Books;
use super::cores::Cores;
use super::exist::Mark;
use super::up_down::LOOK_AGAIN;
use crate::error::SetupError;
use crate::limit::{LimitOptions, VmLimits};
use crate::poll::mailbox::Command;
use crate::port::PortView;
use crate::time::{Nanos, SECOND};

/// A port whose addresses or network are being changed.
#[derive(Debug)]
#[must_use = "old addresses are gone when the change is finished"]
pub struct Change {
    before: Option<Ingress>,
    now: Ingress,
    mark: Mark,
}

impl Cores {
    /// Gives every core other networks: rules, members, uplinks, MTUs. Generations are chosen here,
    /// one for all that differs from before: decisions about other networks stay cached. A port
    /// that goes to another network goes by [`Cores::set_ingress`], after this.
    ///
    /// From a core's next turn on frames are judged by them, those that wait at limits too. When
    /// all cores have them says [`Cores::now`].
    pub fn set_networks(&self, networks: &Arc<Networks>) {
        self.change_networks(&mut self.books(), Networks::clone(networks));
    }

    pub(super) fn change_networks(&self, books: &mut Books, networks: Networks) {
        let generation = books.next_generation();
        let networks = Arc::new(networks.following(&books.networks, generation));
        books.saw(&networks);
        let before = std::mem::replace(&mut books.networks, networks.clone());
        self.post_all(books, || Command::Networks(networks.clone()));
        let now = u64::from(self.now.load(Ordering::Relaxed)) * SECOND;
        for port in books.carry_on(&before, now) {
            self.replace(books, port);
        }
        self.collect(books);
    }

    /// Changes which addresses a port may send from, or which network it is in, up or not, and
    /// waits until that is so on all cores and the addresses that it may not have any more are
    /// gone; a sticky address is released unless it stays sticky. The generation is chosen here.
    /// The port is one of [`Cores::add_port`].
    ///
    /// # Errors
    /// There is no room for its new address; all else has changed.
    pub fn set_ingress(&self, ingress: &Ingress) -> Result<(), SetupError> {
        let change = self.start_set_ingress(ingress);
        loop {
            if let Some(changed) = self.try_finish_change(&change) {
                return changed;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The first half of [`Cores::set_ingress`], for callers that must not wait.
    pub fn start_set_ingress(&self, ingress: &Ingress) -> Change {
        let mut books = self.books();
        let generation = books.next_generation();
        let now = Ingress {
            generation,
            ..*ingress
        };
        let port = now.port;
        let before = books.present.insert(port, Some(now)).flatten();
        self.replace(&mut books, port);
        let mark = self.mark(&mut books);
        Change { before, now, mark }
    }

    /// The second half, once it is done; `None`: not yet.
    pub fn try_finish_change(&self, change: &Change) -> Option<Result<(), SetupError>> {
        if !self.is_past(&change.mark) {
            return None;
        }
        if let Some(before) = &change.before {
            self.macs.change_port(before, &change.now);
        }
        Some(self.own_address(&change.now))
    }

    /// Changes the limits of a VM, which are those of these ports, while frames flow. From one
    /// moment to the next the new ones hold for all its queues, on all cores, which also look again
    /// at what waits for the old ones. No frame is lost, and no burst is given anew: what is saved
    /// up or owed stays that many bytes and packets. A limit may come where there was none, or go.
    /// Without `queue` what is over `to_vm` is dropped from now on; what is held is let go at the
    /// new rate. `now`: of the switch's clock.
    pub fn change_limits(
        &self,
        ports: &[PortId],
        limits: &Arc<VmLimits>,
        (from_vm, to_vm): (LimitOptions, LimitOptions),
        now: Nanos,
    ) {
        limits.change(from_vm, to_vm, now);
        self.limit(ports, limits);
    }

    /// These ports are one VM's, whose limits these are, as they come and go: from now on for those
    /// that are up. The value stays with the VM, and with it what is saved up: see
    /// [`Cores::change_limits`].
    pub fn limit(&self, ports: &[PortId], limits: &Arc<VmLimits>) {
        let mut books = self.books();
        for &port in ports {
            books.limits.insert(port, limits.clone());
            self.replace(&mut books, port);
        }
    }

    /// All cores get a port as it is now, if it is up.
    fn replace(&self, books: &mut Books, port: PortId) {
        let Some(before) = books.views.get(&port).cloned() else {
            return;
        };
        let ingress = books.ingress(port).unwrap_or(before.ingress);
        let limits = books.limits.get(&port).cloned();
        if (ingress.network, ingress.trunk) != (before.ingress.network, before.ingress.trunk) {
            // What waits of queues between cores was decided for the network that it is in no more.
            for moving in books.moving.values_mut() {
                moving.elsewhere.push(port);
            }
        }
        let copies = books.copies.get(&port).unwrap_or(&before.copies).clone();
        let view = Arc::new(PortView::renewed(&before, ingress, limits, copies));
        books.views.insert(port, view.clone());
        self.post_all(books, || Command::Replace(view.clone()));
        self.collect(books);
    }
}
