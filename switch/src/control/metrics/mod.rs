//! Where metrics are read: `/metrics` in Prometheus' text format, and whatever other pages for
//! reading are given to `routes::router`, by TCP.
//!
//! In reading order:
//! - `routes`: what is answered; `host`: whom
//! - `metric`: a metric of each of many things, and how it is written
//! - `daemon`, `ports`, `devices`, `vms`, `cores`: all metrics, in tables
//! - `collect`: reads the counters, when somebody asks

mod collect;
mod cores;
mod daemon;
mod devices;
mod host;
mod metric;
mod ports;
pub(crate) mod routes;
mod vms;

#[cfg(test)]
pub(crate) use collect::descriptions;
