//! Load: a port that sends from lean rings, sinks into lean rings, or both, and counts. One thread
//! drives any number of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::flows::Flows;
use crate::frontend::FrontendError;
use crate::guest::Guest;
use crate::lean::{LeanRx, LeanTx, rx_len};
use crate::numbers::Numbers;
use crate::stack::Mac;
use crate::sys::{self, cycles, cycles_per_second};

/// A turn that takes so long was interrupted by something else on the CPU: its cycles say nothing
/// about this program.
pub const PREEMPTED_CYCLES: u64 = 100_000;

/// What a port does.
#[derive(Clone, Copy, Debug)]
pub struct LoadConfig {
    /// Send.
    pub send: bool,
    /// Receive.
    pub sink: bool,
    /// Frames a second and port, at most; 0 is as many as go.
    pub pps: u64,
    /// Chains to wait for before any are offered again: fewer cache lines move, at the price of
    /// latency.
    pub burst: u16,
    /// Add up the bytes received.
    pub count_bytes: bool,
    /// Read a word of each frame received.
    pub touch: bool,
    /// Check the numbers of frames from this address ([`Vary::Number`]), which is for a single
    /// queue pair.
    ///
    /// [`Vary::Number`]: crate::flows::Vary::Number
    pub numbers_of: Option<Mac>,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            send: true,
            sink: true,
            pps: 0,
            burst: 32,
            count_bytes: false,
            touch: false,
            numbers_of: None,
        }
    }
}

/// Counted from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounters {
    /// Frames that the device took.
    pub n_sent: u64,
    /// Frames received.
    pub n_received: u64,
    /// Bytes received, headers included, if they are counted.
    pub n_bytes: u64,
    /// Cycles spent in turns that did something, but for those over [`PREEMPTED_CYCLES`].
    pub busy_cycles: u64,
    /// Frames of those turns.
    pub n_busy: u64,
    /// Kicks.
    pub n_kicks: u64,
    /// Times that frames were offered.
    pub n_offers: u64,
    /// Those of them at which the device had taken all offered before: it may have waited for
    /// frames.
    pub n_dry: u64,
}

/// A guest under load.
#[derive(Debug)]
pub struct LoadPort {
    guest: Guest,
    config: LoadConfig,
    sending: bool,
    txs: Vec<LeanTx>,
    rxs: Vec<LeanRx>,
    pace: Option<Pace>,
    counters: LoadCounters,
}

/// So many frames a second, no more.
#[derive(Debug)]
struct Pace {
    cycles_a_frame: f64,
    since: u64,
    n_offered: u64,
}

impl LoadPort {
    /// Takes the rings of a guest that hasn't started, and starts it. `flows`: what to send, from
    /// each transmit queue.
    ///
    /// # Errors
    /// If the back-end refuses the rings.
    pub fn new(guest: Guest, flows: &Flows, config: LoadConfig) -> Result<Self, FrontendError> {
        let mut port = Self::set_up(guest, flows, config)?;
        port.guest.enable()?;
        Ok(port)
    }

    /// As [`new`](Self::new), without enabling the rings. A back-end may be busy with itself once a
    /// port is up, so several ports are best set up before the first is enabled.
    ///
    /// # Errors
    /// If the back-end refuses the rings.
    pub fn set_up(
        mut guest: Guest,
        flows: &Flows,
        config: LoadConfig,
    ) -> Result<Self, FrontendError> {
        let options = guest.driver.options().clone();
        let (mut txs, mut rxs) = (Vec::new(), Vec::new());
        for pair in 0..usize::from(options.n_queue_pairs) {
            if config.sink {
                let queue = guest.driver.take_over(2 * pair);
                let len = rx_len(&queue, &options.rx_shape);
                let mut rx = LeanRx::new(queue, len, config.count_bytes, config.touch);
                if let Some(source) = config.numbers_of {
                    rx.check_numbers(Numbers::of(source), options.header_bytes());
                }
                rxs.push(rx);
            }
            if config.send {
                let queue = guest.driver.take_over(2 * pair + 1);
                txs.push(LeanTx::new(queue, options.header_bytes(), flows.clone()));
            }
        }
        guest.set_up()?;
        let pace = (config.pps > 0).then(|| Pace::new(config.pps));
        Ok(Self {
            guest,
            config,
            sending: config.send,
            txs,
            rxs,
            pace,
            counters: LoadCounters::default(),
        })
    }

