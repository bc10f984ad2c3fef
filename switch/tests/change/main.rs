//! Changes of the topology while the daemon runs, made as hard for it as they can be: under a
//! flood, with each of their steps made to fail, and killed in the midst of them.
//!
//! - `rig`: a daemon in a folder of its own
//! - `world`: a daemon whose VMs are in a file each, and how it is told to change
//! - `request`: the API, as any client would speak it
//! - `state`: all that a change that failed must leave as it was
//! - `strace`: system calls that fail, or kill
//! - `steps`: each step of a change, made to fail

#[allow(dead_code, reason = "the daemon's own tests use the rest")]
#[path = "../daemon/rig.rs"]
mod rig;

mod request;
mod state;
mod steps;
mod strace;
mod world;
