//! Rules of NICs: what operators allow and deny.

pub mod policy;
pub mod rule;
