//! The weir daemon and its commands.
#![forbid(unsafe_code)]
fn main() {}
