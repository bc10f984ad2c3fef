//! A device's state, without a socket and without cores.

mod any_order;
mod fake;
mod memory;
mod queues;
mod refusals;

use super::*;
