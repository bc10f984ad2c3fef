//! What the switch needs of the topology, derived once.
//!
//! In reading order:
//! - `ids`: which id each port, network and uplink has, from one topology to the next
//! - `ports`: every port with its id and its specification
//! - `limits`: VMs and their limits; `devices`: devices of this host; `rules`: compiled rules
//! - `addresses`: how many addresses ports may have; `room`: whether the MAC table has so many
//! - `networks`: networks and trunks, as the cores use them
//! - `difference`: what is different between two topologies; `effects`: what a change of each key
//!   does

mod addresses;
pub(crate) mod devices;
pub(crate) mod difference;
pub(crate) mod effects;
pub(crate) mod ids;
pub(crate) mod limits;
pub(crate) mod names;
pub(crate) mod networks;
pub(crate) mod ports;
pub(crate) mod room;
pub(crate) mod rules;
