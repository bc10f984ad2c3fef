//! What the kernel says of devices, addresses and routes.

pub(crate) mod link;
pub(crate) mod message;
pub(crate) mod socket;
