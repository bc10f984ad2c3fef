//! What waits for a VM at the limit on what it gets, instead of being dropped.
//!
//! Frames that may stay where they are (in a guest's ring, in a tap) do ([`ring`]). The others are
//! copied into memory of the VM's own ([`chunks`]) and stand in a [`fifo`], one for each receive
//! queue and NIC of the VM, on the core that received them, so that a flow stays in order; their
//! descriptor or frame of UMEM is free at once. Each turn the core sends what the limit allows
//! ([`release`]). Queues and rings take turns ([`pace`]); a queue that fills says so ([`ecn`]), one
//! that is full drops what comes, as [`flowtable::DropReason::Limit`].
//!
//! Bounded: in bytes and frames by what passes in the limit's `queue` time, at least [`FRAMES_MIN`]
//! full frames, each queue by its part of that; in time, so that what waited for long is dropped
//! ([`VmQueue::age_max`]); in memory by the VM's chunks, of which local senders' frames can't take
//! those that a wire's need.

pub(crate) mod chunks;
mod ecn;
mod fifo;
mod free_list;
pub(crate) mod pace;
mod queues;
mod release;
pub(crate) mod ring;

pub(crate) use queues::{Flow, LimitQueues, VmQueue};
// By this name `free_list` finds its atomics; the checker of `pmd/tests/loom.rs` puts others in
// their place.
use std::sync::atomic as atomics;
