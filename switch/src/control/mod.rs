//! Answers to operators' requests on the control socket.
//!
//! In reading order:
//! - `server`: the threads that answer
//! - `ports`, `macs`, `vms`, `cores`, `flows`, `uplinks`: the reports, built from the state of
//!   control and cores
//! - `sources`: the state that they are built from
//! - `rates`, `limits`, `loads`: what the supervisor samples once a second: ports, VMs, cores

mod cores;
mod flows;
pub(crate) mod limits;
pub(crate) mod loads;
mod macs;
mod ports;
pub(crate) mod rates;
pub(crate) mod server;
pub(crate) mod sources;
mod uplinks;
mod vms;
