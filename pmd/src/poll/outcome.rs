//! What a turn came to.

use crate::time::Nanos;

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Frames dealt with.
    pub n_frames: usize,
    /// Queues whose frames had to wait.
    pub n_held: usize,
    /// Transmit queues with frames that the kernel has not taken yet, and was asked to.
    pub n_unsent: usize,
    /// Of the frames, those of queues that their VM's limit holds back now and again.
    pub n_throttled: usize,
    /// One of these queues may go on at once.
    pub is_pending: bool,
    /// When the first queue may go on that its VM's limit holds back now; none: there is none.
    pub opens_at: Option<Nanos>,
}

/// The earlier of two moments, of which one may be none.
pub(crate) fn earliest(before: Option<Nanos>, at: Nanos) -> Option<Nanos> {
    Some(before.map_or(at, |before| before.min(at)))
}

impl Turn {
    pub(crate) fn opens(&mut self, at: Nanos) {
        self.opens_at = earliest(self.opens_at, at);
    }
}
