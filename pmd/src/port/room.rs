//! What becomes of frames at a transmit queue.

/// What became of frames that the kernel was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// All are out, and their memory has come back.
    All,
    /// All are out; the memory of some comes back later.
    Sent,
    /// The kernel has not taken all of them yet.
    Unsent,
}

/// Whether a frame can go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Room is set aside for it.
    Reserved,
    /// Not now.
    Full,
    /// Not now: there are buffers, but too few for this frame.
    Short,
    /// Not in this burst, which has used up what it may look at; perhaps in the next.
    Later,
    /// Never: it is longer than what the receiver offers.
    TooBig,
    /// The queue was stopped.
    Stopped,
}
