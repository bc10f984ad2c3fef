//! Which port has an address, and whose it is.

pub mod budget;
pub mod dispute;
pub mod entry;
mod learn;
mod owned;
pub mod owner;
pub mod reserve;
pub mod table;
