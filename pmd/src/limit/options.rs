//! The options of a limit, and its state.

use crate::time::Nanos;

/// The options of a limit: each part may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOptions {
    /// Bits a second.
    pub bits_per_sec: Option<u64>,
    /// Packets a second.
    pub packets_per_sec: Option<u64>,
    /// Bytes that may pass at once; none: 64 KiB, or four milliseconds' worth. Of no meaning
    /// without `bits_per_sec`.
    pub burst_bytes: Option<u64>,
    /// Whether, and for how long, what is over a limit on what a VM gets may wait; none: it is
    /// dropped. Of no meaning to a limit on what it sends, which waits in its rings.
    pub queue: Option<QueueOptions>,
}

/// How much of what is over a limit may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// What passes in this time.
    pub time: Nanos,
    /// And no more bytes than this, but for a few frames.
    pub bytes_max: u64,
}

/// The state of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitReport {
    /// Bits a second; none: no such limit.
    pub bits_per_sec: Option<u64>,
    /// Packets a second; none: no such limit.
    pub packets_per_sec: Option<u64>,
    /// Bytes that may pass at once.
    pub burst_bytes: Option<u64>,
    /// Packets that may pass at once.
    pub burst_packets: Option<u64>,
    /// Bytes that may pass now; below zero: a debt.
    pub left_bytes: Option<i64>,
    /// Packets that may pass now.
    pub left_packets: Option<i64>,
    /// What waits; none: what is over the limit is dropped, or stays in the VM's rings.
    pub queue: Option<QueueReport>,
}

/// What waits at a limit, in memory of the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueReport {
    /// Bytes of frames that wait now.
    pub n_bytes: u64,
    /// Bytes that may.
    pub bytes_max: u64,
    /// The time in which what waits now passes.
    pub delay: Nanos,
    /// The time in which a ring of another VM passes that is full of frames for this one, which
    /// wait there: 256 of 1,514 bytes.
    pub ring_delay: Nanos,
}
