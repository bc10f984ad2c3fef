//! Reports as text for a terminal: a file for each `show`.

pub(crate) mod cores;
pub(crate) mod flows;
pub(crate) mod limits;
pub(crate) mod macs;
pub(crate) mod networks;
pub(crate) mod port;
pub(crate) mod queues;
mod state;
pub(crate) mod uplinks;
pub(crate) mod vms;
