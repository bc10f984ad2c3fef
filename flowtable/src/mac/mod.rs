//! MAC addresses: which port each is behind, and which port owns it.

pub mod budget;
pub mod dispute;
pub mod entry;
mod learn;
mod owned;
pub mod owner;
mod removal;
pub mod reserve;
pub mod table;
