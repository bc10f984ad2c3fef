//! Polling cores: `/v1/cores`.

use serde::{Deserialize, Serialize};

/// A polling core.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreReport {
    pub(crate) cpu: usize,
    pub(crate) rx_queues: u64,
    pub(crate) turns: u64,
    /// TSC cycles spent in turns that had packets.
    pub(crate) busy_cycles: u64,
    /// TSC cycles spent on packets none of which could go.
    pub(crate) held_cycles: u64,
    pub(crate) rx_frames: u64,
    pub(crate) bursts: u64,
    pub(crate) sleeps: u64,
    pub(crate) cpu_ns: u64,
    /// Over the last second.
    pub(crate) load: Load,
}

/// One core's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Part of the time for which its thread had the CPU, 0 to 1.
    pub(crate) cpu: f64,
    /// Part of the time spent on bursts that had frames, 0 to 1.
    pub(crate) busy: f64,
    /// Frames a second.
    pub(crate) pps: f64,
    /// Nanoseconds a frame.
    pub(crate) ns_per_frame: f64,
}
