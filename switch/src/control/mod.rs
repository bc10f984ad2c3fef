//! Answers to operators' requests on the control socket, and where metrics are read.
//!
//! In reading order:
//! - `server`: a thread that serves; `door`: where clients come in; `connection`: one client;
//!   `admit`: what every request passes
//! - `routes`: a handler for each path; `query`: parameters and pages; `answer`: JSON, and
//!   problems; `openapi`: the description of all that
//! - `writes`: a handler for each change; `changes`: what is asked for, and why it is refused
//! - `version`, `ports`, `networks`, `macs`, `vms`, `cores`, `queues`, `flows`: the reports, built
//!   from the state of control and cores
//! - `metrics`: the same for Prometheus, by TCP
//! - `sources`: the state that they are built from; `polled`: CPUs and their cores
//! - `rates`, `limits`, `loads`, `queue_loads`: what the supervisor samples once a second: ports,
//!   VMs, cores, their queues
//! - `fixture`: a switch that nobody polls, for tests; `asking`: requests to it

mod admit;
pub(crate) mod answer;
#[cfg(test)]
mod asking;
pub(crate) mod changes;
pub(crate) mod connection;
pub(crate) mod cores;
pub(crate) mod door;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fixture;
mod flows;
pub(crate) mod limits;
pub(crate) mod loads;
mod macs;
pub(crate) mod metrics;
mod networks;
mod openapi;
pub(crate) mod polled;
pub(crate) mod ports;
mod query;
pub(crate) mod queue_loads;
mod queues;
pub(crate) mod rates;
mod routes;
pub(crate) mod server;
pub(crate) mod sources;
pub(crate) mod version;
pub(crate) mod vms;
mod writes;
