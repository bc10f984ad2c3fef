//! Devices, addresses and routes, from the kernel.

pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod socket;
