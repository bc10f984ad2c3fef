//! Counters of a port. rx and tx are from the switch's side, as everywhere: rx is what the guest
//! sends.

use serde::{Deserialize, Serialize};

/// Frames and bits a second, over the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateReport {
    pub(crate) rx_pps: f64,
    pub(crate) rx_bps: f64,
    pub(crate) tx_pps: f64,
    pub(crate) tx_bps: f64,
}

/// Since the daemon's start. rx_frames + copies = forwarded + dropped + held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CounterReport {
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_frames: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) copies: u64,
    pub(crate) forwarded: u64,
    pub(crate) dropped: u64,
    pub(crate) missed: u64,
    /// Those of `missed` that this port's rules denied.
    pub(crate) refused: u64,
    /// Those of `missed` that were over the VM's limit.
    pub(crate) limited: u64,
    /// Frames from the port that were queued in the switch at the limit of a receiving VM.
    pub(crate) queued: u64,
    /// Those of `queued` that are queued now.
    pub(crate) held: u64,
    /// Turns in which frames stayed in its ring.
    pub(crate) held_turns: u64,
    pub(crate) faults: u64,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DropReport {
    pub(crate) reason: String,
    pub(crate) frames: u64,
    pub(crate) sentence: String,
}
