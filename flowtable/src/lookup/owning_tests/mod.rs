//! Which port has an address: bounds of a port's own, limits of the table, guests and the wire.

mod bounds;
mod claims;
mod removed;
mod rest;
mod setup;
mod trial;

use super::*;
