//! Memory that others write while we look at it: guests' memory, mapped from their files.
//!
//! No reference (`&[u8]`) ever points into it. It is reached through a `Piece`, which only
//! [`GuestMemory`] makes, after checking that all of it is mapped; whoever keeps a piece keeps the
//! `Arc<GuestMemory>` it came from beside it.
//!
//! - `piece`: bytes in it, and the one copy
//! - [`guest`]: a guest's memory; `presence`: which of its large pages a core may touch; `pager`:
//!   the thread that makes them
//! - [`fault`]: what is done where memory is gone; `slot`: the table that the signal handler reads;
//!   `damage`: the marks that it leaves
//! - `umem`: the memory that a device's queue and this process share

pub(crate) mod damage;
pub mod fault;
pub mod guest;
mod pager;
mod piece;
mod presence;
mod slot;
pub(crate) mod umem;

pub use crate::sys::FileId;
pub use damage::Damage;
pub use fault::mappings_of_a_port;
pub use guest::{GuestMemory, RegionSpec};
pub(crate) use piece::{
    Piece, load_u16, load_u32, load_u64, prefetch, store_four_if_different, store_u32, store_u64,
};
// By this name `slot` finds its atomics; the checker of `pmd/tests/loom.rs` puts others in their
// place.
use std::sync::atomic as atomics;
