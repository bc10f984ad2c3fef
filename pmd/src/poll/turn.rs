//! The loop of a polling core: peek, decide, reserve, copy, consume; then, between turns, what
//! control wants.

use crate::blocked::ahead::{self, Scanner};
use crate::blocked::room::{self, NoRoom};
use crate::burst::Burst;
use crate::error::SetupError;
use crate::limit::queue::LimitQueues;
use crate::page_faults::PageFaults;
use crate::poll::mailbox::{Command, Mailbox, Reply};
use crate::port::{Flushed, PortView, RxQueue, TxQueue};
use crate::send::reserved::give_back;
use crate::send::{Sender, TXQS_MAX};
use crate::stats::CoreStats;
use crate::sys::{self, Epoll};
use crate::time::{Nanos, seconds};
use flowtable::memory::reclaim::Quiet;
use flowtable::{DropReason, Lookup, PortId};
use std::cell::Cell;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Receive queues that one port has at most: a device's.
const RXQS_MAX: usize = 64;
/// Commands that are applied between two turns at most.
const COMMANDS_A_TURN: usize = 8;
/// Queues of held frames that are dropped between two turns at most, of ports that go down.
const QUEUES_A_TURN: usize = 256;
/// A port that is changed (other memory, other call fds) goes down and comes up again within this;
/// frames to it wait as for a receiver without room. After that it is gone, and they are dropped.
const CHANGE_MAX: Nanos = 10_000_000;

/// A polling core: all that one thread needs to switch frames. Nothing in it is shared but what
/// stands behind an `Arc`.
#[derive(Debug)]
pub struct Core {
    pub(crate) id: usize,
    #[expect(
        clippy::vec_box,
        reason = "queues travel between control and cores in their boxes"
    )]
    pub(crate) rxqs: Vec<Box<RxQueue>>,
    pub(crate) views: Box<[Option<Arc<PortView>>]>,
    /// By port: until when one that has just gone down is taken to be changing, not gone.
    pub(crate) changing: Box<[Nanos]>,
    pub(crate) lookup: Lookup,
    pub(crate) burst: Box<Burst>,
    /// The number of the burst under way: see [`Sender`].
    pub(crate) n_bursts: u32,
    scanner: Scanner,
    pub(crate) slots: Box<[u16]>,
    /// Transmit queues with frames that are not out yet; see [`crate::port::TxQueue::flush`].
    pub(crate) flushes: Vec<(PortId, u16)>,
    /// Frames that wait at the limits of the VMs they are for.
    pub(crate) queues: LimitQueues,
    pub(crate) faults: PageFaults,
    /// A port that is going down, of which something waits there yet.
    leaving: Option<PortId>,
    pub(crate) stats: Arc<CoreStats>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) quiet: Arc<Quiet>,
    /// What the core sleeps in: control's wake-up, and the kicks of its queues, which control adds
    /// and removes.
    pub(crate) epoll: Arc<Epoll>,
}

/// Numbers of a core's bursts, of which the high part is the core's own.
#[inline(always)]
pub(crate) fn next_burst(n: u32) -> u32 {
    n.wrapping_add(1) | 1
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Frames dealt with.
    pub n_frames: usize,
    /// Queues whose frames had to wait.
    pub n_held: usize,
    /// Transmit queues with frames that the kernel has not taken yet, and was asked to.
    pub n_unsent: usize,
    /// Of the frames, those of queues that their VM's limit holds back now and again.
    pub n_throttled: usize,
    /// One of these queues may go on at once.
    pub is_pending: bool,
    /// When the first queue may go on that its VM's limit holds back now; none: there is none.
    pub opens_at: Option<Nanos>,
}

/// The earlier of two moments, of which one may be none.
pub(crate) fn earliest(before: Option<Nanos>, at: Nanos) -> Option<Nanos> {
    Some(before.map_or(at, |before| before.min(at)))
}

impl Turn {
    pub(crate) fn opens(&mut self, at: Nanos) {
        self.opens_at = earliest(self.opens_at, at);
    }
}

