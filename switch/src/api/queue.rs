//! Receive queues: `/v1/queues`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::port::PortKind;

/// A receive queue of a port that is up, and the core that polls it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = RxQueue)]
pub(crate) struct RxQueueReport {
    /// `VM/NIC`, or the uplink's name.
    pub(crate) port: String,
    pub(crate) kind: PortKind,
    /// Of the virtqueue, or of the device's queue; a tap has one, 1.
    pub(crate) index: u16,
    /// The CPU that polls it. Absent: a core that is about to come or to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) cpu: Option<usize>,
    /// It is on its way to that CPU. Absent: it is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_moving: bool,
    /// TSC cycles spent on its frames since its port came up, on whatever CPUs.
    pub(crate) busy_cycles: u64,
    /// Those frames.
    pub(crate) rx_frames: u64,
    /// Over the last second.
    pub(crate) load: Load,
}

/// What a receive queue took of its core over the last second; zeros until it has been there for so
/// long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = RxQueueLoad)]
pub(crate) struct Load {
    /// Part of the core's time spent on its frames, 0 to 1.
    pub(crate) busy_ratio: f64,
    pub(crate) frames_per_second: f64,
    pub(crate) nanoseconds_per_frame: f64,
}
