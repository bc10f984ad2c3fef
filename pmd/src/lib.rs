//! What a polling core does: take a burst, decide, send, give back.
//!
//! In reading order:
//!
//! - [`poll`]: the loop, one turn after another; how a core that finds nothing goes to sleep; how
//!   values travel between a core and control
//! - [`burst`]: frames on their way, up to 32 together
//! - [`send`]: reserve at each destination, copy once, publish once; what becomes of frames that
//!   can't go now; the copies of a flooded frame
//! - [`blocked`]: what is known of queues and receivers where frames have to wait
//! - [`port`]: where frames come and go, one file per kind of port
//! - [`limit`]: how much may pass in a time, a VM's limits, and what is held at them
//! - [`ring`]: descriptors in memory that others write, one file per kind of ring
//! - [`shm`]: that memory, and the one copy
//! - [`virtio_net`]: the virtio-net header
//! - `calls`: signals to guests' eventfds
//! - `page_faults`: what pages that guests' memory lacks cost a core
//! - [`stats`]: counters; every frame ends in one
//! - [`control`]: control's side of all cores
//! - [`time`]: time as a value
//! - [`error`]: the three kinds of mistakes that never mix
//! - [`sys`]: every system call and the cycle counter, thinly
//! - `amount`: frames and bytes; `lock`: one function
//!
//! Unsafe code is in `shm`, `ring` and `sys` alone.
#![deny(unsafe_code)]

mod amount;
pub mod blocked;
pub mod burst;
mod calls;
pub mod control;
pub mod error;
pub mod limit;
mod lock;
mod page_faults;
pub mod poll;
pub mod port;
#[allow(unsafe_code)]
pub mod ring;
pub mod send;
#[allow(unsafe_code)]
pub mod shm;
pub mod stats;
#[allow(unsafe_code)]
pub mod sys;
pub mod time;
pub mod virtio_net;

pub use control::Cores;
pub use error::{GuestFault, SetupError};
pub use limit::{flood_budget, rate};
pub use poll::Core;
pub use poll::idle;
