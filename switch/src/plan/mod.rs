//! What the topology comes to for the switch: ports and their numbers, networks, rules.

pub(crate) mod ports;
pub(crate) mod rules;
