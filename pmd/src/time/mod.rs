//! Time as a value: nanoseconds since the switch started, made from the cycle counter, read once a
//! turn.
//!
//! - `clock`: the switch's clock, and how cores read it
//! - `reading`: counter and kernel's clock at one moment, as exactly as they can be had
//! - `discipline`: what a reading says of the clock, and what is done about it

mod clock;
mod discipline;
mod reading;

pub use clock::{Clock, ClockReader};
pub use discipline::Checked;

/// Nanoseconds of the switch's clock.
pub type Nanos = u64;

/// Nanoseconds in a second.
pub const SECOND: Nanos = 1_000_000_000;

/// Whole seconds, for what is only looked at that often.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "136 years of seconds fit")]
pub fn seconds(now: Nanos) -> u32 {
    (now / SECOND) as u32
}
