//! Requests of operators on the control socket, and the answers.
//!
//! In reading order:
//! - `server`: the threads that answer
//! - `ports`: ports; `limits`: VMs and their limits; `loads`: the cores' work; `flows`: the flow table

pub(crate) mod flows;
pub(crate) mod limits;
pub(crate) mod loads;
pub(crate) mod ports;
pub(crate) mod server;
