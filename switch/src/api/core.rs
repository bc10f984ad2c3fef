//! Polling cores: `/v1/cores`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A polling core. What is counted is what was done on its CPU since the daemon's start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Core)]
pub(crate) struct CoreReport {
    pub(crate) cpu: usize,
    pub(crate) rx_queues: u64,
    pub(crate) turns: u64,
    /// TSC cycles spent in turns that had frames.
    pub(crate) busy_cycles: u64,
    /// TSC cycles spent on frames none of which could go.
    pub(crate) held_cycles: u64,
    pub(crate) rx_frames: u64,
    pub(crate) bursts: u64,
    pub(crate) sleeps: u64,
    /// Time for which its thread had the CPU.
    pub(crate) cpu_nanoseconds: u64,
    /// Over the last second.
    pub(crate) load: Load,
    /// The CPU is not polled on any more. Absent: it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_gone: bool,
}

/// Which cores are listed beside those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = AlsoCores)]
pub(crate) enum Also {
    /// CPUs that are not polled on any more, with what was done there.
    Gone,
}

/// A core's load over the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = CoreLoad)]
pub(crate) struct Load {
    /// Part of the time for which its thread had the CPU, 0 to 1.
    pub(crate) cpu_ratio: f64,
    /// Part of the time spent on bursts that had frames, 0 to 1.
    pub(crate) busy_ratio: f64,
    pub(crate) frames_per_second: f64,
    pub(crate) nanoseconds_per_frame: f64,
}
