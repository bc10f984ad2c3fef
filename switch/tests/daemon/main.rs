//! The whole daemon as a child process, with software guests on its sockets.
//!
//! - `rig`: a daemon in a folder of its own, and what is asked of it
//! - `traffic`: frames from guest to guest, and guests that come and go
//! - `orders`: what QEMU, DPDK, cloud-hypervisor and crosvm say, in their orders
//! - `storms`: front-ends that come and go, again and again
//! - `front_ends`: front-ends that misbehave, or are too many
//! - `rules`: rules of the file, in force and on show
//! - `limits`: VMs that may not send or get as much as they like
//! - `addresses`: floods of sources, and whose an address is after a crash
//! - `files`: files that take whoever touches them long
//! - `disabled`: NICs that the file keeps, but that no guest may use
//! - `reload`: another topology, while guests send
//! - `metrics`: metrics by TCP, Prometheus itself, and where operators reach the daemon
//! - `cores`: other CPUs to poll on, while guests send
//! - `life`: starting, refusing to start, ending
//! - `service`: under a service manager
//! - `logs`: the log, and a standard error that takes nothing

mod addresses;
mod cores;
mod disabled;
mod files;
mod front_ends;
mod life;
mod limits;
mod logs;
mod metrics;
mod orders;
mod page;
mod reload;
mod rig;
mod rules;
mod service;
mod storms;
mod traffic;
mod writes;
