//! What waits for a VM at the limit on what it gets, instead of being dropped.
//!
//! Frames that may stay where they are (in a guest's ring, in a tap) do (`ring`). The others are
//! copied into memory of the VM's own (`limit::chunks`) and wait in a `fifo`, one for each receive
//! queue and NIC of the VM, on the core that received them, so that a flow stays in order; their
//! descriptor or frame of UMEM is free at once. Each turn the core sends what the limit allows
//! (`poll::release`). Queues and rings take turns (`pace`); a queue that fills says so (`ecn`), one
//! that is full drops what comes, as [`flowtable::DropReason::Limit`].
//!
//! Bounded: in bytes and frames by what passes in the limit's `queue` time, at least six full
//! frames, each queue by its part of that; in time, so that what waited for long is dropped
//! (`VmQueue::age_max`); in memory by the VM's chunks, of which local senders' frames can't take
//! those that a wire's need.
//!
//! - `queues`: all of one core
//! - `held`: one of them; `moved`: those of a receive queue that goes to another core
//! - `fifo`: its frames, in chunks; `ecn`: the mark on those that wait behind many
//! - `pace`: fair queueing at a limit
//! - `ring`: a ring whose frames wait where they are

mod ecn;
mod fifo;
mod held;
mod moved;
mod pace;
mod queues;
mod ring;

pub(crate) use held::{Flow, Held};
pub(crate) use queues::{LimitQueues, QUEUES_MAX};
pub(crate) use ring::RingTurn;
