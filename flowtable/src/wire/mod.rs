//! Formats of frames: the one home of protocol numbers and of reading headers.

pub mod header;
pub mod tuple;
