//! How ports come up and go down on all cores, and how cores answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flowtable::PortId;

use super::books::{Books, Leaving};
use super::cores::Cores;
use super::port::{PortDown, PortUp};
use super::spaced;
use crate::limit::gate::Gate;
use crate::poll::mailbox::{Command, Mailbox, Reply};
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
        let placed = self.place(&port);
        self.watch(&mut port, &placed);
        let mut books = self.books();
        // It may have changed since.
        port.ingress = books.ingress(id).unwrap_or(port.ingress);
        books.present.entry(id).or_default();
        books.saw_port(&port.ingress);
        for stats in &self.stats {
            stats.port(id).clear_stopped();
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
        for (mut rxq, core) in port.rxqs.into_iter().zip(placed) {
            rxq.gate = Gate::new(limits.clone());
            self.post(
                &mut books,
                &self.mailboxes[core],
                Command::Poll(Box::new(rxq)),
            );
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

    /// Chooses a core for each receive queue.
    fn place(&self, port: &PortUp) -> Vec<usize> {
        let mut books = self.books();
        let mut core = || {
            let core = least(&books.n_rxqs);
            books.n_rxqs[core] += 1;
            core
        };
        let placed: Vec<_> = port.rxqs.iter().map(|_| core()).collect();
        books.placed.insert(port.ingress.port, placed.clone());
        placed
    }

    /// Lets each receive queue's kicks wake its core. Here and not on the core, and without the
    /// books in hand: it takes a lock in the kernel that a front-end can keep busy. One whose
    /// eventfds are known for that is looked at once a millisecond instead.
    fn watch(&self, port: &mut PortUp, placed: &[usize]) {
        let calls = self.callers.of(port.ingress.port);
        for (rxq, &core) in port.rxqs.iter_mut().zip(placed) {
            let add = |wake| match &calls {
                Some(calls) => {
                    !calls.is_indirect() && calls.measured(|| self.epolls[core].add(wake))
                }
                None => self.epolls[core].add(wake),
            };
            rxq.can_wake = rxq.wake_fd().is_some_and(add);
        }
    }

    /// The guest may keep its end of a kick open for ever, and with it what was entered. While one
    /// is removed its core can't wake, which takes as long as a front-end's own signals take it.
    fn end_watch(&self, port: PortId, rxqs: &mut [(usize, RxQueue)]) {
        let calls = self.callers.of(port);
        spaced::each(rxqs, |(core, rxq)| {
            let epoll = &self.epolls[*core];
            if let Some(wake) = rxq.wake_fd().filter(|_| rxq.can_wake) {
                match &calls {
                    Some(calls) => calls.measured(|| epoll.remove(wake)),
                    None => epoll.remove(wake),
                }
            }
            rxq.can_wake = false;
        });
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
        books.leaving.insert(port, Leaving::default());
        for core in books.placed.remove(&port).unwrap_or_default() {
            books.n_rxqs[core] -= 1;
        }
        books.views.remove(&port);
        self.post_all(&mut books, || Command::Down(port));
    }

    /// The second half: the port, once every core has let go of it.
    pub fn try_finish_down(&self, port: PortId) -> Option<PortDown> {
        let mut books = self.books();
        self.collect(&mut books);
        if books.leaving.get(&port)?.n_answered < self.mailboxes.len() {
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

    /// Hands a command over. Waits for room if the core is slow to take those before, and takes its
    /// answers meanwhile: it takes no command that it has no room to answer.
    pub(super) fn post(&self, books: &mut Books, mailbox: &Mailbox, mut command: Command) {
        while let Err(back) = mailbox.post(command) {
            command = back;
            self.collect(books);
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Sorts what the cores sent back by the port it belongs to.
    pub(super) fn collect(&self, books: &mut Books) {
        for (core, mailbox) in self.mailboxes.iter().enumerate() {
            while let Some(reply) = mailbox.reply() {
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
                    Reply::Down(port) => {
                        if let Some(leaving) = books.leaving.get_mut(&port) {
                            leaving.n_answered += 1;
                        }
                    }
                    Reply::Mark(mark) => {
                        if let Some(cores) = books.marks.get_mut(&mark) {
                            cores.retain(|&other| other != core);
                        }
                    }
                    // Freed here, on a control thread.
                    Reply::Networks(networks) => drop(networks),
                }
            }
        }
    }
}

fn least(loads: &[usize]) -> usize {
    (0..loads.len())
        .min_by_key(|&core| loads[core])
        .unwrap_or(0)
}
