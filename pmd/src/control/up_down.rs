//! How ports come up and go down on all cores, and how cores answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flowtable::PortId;

use super::books::{Books, CoreState, Leaving, Placed};
use super::cores::Cores;
use super::port::{PortDown, PortUp};
use crate::limit::gate::Gate;
use crate::poll::mailbox::{Command, Reply};
use crate::port::lock::TxLock;
use crate::port::{PortView, RxQueue, TxQueue};
use crate::time::SECOND;

/// How often control looks whether the cores have answered.
pub(super) const LOOK_AGAIN: Duration = Duration::from_micros(50);

impl Cores {
    /// Brings a port up; with a queue to send to, its address is its own again: see
    /// [`flowtable::MacTable::rest`]. It must be down: never up before, or handed back by
    /// [`Cores::down`].
    pub fn up(&self, mut port: PortUp) {
        let id = port.ingress.port;
        if let Some(ingress) = self.books().ingress(id) {
            port.ingress = ingress;
        }
        if !port.txqs.is_empty() {
            self.macs
                .start(&port.ingress, self.now.load(Ordering::Relaxed));
        }
        self.begin_calls(&mut port);
        let places = self.place(id, &port.rxqs);
        for (rxq, (core, tx_index)) in port.rxqs.iter_mut().zip(places) {
            rxq.tx_index = tx_index;
            self.watch(rxq, core);
        }
        let mut books = self.books();
        // It may have changed since.
        port.ingress = books.ingress(id).unwrap_or(port.ingress);
        books.present.entry(id).or_default();
        books.saw_port(&port.ingress);
        for slot in self.slots().iter() {
            slot.stats.port(id).clear_stopped();
        }
        let limits = books.limits.get(&id).cloned();
        let copies = books.flood_budget(
            &port.ingress,
            u64::from(self.now.load(Ordering::Relaxed)) * SECOND,
        );
        let view = Arc::new(PortView::new(
            port.ingress,
            port.txqs,
            limits.clone(),
            copies,
        ));
        books.views.insert(id, view.clone());
        self.post_all(&mut books, || Command::Up(view.clone()));
        let placed = books.placed.get_mut(&id);
        let cores: Vec<_> = placed
            .into_iter()
            .flatten()
            .map(Placed::is_there_now)
            .collect();
        for (mut rxq, core) in port.rxqs.into_iter().zip(cores) {
            rxq.gate = Gate::new(limits.clone());
            self.post(&mut books, core, Command::Poll(Box::new(rxq)));
        }
    }

    /// Calls the guest, in case a call was lost before, and remembers what its eventfds are.
    fn begin_calls(&self, port: &mut PortUp) {
        let PortUp {
            ingress,
            rxqs,
            txqs,
        } = port;
        let of_rxqs = rxqs.iter_mut().filter_map(RxQueue::guest_ring);
        let mut rings: Vec<_> = of_rxqs
            .chain(txqs.iter_mut().filter_map(TxQueue::guest_ring))
            .collect();
        let files: Vec<_> = rings.iter().flat_map(|ring| ring.signalled()).collect();
        if !files.is_empty() || rings.iter().any(|ring| ring.spec().kick.is_some()) {
            let calls = self.callers.up(ingress.port, files);
            rings.iter_mut().for_each(|ring| ring.begin_calls(&calls));
        }
    }

    /// Chooses a core for each receive queue, and the transmit queue of devices.
    fn place(&self, port: PortId, rxqs: &[RxQueue]) -> Vec<(usize, u16)> {
        let mut books = self.books();
        let placed: Vec<_> = rxqs
            .iter()
            .map(|rxq| Placed::new(rxq, books.place_one()))
            .collect();
        let places = placed.iter().map(|queue| (queue.core, queue.tx_index));
        let places = places.collect();
        books.placed.insert(port, placed);
        places
    }

    /// Takes a port down and waits until no core uses anything of it: micro- to milliseconds, while
    /// they run.
    pub fn down(&self, port: PortId) -> PortDown {
        self.start_down(port);
        loop {
            if let Some(down) = self.try_finish_down(port) {
                return down;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// The first half of [`Cores::down`], for callers that must not wait.
    pub fn start_down(&self, port: PortId) {
        let mut books = self.books();
        // A core that ends says so when it uses nothing of any port any more.
        let unanswered = books.cores_that(|state| state != CoreState::Gone);
        let views = books.views.remove(&port).into_iter().collect();
        let leaving = Leaving {
            unanswered,
            views,
            rxqs: Vec::new(),
        };
        books.leaving.insert(port, leaving);
        books.displace(port);
        self.stop_moves_of(&mut books, port);
        self.post_all(&mut books, || Command::Down(port));
    }

    /// The second half: the port, once every core has let go of it.
    pub fn try_finish_down(&self, port: PortId) -> Option<PortDown> {
        let mut books = self.books();
        self.collect(&mut books);
        let is_used = !books.leaving.get(&port)?.unanswered.is_empty()
            || books.moving.values().any(|moving| moving.port == port);
        if is_used {
            return None;
        }
        let Leaving {
            mut views,
            mut rxqs,
            ..
        } = books.leaving.remove(&port)?;
        drop(books);
        self.end_watch(port, &mut rxqs);
        self.callers.down(port);
        let rxqs = rxqs.into_iter().map(|(_, rxq)| rxq).collect();
        // All cores had the same view in the end, so the last of them is the last holder.
        let view = views.pop();
        drop(views);
        let txqs = view
            .and_then(Arc::into_inner)
            .and_then(|view| Arc::into_inner(view.txqs));
        let txqs = txqs.map_or(Vec::new(), |txqs| {
            txqs.into_iter().map(TxLock::into_inner).collect()
        });
        Some(PortDown { rxqs, txqs })
    }

    /// Hands a command over to a core that hears it. Waits for room if the core is slow to take
    /// those before, and takes all cores' answers meanwhile: a core takes no command that it has no
    /// room to answer.
    pub(super) fn post(&self, books: &mut Books, core: usize, mut command: Command) {
        let slots = self.slots();
        while let Err(back) = slots[core].mailbox.post(command) {
            command = back;
            self.collect(books);
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Sorts what the cores sent back by the port it belongs to.
    pub(super) fn collect(&self, books: &mut Books) {
        for (core, slot) in self.slots().iter().enumerate() {
            while let Some(reply) = slot.mailbox.reply() {
                self.take_reply(books, core, reply);
            }
        }
    }

    fn take_reply(&self, books: &mut Books, core: usize, reply: Reply) {
        match reply {
            Reply::View(view) => {
                if let Some(leaving) = books.leaving.get_mut(&view.ingress.port) {
                    leaving.views.push(view);
                }
            }
            Reply::Queue(rxq) => {
                if let Some(leaving) = books.leaving.get_mut(&rxq.port) {
                    leaving.rxqs.push((core, *rxq));
                }
            }
            Reply::Released(parcel) => self.take_released(books, parcel),
            Reply::Down(port) => {
                if let Some(leaving) = books.leaving.get_mut(&port) {
                    leaving.unanswered.retain(|&other| other != core);
                }
            }
            Reply::Mark(mark) => {
                if let Some(cores) = books.marks.get_mut(&mark) {
                    cores.retain(|&other| other != core);
                }
            }
            Reply::Ended => books.has_ended(core),
            // Freed here, on a control thread.
            Reply::Taken(parcel) => drop(parcel),
            Reply::Networks(networks) => drop(networks),
        }
    }
}
