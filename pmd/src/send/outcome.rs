//! What becomes of frames, and of a burst of them.

use flowtable::{DropReason, PortId};

use crate::time::Nanos;

/// Whether a frame got a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Reserved,
    Blocked(Block),
    Lost(DropReason),
}

/// Why a frame can't go now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// The receiver has no buffers.
    Full,
    /// It has some, but too few for this frame.
    Short,
    /// Another core is sending there.
    Locked,
    /// The burst has used up what it may look at.
    Later,
    /// The receiver's VM has got all that its limit allows, or others are before this frame there.
    Limit,
}

/// How a blocked frame waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For its receiver.
    Held,
    /// For no receiver: it goes with the next burst.
    Next,
}

/// What becomes of a frame that its receiver's limit blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// It stays where it is, and all behind it.
    Held,
    /// It was copied to those that wait for this VM.
    Queued,
    /// It is dropped.
    Lost,
}

/// How far a flood came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flooded {
    /// All copies are on their way, or dropped.
    Done,
    /// The next turn goes on with it.
    Next,
    /// The same, and it has to wait for a lock.
    Waits,
    /// It has to wait until then for the port's budget, and was not begun.
    WaitsUntil(Nanos),
}

/// What became of a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Frames dealt with, from the first one on; the rest stays where it is.
    pub(crate) n: usize,
    /// The port at whose limit the rest waits.
    pub(crate) at_limit: Option<PortId>,
    /// Until when the rest waits for the budget of its port's floods.
    pub(crate) flood_waits_until: Option<Nanos>,
}
