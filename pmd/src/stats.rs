//! Counters. Every frame that was taken ends in one: at rest, and per ingress port,
//! `rx + copies = forwarded + drops + held`, and over all ports `forwarded = tx`. What is held
//! waits at the limit of a VM, in memory of the switch; at rest nothing is.
//!
//! Each core has its own, written by it alone with plain stores; a report adds them up.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use flowtable::{Action, DropReason, PortId};

use crate::error::GuestFault;
use crate::time::Nanos;

/// One core's counters of one port, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PortStats {
    rx_frames: AtomicU64,
    rx_bytes: AtomicU64,
    copies: AtomicU64,
    forwarded: AtomicU64,
    tx_frames: AtomicU64,
    tx_bytes: AtomicU64,
    missed: AtomicU64,
    refused: AtomicU64,
    limited: AtomicU64,
    queued: AtomicU64,
    unqueued: AtomicU64,
    held_turns: AtomicU64,
    faults: AtomicU64,
    page_waits: AtomicU64,
    drops: [AtomicU64; DropReason::COUNT],
    /// The last fault that stopped a queue: queue index, then the fault's number and one. 0: none.
    stopped: AtomicU32,
}

/// The same as plain numbers, of one core or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames taken from the port.
    pub rx_frames: u64,
    /// Their bytes, without FCS.
    pub rx_bytes: u64,
    /// Copies beyond the first that floods of its frames made.
    pub copies: u64,
    /// Frames of its that reached a destination, each copy counted.
    pub forwarded: u64,
    /// Frames given to the port.
    pub tx_frames: u64,
    /// Their bytes, without FCS.
    pub tx_bytes: u64,
    /// Frames that should have gone to the port and were dropped before delivery; they are in their
    /// sender's drops.
    pub missed: u64,
    /// Those of `missed` that the port's own rules denied.
    pub refused: u64,
    /// Those of `missed` that were over its VM's limit.
    pub limited: u64,
    /// Frames of its that waited at the limit of the VM they were for, in memory of the switch.
    pub queued: u64,
    /// Those of them that wait now.
    pub held: u64,
    /// Turns in which frames of the port's were left in its ring since their destination had no
    /// room.
    pub held_turns: u64,
    /// Faults of the guest.
    pub faults: u64,
    /// Frames of its that were dropped, by reason, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::COUNT],
}

impl Counters {
    /// Drops of all reasons.
    pub fn n_dropped(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Whether every frame that came in is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.rx_frames + self.copies == self.forwarded + self.n_dropped() + self.held
    }

    fn add(&mut self, more: &PortStats) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.rx_frames += get(&more.rx_frames);
        self.rx_bytes += get(&more.rx_bytes);
        self.copies += get(&more.copies);
        self.forwarded += get(&more.forwarded);
        self.tx_frames += get(&more.tx_frames);
        self.tx_bytes += get(&more.tx_bytes);
        self.missed += get(&more.missed);
        self.refused += get(&more.refused);
        self.limited += get(&more.limited);
        // A queue that moves takes its frames along: what waits came in on one core and may leave
        // on another, so that the difference of one core may be below zero.
        let unqueued = get(&more.unqueued);
        let queued = get(&more.queued);
        self.queued += queued;
        self.held = self.held.wrapping_add(queued.wrapping_sub(unqueued));
        self.held_turns += get(&more.held_turns);
        self.faults += get(&more.faults);
        for (sum, counter) in self.drops.iter_mut().zip(&more.drops) {
            *sum += get(counter);
        }
    }
}

/// Adds to a counter that only this core writes: a load and a store, no locked instruction.
#[inline(always)]
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

impl PortStats {
    /// Frames were taken from the port.
    #[inline(always)]
    pub(crate) fn received(&self, n_frames: u64, n_bytes: u64) {
        add(&self.rx_frames, n_frames);
        add(&self.rx_bytes, n_bytes);
    }

    /// Frames of the port's reached destinations.
    #[inline(always)]
    pub(crate) fn forwarded(&self, n: u64) {
        add(&self.forwarded, n);
    }

    /// A flood made this many copies beyond the first.
    pub(crate) fn copied(&self, n: u64) {
        add(&self.copies, n);
    }

    /// Frames were given to the port.
    #[inline(always)]
    pub(crate) fn sent(&self, n_frames: u64, n_bytes: u64) {
        add(&self.tx_frames, n_frames);
        add(&self.tx_bytes, n_bytes);
    }

    /// Frames of the port's were dropped.
    pub(crate) fn dropped(&self, reason: DropReason, n: u64) {
        add(&self.drops[reason.index()], n);
    }

    /// Frames to the port were dropped before delivery.
    pub(crate) fn missed(&self, reason: DropReason, n: u64) {
        add(&self.missed, n);
        add(
            &self.limited,
            if reason == DropReason::Limit { n } else { 0 },
        );
    }

