//! Requests of operators on the control socket, and the answers.
//!
//! In reading order:
//! - `server`: the threads that answer
//! - `ports`: ports; `vms`: VMs and their limits; `cores`: the cores' work; `flows`: the flow table

pub(crate) mod cores;
pub(crate) mod flows;
pub(crate) mod ports;
pub(crate) mod server;
pub(crate) mod vms;
