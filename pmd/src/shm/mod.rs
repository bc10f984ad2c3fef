//! Memory that others write while we look at it: guests' memory, mapped from their files.
//!
//! No reference (`&[u8]`) ever points into it. It is reached through a `Piece`, which only
//! [`GuestMemory`] makes, after checking that all of it is mapped; whoever keeps a piece keeps the
//! `Arc<GuestMemory>` it came from beside it.
//!
//! - `piece`: bytes in it; `copy`: the one copy
//! - [`guest`]: a guest's memory; `region`: one region of it; `window`: where a translation led;
//!   `own`: such memory for tests
//! - `presence`: which large pages a core may touch; `pager`: the thread that makes them;
//!   `account`: what one guest may have put back
//! - [`fault`]: what is done where memory is gone; `slot`: the table that the signal handler reads;
//!   `damage`: the marks that it leaves
//! - `space`: how much of this process's address space each guest's memory may take
//! - `umem`: the memory that a device's queue and this process share

mod account;
mod copy;
pub(crate) mod damage;
pub mod fault;
pub mod guest;
#[cfg(any(test, feature = "test-support"))]
pub mod own;
mod pager;
mod piece;
mod presence;
mod region;
mod slot;
mod space;
pub(crate) mod umem;
mod window;

pub use crate::sys::FileId;
pub(crate) use copy::{load_u64, prefetch, store_four_if_different, store_u64};
pub use damage::Damage;
pub use fault::{map_count_for, mappings_of_a_port};
pub use guest::GuestMemory;
pub(crate) use piece::Piece;
pub use region::RegionSpec;
pub use space::bytes_of_a_port;
pub(crate) use window::Window;
// By this name `slot` finds its atomics; the checker of `pmd/tests/loom.rs` puts others in their
// place.
use std::sync::atomic as atomics;
