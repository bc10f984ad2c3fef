//! Requests of operators on the control socket, and the answers.
//!
//! In reading order:
//! - `server`: the threads that answer
//! - `ports`, `macs`, `vms`, `cores`, `flows`, `uplinks`: what there is to answer, made from what
//!   control and the cores know
//! - `sources`: where they take it from
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
