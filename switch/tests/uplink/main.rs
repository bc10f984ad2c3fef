//! The whole daemon with devices: veths in network namespaces that each test makes and removes
//! itself. As root; elsewhere nothing is run, which is said, and is a failure where `CI=true`.
//!
//! - `space`: namespaces, veths, programs in them
//! - `hosts`: who talks through the switch
//! - `packet`: frames to and from a device, byte by byte
//! - `traffic`: ping, TCP, software guests, VLANs
//! - `changes`: devices in changes of the topology
//! - `life`: devices that go and come back, and how they are given back
//! - `limits`: TCP to a NIC with a limit
//! - `rates`: nothing is lost at a rate that can be kept up; measurements
//! - `tenants`: many VMs with a limit, flooded, and one more
//! - `refusals`: what is not taken, and what is said

#[allow(dead_code, reason = "the daemon's own tests use the rest")]
#[path = "../daemon/rig.rs"]
mod rig;

mod changes;
mod hosts;
mod life;
mod limits;
mod packet;
mod rates;
mod refusals;
mod space;
mod tenants;
mod traffic;