    /// It was the port's rules that kept the frames away.
    pub(crate) fn refused(&self, n: u64) {
        add(&self.refused, n);
    }

    /// Frames of the port's were left in its ring.
    pub(crate) fn held(&self) {
        add(&self.held_turns, 1);
    }

    /// A frame of the port's waits at a limit from now on.
    pub(crate) fn queued(&self) {
        add(&self.queued, 1);
    }

    /// Frames of the port's wait there no longer.
    pub(crate) fn unqueued(&self, n: u64) {
        add(&self.unqueued, n);
    }

    /// The guest broke rules on one of its queues, `n` times; this was the last.
    pub(crate) fn faulted(&self, queue: u16, fault: GuestFault, n: u64) {
        add(&self.faults, n);
        if fault.grade() != crate::error::Grade::DropChain {
            self.stopped.store(
                u32::from(queue) << 8 | (u32::from(fault.number()) + 1),
                Ordering::Relaxed,
            );
        }
    }

    /// All of it is zero, as for a port that is new.
    fn forget(&self) {
        let Self {
            rx_frames,
            rx_bytes,
            copies,
            forwarded,
            tx_frames,
            tx_bytes,
            missed,
            refused,
            limited,
            queued,
            unqueued,
            held_turns,
            faults,
            page_waits,
            drops,
            stopped,
        } = self;
        let counters = [
            rx_frames, rx_bytes, copies, forwarded, tx_frames, tx_bytes, missed, refused, limited,
            queued, unqueued, held_turns, faults, page_waits,
        ];
        let all = counters.into_iter().chain(drops);
        all.for_each(|counter| counter.store(0, Ordering::Relaxed));
        stopped.store(0, Ordering::Relaxed);
    }

    /// The core had to wait for a page of the port's memory.
    pub(crate) fn waited_for(&self) {
        add(&self.page_waits, 1);
    }

    /// How often it had to.
    pub(crate) fn n_page_waits(&self) -> u64 {
        self.page_waits.load(Ordering::Relaxed)
    }

    /// The last fault that stopped a queue, and which.
    pub fn stopped(&self) -> Option<(u16, GuestFault)> {
        let [_, high, low, number] = self.stopped.load(Ordering::Relaxed).to_be_bytes();
        let fault = GuestFault::from_number(number.checked_sub(1)?)?;
        Some((u16::from_be_bytes([high, low]), fault))
    }

    /// The queues are set up again.
    pub fn clear_stopped(&self) {
        self.stopped.store(0, Ordering::Relaxed);
    }
}

/// What one receive queue took of the cores that polled it. Written by the core that polls it.
#[derive(Debug, Default)]
pub struct QueueStats {
    busy_cycles: AtomicU64,
    frames: AtomicU64,
}

impl QueueStats {
    /// A burst of it was dealt with.
    #[inline(always)]
    pub(crate) fn worked(&self, n_cycles: u64, n_frames: u64) {
        add(&self.busy_cycles, n_cycles);
        add(&self.frames, n_frames);
    }

    /// Cycles of the time-stamp counter spent on bursts of it of which frames went on.
    pub fn busy_cycles(&self) -> u64 {
        self.busy_cycles.load(Ordering::Relaxed)
    }

    /// Frames dealt with.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }
}

/// One core's counters.
#[derive(Debug)]
pub struct CoreStats {
    ports: Box<[PortStats]>,
    turns: AtomicU64,
    busy_cycles: AtomicU64,
    held_cycles: AtomicU64,
    scan_cycles: AtomicU64,
    scanned_frames: AtomicU64,
    rx_frames: AtomicU64,
    bursts: AtomicU64,
    sleeps: AtomicU64,
    cpu_ns: AtomicU64,
    /// Of `cpu_ns`: of threads before the one that runs the core now.
    cpu_ns_before: AtomicU64,
    cpu_at: AtomicU64,
    n_rxqs: AtomicU64,
}

/// The same as plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreCounters {
    /// Times the core went through its queues.
    pub turns: u64,
    /// Cycles of the time-stamp counter spent on bursts of which frames went on.
    pub busy_cycles: u64,
    /// Cycles spent on bursts of which no frame could go.
    pub held_cycles: u64,
    /// Cycles spent on looking at frames behind the bursts of blocked queues.
    pub scan_cycles: u64,
    /// How many frames that were.
    pub scanned_frames: u64,
    /// Frames dealt with.
    pub rx_frames: u64,
    /// How many bursts that were.
    pub bursts: u64,
    /// Times the core went to sleep.
    pub sleeps: u64,
    /// CPU time of its threads, one after another, in nanoseconds, as of the last nap or second.
    pub cpu_ns: u64,
    /// When that was, by the cores' clock.
    pub cpu_at: Nanos,
    /// Receive queues it polls.
    pub n_rxqs: u64,
}