impl Core {
    /// The core with this number. `stats`, `mailbox` and `quiet` are shared with control.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub(crate) fn new(
        id: usize,
        lookup: Lookup,
        stats: Arc<CoreStats>,
        mailbox: Arc<Mailbox>,
        quiet: Arc<Quiet>,
    ) -> Result<Self, SetupError> {
        let n_ports = stats.n_ports();
        let epoll = Arc::new(Epoll::new()?);
        if !epoll.add(mailbox.wake_fd().as_fd()) {
            return Err(SetupError::new(
                "the kernel lets this user watch no more files (fs.epoll.max_user_watches)",
            ));
        }
        Ok(Self {
            id,
            rxqs: Vec::with_capacity(n_ports * TXQS_MAX),
            views: (0..n_ports).map(|_| None).collect(),
            changing: vec![0; n_ports].into(),
            lookup,
            burst: Box::default(),
            n_bursts: u32::try_from(id % 256).unwrap_or(0) << 24,
            scanner: Scanner::new(),
            slots: vec![0; n_ports * TXQS_MAX].into(),
            flushes: Vec::with_capacity(n_ports * TXQS_MAX),
            queues: LimitQueues::new(n_ports),
            faults: PageFaults::new(n_ports),
            leaving: None,
            stats,
            mailbox,
            quiet,
            epoll,
        })
    }

    /// Takes up the memory that only this core uses. Called on the core's own thread, so that it
    /// lies near its CPU; until then few decisions are remembered.
    pub fn make_room(&mut self) {
        self.lookup.make_room();
    }

    /// Bounds what pages that guests' memory lacks cost this core: see `page_faults`. Called on the
    /// core's own thread; until then nothing is bounded.
    pub fn bound_page_faults(&mut self) {
        self.faults.begin();
    }

    /// One turn: every receive queue once, then what control wants.
    ///
    /// A call of its own, by which `./x cost` finds what belongs to the switch.
    #[inline(never)]
    pub fn poll_once(&mut self, now: Nanos) -> Turn {
        let mut turn = Turn::default();
        if self.queues.due_at != Nanos::MAX {
            self.release(now, &mut turn);
        }
        if now >= self.faults.due {
            self.faults.look(now, self.rxqs.len());
            if let Some(port) = self.faults.take_waited_for() {
                self.stats.port(port).waited_for();
            }
        }
        let mut cycles = sys::cycles();
        self.lookup.set_time(now);
        let n_rxqs = self.rxqs.len();
        let mut no_room = NoRoom {
            turn: self.stats.n_turns(),
            ..NoRoom::default()
        };
        for rxq in &mut self.rxqs {
            if let Some(opens_at) = rxq.gate.shut_until(now) {
                turn.opens(opens_at);
                continue;
            }
            if rxq.is_held
                && room::goes_on(
                    rxq,
                    &self.views,
                    self.n_bursts,
                    &mut no_room,
                    &mut self.faults,
                    now,
                )
            {
                self.stats.port(rxq.port).held();
                turn.n_held += 1;
                // No burst's, and least of all the next queue's.
                let then = std::mem::replace(&mut cycles, sys::cycles());
                self.stats.worked(cycles.wrapping_sub(then), 0);
                continue;
            }
            let allowance = match rxq.gate.allowance(now) {
                Ok(allowance) => allowance,
                Err(opens_at) => {
                    give_back(rxq, &self.views, now);
                    rxq.shut(now, opens_at);
                    turn.opens(opens_at);
                    continue;
                }
            };
            let port_stats = self.stats.port(rxq.port);
            let n = match self.faults.is_watching {
                false => rxq.peek(&mut self.burst, allowance, port_stats),
                true => rxq.peek_watched(
                    &mut self.burst,
                    allowance,
                    port_stats,
                    &mut self.faults,
                    now,
                ),
            };
            rxq.gate.passed(now, n > 0);
            if n == 0 {
                rxq.is_held = rxq.takes_wait();
                turn.n_held += usize::from(rxq.is_held);
                if rxq.turn.is_waiting() {
                    rxq.turn.leave();
                }
                if rxq.hold.reserved().is_some() {
                    give_back(rxq, &self.views, now);
                }
                continue;
            }
            let Some(view) = self.views[usize::from(rxq.port)].as_deref() else {
                continue;
            };
            let burst = &mut *self.burst;
            if rxq.discards {
                burst.discard(DropReason::QueueDisabled);
            } else {
                let has_tags = self.lookup.decide(
                    &view.ingress,
                    &burst.headers[..n],
                    &burst.lens[..n],
                    &mut burst.actions[..n],
                    seconds(now),
                );
                if has_tags {
                    burst.pop_tags(view.ingress.trunk.is_some());
                }
            }
            let can_hold = rxq.can_hold();
            self.n_bursts = next_burst(self.n_bursts);
            let mut sender = Sender {
                core: self.id,
                views: &self.views,
                changing: &self.changing,
                networks: self.lookup.networks(),
                stats: &self.stats,
                slots: &mut self.slots,
                // What can't wait takes no turns.
                who: if can_hold { rxq.who } else { 0 },
                rxq: rxq.who,
                queues: Some(&mut self.queues),
                turn_at: rxq.turn.port(now),
                burst: self.n_bursts,
                flushes: &mut self.flushes,
                walked: Cell::new(0),
                faults: &mut self.faults,
                now,
            };
            let sent = sender.send(burst, view, rxq, can_hold);
            if sent.n > 0 {
                rxq.consume(burst, sent.n);
                port_stats.received(sent.n as u64, burst.n_bytes(sent.n));
            }
            let then = std::mem::replace(&mut cycles, sys::cycles());
            self.stats.worked(cycles.wrapping_sub(then), sent.n as u64);
            turn.n_frames += sent.n;
            rxq.is_held = sent.n < n;
            if rxq.is_held {
                turn.n_held += usize::from(sent.at_limit.is_none());
                let (shared, core) = ((view, &*self.views), (self.id, &*self.stats));
                turn.is_pending |= ahead::look_on(
                    rxq,
                    n_rxqs,
                    &mut self.scanner,
                    &self.lookup,
                    shared,
                    core,
                    now,
                );
                room::begin(rxq, n - sent.n, now);
            }
            if self.faults.is_watching
                && let Some(opens_at) = rxq.end_watched(&mut self.faults, now)
            {
                give_back(rxq, &self.views, now);
                turn.opens(opens_at);
            }
            if let Some(opens_at) = rxq.gate.charge(now, burst, sent.n) {
                give_back(rxq, &self.views, now);
                rxq.shut(now, opens_at);
                turn.opens(opens_at);
                turn.n_throttled += sent.n;
            } else if rxq.gate.is_binding() {
                turn.n_throttled += sent.n;
                turn.is_pending |= sent.n == n;
            }
            if sent.at_limit.is_some() | rxq.turn.is_waiting() {
                let before = self.queues.before_ring(rxq.who, sent.at_limit);
                let opens_at =
                    rxq.turn
                        .settle(now, burst, sent.n, sent.at_limit, &self.views, before);
                if let Some(opens_at) = opens_at {
                    rxq.gate.pause(opens_at);
                    turn.opens(opens_at);
                    turn.n_throttled = (turn.n_throttled + sent.n).min(turn.n_frames);
                }
            }
        }
        if !self.flushes.is_empty() {
            turn.n_unsent = self.flush();
        }
        self.between_turns(now, &mut turn);
        turn
    }

    /// Tells the kernel of what it was given this turn, once for each queue that needs it; gives
    /// how many of them still have frames that it didn't take.
    #[inline(never)]
    fn flush(&mut self) -> usize {
        let (views, then) = (&self.views, sys::cycles());
        let mut n_unsent = 0;
        self.flushes.retain(|&(port, queue)| {
            let txq = views[usize::from(port)]
                .as_ref()
                .and_then(|view| view.txqs.get(usize::from(queue)));
            // One that went down takes what is left along.
            let Some(txq) = txq else { return false };
            let flushed = TxQueue::flush(txq);
            n_unsent += usize::from(flushed == Flushed::Unsent);
            flushed != Flushed::All
        });
        self.stats.flushed(sys::cycles().wrapping_sub(then));
        n_unsent
    }

    /// Counts the turn, announces the quiet state, applies commands.
    #[inline(always)]
    fn between_turns(&mut self, now: Nanos, turn: &mut Turn) {
        self.stats.turned();
        if self.mailbox.has_commands() | self.leaving.is_some() {
            self.take_commands(now);
            turn.is_pending |= self.leaving.is_some();
        }
        self.quiet.pass(self.id);
    }

    #[cold]
    fn take_commands(&mut self, now: Nanos) {
        let mut n_queues = QUEUES_A_TURN;
        self.let_go(&mut n_queues);
        for _ in 0..COMMANDS_A_TURN {
            // What comes behind a port that is going down may be its next life.
            if self.leaving.is_some() {
                break;
            }
            // A port that goes down answers with a view, its queues and a word.
            match self.mailbox.command(RXQS_MAX + 2) {
                Some(command) => self.apply(command, now),
                None => break,
            }
            self.let_go(&mut n_queues);
        }
        self.stats.has_rxqs(self.rxqs.len());
    }

    /// Drops what waits from or for a port that is going down, as much as a turn may; says so when
    /// it is done.
    fn let_go(&mut self, n_queues: &mut usize) {
        if let Some(port) = self.leaving
            && self.queues.drop_all_of(port, n_queues, &self.stats)
        {
            self.leaving = None;
            self.mailbox.answer(Reply::Down(port));
        }
    }

    fn apply(&mut self, command: Command, now: Nanos) {
        match command {
            Command::Up(view) => {
                let place = usize::from(view.ingress.port);
                if let Some(before) = self.views[place].replace(view) {
                    self.mailbox.answer(Reply::View(before));
                }
            }
            Command::Poll(rxq) => self.rxqs.push(rxq),
            Command::Down(port) => self.down(port, now),
            Command::Networks(networks) => {
                let before = self.lookup.set_networks(networks);
                self.queues.rules_changed();
                self.mailbox.answer(Reply::Networks(before));
            }
        }
    }

    /// Nothing comes from this port or goes there any more; what waits is dropped by
    /// [`Core::let_go`].
    fn down(&mut self, port: PortId, now: Nanos) {
        self.leaving = Some(port);
        if let Some(view) = self.views[usize::from(port)].take() {
            self.changing[usize::from(port)] = now + CHANGE_MAX;
            self.mailbox.answer(Reply::View(view));
        }
        let mut at = 0;
        while let Some(rxq) = self.rxqs.get_mut(at) {
            if rxq.port != port {
                rxq.turn.leave_port(port);
                at += 1;
                continue;
            }
            let mut rxq = self.rxqs.swap_remove(at);
            rxq.turn.leave();
            give_back(&mut rxq, &self.views, now);
            self.mailbox.answer(Reply::Queue(rxq));
        }
    }
}
