//! What operators allow and deny.

pub mod policy;
