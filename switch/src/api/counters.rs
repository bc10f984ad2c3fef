//! Counters of a port, or sums of several. rx and tx are from the switch's side, as everywhere: rx
//! is what the guest sends.

use flowtable::DropReason;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// Over the last second. rx: what the port sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Rates)]
pub(crate) struct RateReport {
    pub(crate) rx_frames_per_second: f64,
    pub(crate) rx_bits_per_second: f64,
    pub(crate) tx_frames_per_second: f64,
    pub(crate) tx_bits_per_second: f64,
}

/// Since the daemon's start. rx_frames + copied_frames = forwarded_frames + dropped_frames +
/// held_frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Counters)]
pub(crate) struct CounterReport {
    /// What the port sent.
    pub(crate) rx_frames: u64,
    /// Without FCS.
    pub(crate) rx_bytes: u64,
    /// What the port was given.
    pub(crate) tx_frames: u64,
    /// Without FCS.
    pub(crate) tx_bytes: u64,
    /// Copies beyond the first that floods of its frames made.
    pub(crate) copied_frames: u64,
    /// Frames from it that reached a destination, each copy counted.
    pub(crate) forwarded_frames: u64,
    /// Frames from it that were dropped, for all reasons.
    pub(crate) dropped_frames: u64,
    /// Frames dropped before delivery to it; they are among their sender's drops.
    pub(crate) missed_frames: u64,
    /// Those of `missed_frames` that its own rules denied.
    pub(crate) missed_denied_frames: u64,
    /// Those of `missed_frames` that were over its VM's limit.
    pub(crate) missed_limit_frames: u64,
    /// Frames from it that were queued in the switch at the limit of a receiving VM.
    pub(crate) queued_frames: u64,
    /// Those of `queued_frames` that are queued now.
    pub(crate) held_frames: u64,
    /// Turns in which frames stayed in its ring.
    pub(crate) held_turns: u64,
    /// Times that its guest broke VIRTIO's rules.
    pub(crate) faults: u64,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Drops)]
pub(crate) struct DropReport {
    #[schema(schema_with = reasons)]
    pub(crate) reason: String,
    pub(crate) frames: u64,
    /// The reason for a person.
    pub(crate) sentence: String,
}

fn reasons() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(DropReason::ALL.iter().map(|reason| reason.text())))
        .build()
}