impl CoreStats {
    /// For a switch of `n_ports` ports.
    pub fn new(n_ports: usize) -> Self {
        Self {
            ports: (0..n_ports).map(|_| PortStats::default()).collect(),
            turns: AtomicU64::new(0),
            busy_cycles: AtomicU64::new(0),
            held_cycles: AtomicU64::new(0),
            scan_cycles: AtomicU64::new(0),
            scanned_frames: AtomicU64::new(0),
            rx_frames: AtomicU64::new(0),
            bursts: AtomicU64::new(0),
            sleeps: AtomicU64::new(0),
            cpu_ns: AtomicU64::new(0),
            cpu_ns_before: AtomicU64::new(0),
            cpu_at: AtomicU64::new(0),
            n_rxqs: AtomicU64::new(0),
        }
    }

    /// A port's counters. Panics if there is no such port.
    #[inline(always)]
    pub fn port(&self, port: PortId) -> &PortStats {
        &self.ports[usize::from(port)]
    }

    /// Another port has this id from now on, of which nothing was counted.
    pub(crate) fn forget(&self, port: PortId) {
        self.port(port).forget();
    }

    /// A frame of port `from` was dropped that was to go as `action` says.
    #[cold]
    pub(crate) fn lost(&self, from: PortId, action: Action, reason: DropReason) {
        self.lost_many(from, action, reason, 1);
    }

    /// The same of `n` frames alike.
    pub(crate) fn lost_many(&self, from: PortId, action: Action, reason: DropReason, n: u64) {
        self.port(from).dropped(reason, n);
        let (Action::Unicast(to) | Action::Refused(to)) = action else {
            return;
        };
        if usize::from(to) < self.n_ports() {
            self.port(to).missed(reason, n);
            if action == Action::Refused(to) {
                self.port(to).refused(n);
            }
        }
    }

    /// How many ports there are.
    pub fn n_ports(&self) -> usize {
        self.ports.len()
    }

    #[inline(always)]
    pub(crate) fn turned(&self) {
        add(&self.turns, 1);
    }

    /// Turns so far.
    pub(crate) fn n_turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Frames behind a blocked burst were looked at.
    pub(crate) fn scanned(&self, n_cycles: u64, n_frames: u64) {
        add(&self.scan_cycles, n_cycles);
        add(&self.scanned_frames, n_frames);
    }

    #[inline(always)]
    pub(crate) fn worked(&self, n_cycles: u64, n_frames: u64) {
        if n_frames == 0 {
            return add(&self.held_cycles, n_cycles);
        }
        add(&self.busy_cycles, n_cycles);
        add(&self.rx_frames, n_frames);
        add(&self.bursts, 1);
    }

    /// Cycles that went into handing frames, which are counted already, to the kernel.
    pub(crate) fn flushed(&self, n_cycles: u64) {
        add(&self.busy_cycles, n_cycles);
    }

    pub(crate) fn slept(&self) {
        add(&self.sleeps, 1);
    }

    /// Another thread runs the core from now on, or the first one.
    pub(crate) fn begins(&self, now: Nanos) {
        let before = self.cpu_ns.load(Ordering::Relaxed);
        self.cpu_ns_before.store(before, Ordering::Relaxed);
        self.cpu_at.store(now, Ordering::Relaxed);
    }

    /// Its thread has had the CPU for so long.
    pub(crate) fn has_used(&self, cpu_ns: u64, now: Nanos) {
        let before = self.cpu_ns_before.load(Ordering::Relaxed);
        self.cpu_ns.store(before + cpu_ns, Ordering::Relaxed);
        self.cpu_at.store(now, Ordering::Relaxed);
    }

    pub(crate) fn has_rxqs(&self, n: usize) {
        self.n_rxqs.store(n as u64, Ordering::Relaxed);
    }

    /// Cycles spent on bursts of which frames went on.
    pub(crate) fn busy_cycles(&self) -> u64 {
        self.busy_cycles.load(Ordering::Relaxed)
    }

    /// As plain numbers.
    pub fn report(&self) -> CoreCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CoreCounters {
            turns: get(&self.turns),
            busy_cycles: get(&self.busy_cycles),
            held_cycles: get(&self.held_cycles),
            scan_cycles: get(&self.scan_cycles),
            scanned_frames: get(&self.scanned_frames),
            rx_frames: get(&self.rx_frames),
            bursts: get(&self.bursts),
            sleeps: get(&self.sleeps),
            cpu_ns: get(&self.cpu_ns),
            cpu_at: get(&self.cpu_at),
            n_rxqs: get(&self.n_rxqs),
        }
    }
}

/// One port's counters over all cores.
pub fn sum<'a>(cores: impl IntoIterator<Item = &'a CoreStats>, port: PortId) -> Counters {
    let mut counters = Counters::default();
    for core in cores {
        if let Some(stats) = core.ports.get(usize::from(port)) {
            counters.add(stats);
        }
    }
    // Below zero: frames left while the cores were read one after another.
    if counters.held > u64::MAX / 2 {
        counters.held = 0;
    }
    counters
}
