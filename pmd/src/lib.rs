//! What a polling core does: take a burst, decide, send, give back.
//!
//! In reading order:
//!
//! - [`poll`]: the loop, one turn after another
//! - [`burst`]: frames on their way, up to 32 together
//! - [`send`]: reserve at each destination, copy once, publish once
//! - `flood`: the copies of a flooded frame; [`flood_budget`]: how many a port's floods may make
//! - [`port`]: where frames come and go, one file per kind of port
//! - [`ring`]: descriptors in memory that others write, one file per kind of ring
//! - [`shm`]: that memory, and the one copy
//! - [`offload`]: what a frame's sender wishes to be done to it
//! - [`checksum`]: those that a sender on this machine left for somebody else to finish
//! - [`blocked`]: what becomes of frames that can't go now
//! - [`rate`]: how much may pass in a time, one word for all cores; [`limits`]: a VM's, [`gate`]:
//!   what holds a queue back for them, `policer`: what of a burst may go to a VM, `limit_queue`:
//!   what waits for one that gets no more
//! - `calls`: who signals guests' eventfds
//! - [`stats`]: counters; every frame ends in one
//! - [`fleet`]: control's side of all cores; [`mailbox`]: how values travel between the two;
//!   `spaced`: work of control that holds up cores
//! - [`idle`]: how a core that finds nothing goes to sleep
//! - [`time`]: time as a value
//! - [`error`]: the three kinds of mistakes that never mix
//! - [`sys`]: every system call and the cycle counter, thinly
//!
//! Unsafe code is in `shm`, `ring` and `sys` alone.
#![deny(unsafe_code)]

pub mod blocked;
pub mod burst;
mod calls;
pub mod checksum;
pub mod error;
pub mod fleet;
mod flood;
pub mod flood_budget;
pub mod gate;
pub mod idle;
mod limit_queue;
pub mod limits;
pub mod mailbox;
pub mod offload;
mod page_faults;
mod policer;
pub mod poll;
pub mod port;
pub mod rate;
#[allow(unsafe_code)]
pub mod ring;
pub mod send;
#[allow(unsafe_code)]
pub mod shm;
mod spaced;
pub mod stats;
#[allow(unsafe_code)]
pub mod sys;
pub mod time;

pub use error::{GuestFault, SetupError};
pub use fleet::Fleet;
pub use poll::Core;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is behind a lock, whatever became of who had it: that is whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
