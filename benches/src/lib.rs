//! What is measured, each thing once, as a [`Case`]: `all` measures every case by criterion, one
//! after another; `compare` has some of them take turns, for what differs between them; `cost` has
//! callgrind count instructions.
//!
//! Switch and guests are in one thread, so that no cache line travels and what is measured is the
//! switch's own work.
#![forbid(unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

pub mod cases;
pub mod cycles;
pub mod flood;
pub mod pair;
pub mod uplink;

pub use cases::Case;
pub use pair::Pair;

use std::net::Ipv4Addr;
use std::ops::AddAssign;

use guest::flows::Flows;
use guest::lean::{LeanRx, LeanTx, rx_len};
use guest::stack::Mac;
use pmd::sys::cycles;
use rig::{Rig, mac};

/// Frames offered at a time.
pub const BURST: u16 = 32;

/// Frames that were dealt with, and TSC cycles that this took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Frames.
    pub n_frames: u64,
    /// Cycles of all of them.
    pub n_cycles: u64,
}

impl Spent {
    /// Cycles of one frame.
    pub fn per_frame(&self) -> f64 {
        self.n_cycles as f64 / self.n_frames as f64
    }
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.n_frames += other.n_frames;
        self.n_cycles += other.n_cycles;
    }
}

/// Cycles that something takes which deals with so many frames.
fn timed(n_frames: u64, act: impl FnOnce()) -> Spent {
    let before = cycles();
    act();
    Spent {
        n_frames,
        n_cycles: cycles().wrapping_sub(before),
    }
}

/// A turn of the rig's one core: frames that it received, and the cycles that it counted as busy
/// itself.
fn step(rig: &mut Rig) -> Spent {
    // What guests write comes from another CPU's cache, not from this one's store buffer, which is
    // slow where loads and stores are of different sizes.
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    let before = rig.cores.core_counters()[0];
    rig.step();
    let after = rig.cores.core_counters()[0];
    Spent {
        n_frames: after.rx_frames - before.rx_frames,
        n_cycles: after.busy_cycles - before.busy_cycles,
    }
}

/// The station with this number.
fn host(n: u16) -> (Mac, Ipv4Addr) {
    (Mac(mac(n)), Ipv4Addr::new(10, 0, 0, n as u8))
}

/// A guest's transmit ring, full of these flows' frames. Its port must be down.
fn lean_tx(rig: &mut Rig, port: u16, flows: Flows) -> LeanTx {
    LeanTx::new(rig.guests[usize::from(port)].take_over(1), 12, flows)
}

/// A guest's receive ring, all buffers offered. Its port must be down.
fn lean_rx(rig: &mut Rig, port: u16) -> LeanRx {
    let guest = &mut rig.guests[usize::from(port)];
    let shape = guest.options().rx_shape.clone();
    let queue = guest.take_over(0);
    let len = rx_len(&queue, &shape);
    LeanRx::new(queue, len, false, false)
}
