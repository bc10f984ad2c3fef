//! What the topology comes to for the switch, worked out once.
//!
//! In reading order:
//! - `ports`: every port with its number and all that is said of it
//! - `limits`: VMs and their limits; `devices`: what is asked of devices; `rules`: what cores
//!   decide by
//! - `addresses`: how many addresses ports may have
//! - `networks`: networks and trunks, as the cores know them

pub(crate) mod addresses;
pub(crate) mod devices;
pub(crate) mod limits;
pub(crate) mod networks;
pub(crate) mod ports;
pub(crate) mod rules;
