//! What is known of queues and receivers where frames have to wait.
//!
//! - [`hold`]: for how long a blocked frame may hold up those behind it
//! - `ahead`: what is behind the burst of a blocked queue
//! - `stall`: when a receiver counts as stalled
//! - `next_sender`: fair queueing of senders at a receiver that can't take all
//! - `room`: what a queue waits for that is not looked at before its receiver has room
//! - `share`: a part of the time, for looks at what is behind a burst

pub(crate) mod ahead;
pub mod hold;
pub(crate) mod next_sender;
pub(crate) mod room;
pub(crate) mod share;
pub(crate) mod stall;
