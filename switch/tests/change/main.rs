//! Changes of the topology while the daemon runs, made as hard for it as they can be: under a
//! flood, with each of their steps made to fail, and killed in the midst of them.
//!
//! - `rig`, `space`: a daemon in a folder of its own, and network namespaces
//! - `world`: a daemon whose VMs are in a file each, and how it is told to change
//! - `request`: the API, as any client would speak it
//! - `flood`: two guests that forward numbered frames at full rate, and one that waits for a limit
//! - `under_flood`: VMs that come and go beside that, and how soon it can be seen
//! - `reuse`: what is sent to a VM that has gone, and who has its id then
//! - `state`: all that a change that failed must leave as it was
//! - `strace`: system calls that fail, or kill
//! - `typical`: a change with some of all in it
//! - `faults`: a change with a system call that fails
//! - `steps`, `writes`, `devices`: all such changes that files ask for, or requests; of devices
//! - `kills`: a daemon that is killed in the midst of a change, and started again

#[allow(dead_code, reason = "the daemon's own tests use the rest")]
#[path = "../daemon/rig.rs"]
mod rig;
#[allow(dead_code, reason = "the tests of uplinks use the rest")]
#[path = "../uplink/space.rs"]
mod space;

mod devices;
mod faults;
mod flood;
mod kills;
mod request;
mod reuse;
mod state;
mod steps;
mod strace;
mod typical;
mod under_flood;
mod world;
mod writes;
