//! Ports that are devices of this host, whose frames come by AF_XDP. The device stays under its
//! kernel driver and is given back as it was. One control thread a device.
//!
//! In reading order:
//! - `probe`: whether a device can be what the topology asks for, without changing anything
//! - `in_use`: that the host itself doesn't use it
//! - `worker`: a device's control thread: attached, watched, lost, attached again
//! - `setup`: promiscuity, offloads and queues; `offloads`: which, `channels`: how many; `restore`:
//!   what was changed, noted to be put back; `note`: what such a note may say
//! - `attached`: a device from its set-up until it is restored
//! - `attach`: sockets and program, in the best mode there is
//! - `ledger`: whether their frames come back from the cores
//! - `port`: a device as all of control shares it; `health`: its state, and what was lost
//! - `capabilities`: the capabilities that devices require
//! - `netlink`: what the kernel says of devices, addresses and routes

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
