//! Ports that are devices of this host, whose frames come by AF_XDP. The device stays under its
//! kernel driver and is restored afterwards. One control thread per device.
//!
//! In reading order:
//! - `probe`: checks a device against the topology, without changing anything
//! - `in_use`: whether the host itself uses it
//! - `worker`: a device's control thread: attaches it, watches it, attaches it again
//! - `setup`: promiscuity, offloads and queues; `offloads`: which, `channels`: how many; `restore`:
//!   its state before, saved and restored; `note`: the file that it is saved in
//! - `attached`: a device from its set-up until it is restored
//! - `attach`: sockets and program, in the best mode available
//! - `ledger`: whether the cores return all frames
//! - `port`: a device's state, shared by control threads; `health`: how it is reported, and what
//!   was lost
//! - `capabilities`: the capabilities that devices require
//! - `netlink`: devices, addresses and routes, from the kernel

mod attach;
pub(crate) mod attached;
pub(crate) mod capabilities;
pub(crate) mod channels;
pub(crate) mod health;
pub(crate) mod in_use;
pub(crate) mod ledger;
pub(crate) mod netlink;
mod note;
mod offloads;
pub(crate) mod port;
pub(crate) mod probe;
pub(crate) mod restore;
pub(crate) mod setup;
pub(crate) mod worker;
