//! A whole switch in one thread: cores that are stepped by hand on virtual time, and software
//! guests on its ports. No root, no socket, no sleep; everything comes from a seed.
//!
//! - [`Rig`]: the switch, its clock and its guests
//! - [`networks()`], [`behind_uplink`]: who is in a network with whom
//! - [`options`], [`memory_of`], [`port_of`]: a guest, and what its front-end would announce
//! - [`bits`], [`packets`]: limits of VMs
//! - [`frame`], [`id_of`]: frames that say which they are
//! - [`Dice`], [`seeds`]: numbers from a seed
#![deny(unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod cores;
mod devices;
mod dice;
mod frames;
mod limits;
mod networks;
mod ports;
mod switch;

pub use dice::{Dice, seeds};
pub use frames::{ALL, frame, id_of, mac, rewrite, send_raw};
pub use limits::{MS, NO_LIMIT, SECOND, bits, packets};
pub use networks::{behind_uplink, networks};
pub use ports::{
    ANY, ingress, memory_of, options, port_in, port_of, port_with, queue_of, regions_of,
};
pub use switch::{Rig, STEP};
