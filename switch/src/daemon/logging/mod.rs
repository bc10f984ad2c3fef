//! The log of the daemon, on standard error.
//!
//! - `log`: begins and ends it
//! - `queue`: lines on their way to standard error, which may take none
//! - `format`: what a line looks like

mod format;
mod log;
mod queue;

pub(super) use log::Log;