    /// One look at all rings. `now`: the cycle counter; returns what it is afterwards.
    pub fn turn(&mut self, now: u64) -> u64 {
        let mut n = 0;
        for (pair, rx) in self.rxs.iter_mut().enumerate() {
            n += u64::from(rx.poll());
            let room = rx.room();
            if room >= burst_of(self.config.burst, rx.size()) {
                rx.offer(room);
                if rx.kick_due() {
                    self.guest.session().kick(2 * pair);
                    self.counters.n_kicks += 1;
                }
            }
        }
        self.counters.n_received += n;
        n += self.send(now);
        let end = cycles();
        if n > 0 && end - now < PREEMPTED_CYCLES {
            self.counters.busy_cycles += end - now;
            self.counters.n_busy += n;
        }
        end
    }

    /// Starts or stops to send, if the port is one that sends. What is in the ring by then still
    /// goes.
    pub fn set_sending(&mut self, sending: bool) {
        self.sending = sending && self.config.send;
    }

    /// What went through.
    pub fn counters(&self) -> LoadCounters {
        LoadCounters {
            n_bytes: self.rxs.iter().map(|rx| rx.n_bytes).sum(),
            ..self.counters
        }
    }

    /// What numbered frames have come, if that is checked.
    pub fn numbers(&self) -> Option<Numbers> {
        self.rxs.first().and_then(LeanRx::numbers)
    }

    /// Connects again if the back-end is gone; whether it was. A system call: not in every turn.
    ///
    /// # Errors
    /// If no back-end comes within `timeout`.
    pub fn mend(&mut self, timeout: Duration) -> Result<bool, FrontendError> {
        let gone = self.guest.is_gone();
        if gone {
            self.guest.reconnect(timeout)?;
        }
        Ok(gone)
    }

    /// What the port does.
    pub fn config(&self) -> LoadConfig {
        self.config
    }

    /// The guest, for its connection.
    pub fn guest(&mut self) -> &mut Guest {
        &mut self.guest
    }

    fn send(&mut self, now: u64) -> u64 {
        let mut n_done = 0;
        for (pair, tx) in self.txs.iter_mut().enumerate() {
            let done = tx.poll();
            n_done += u64::from(done);
            let room = tx.room();
            let offer = match &mut self.pace {
                _ if !self.sending => 0,
                Some(pace) => pace.take(now, room),
                None if room >= burst_of(self.config.burst, tx.size()) => room,
                None => 0,
            };
            if offer == 0 {
                continue;
            }
            self.counters.n_offers += 1;
            self.counters.n_dry += u64::from(room == tx.size());
            tx.offer(offer);
            if tx.kick_due() {
                self.guest.session().kick(2 * pair + 1);
                self.counters.n_kicks += 1;
            }
        }
        self.counters.n_sent += n_done;
        n_done
    }
}

/// A burst is at most half a ring, so that the device always has something.
fn burst_of(burst: u16, ring: u16) -> u16 {
    burst.min(ring / 2).max(1)
}

impl Pace {
    fn new(pps: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
        let cycles_a_frame = cycles_per_second() as f64 / pps as f64;
        Self {
            cycles_a_frame,
            since: cycles(),
            n_offered: 0,
        }
    }

    /// How many of `room` frames may go now. What couldn't go for want of room isn't made up for.
    fn take(&mut self, now: u64, room: u16) -> u16 {
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "frames so far fit, and are positive"
        )]
        let due = (now.saturating_sub(self.since) as f64 / self.cycles_a_frame) as u64;
        let owed = due.saturating_sub(self.n_offered);
        let n = u16::try_from(owed.min(u64::from(room))).expect("at most room");
        self.n_offered += u64::from(n);
        if owed > u64::from(room) {
            self.n_offered = due;
        }
        n
    }
}

/// Drives ports until `until` (cycles) or a signal, calling `tick` with all of them about every
/// `every` cycles, and between two turns whenever `asked` is set (which `tick` clears).
///
/// # Errors
/// What `tick` says.
pub fn drive<E>(
    ports: &mut [LoadPort],
    until: u64,
    every: u64,
    asked: &AtomicBool,
    mut tick: impl FnMut(&mut [LoadPort]) -> Result<(), E>,
) -> Result<(), E> {
    let mut now = cycles();
    let mut next = now + every;
    while now < until && !sys::stopped() {
        let before = now;
        for port in ports.iter_mut() {
            now = port.turn(now);
        }
        if now >= next || asked.load(Ordering::Relaxed) {
            tick(ports)?;
            now = cycles();
            next = now + every;
        }
        if now - before < 200 {
            std::hint::spin_loop();
        }
    }
    Ok(())
}
