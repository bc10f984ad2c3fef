//! Ports that are devices of this host, whose frames come by AF_XDP. The device stays under its kernel driver and is given back as
//! it was. One control thread a device.
//!
//! In reading order:
//! - `layout`: from a topology to ports that are devices
//! - `survey`: whether a device can be what the topology asks for, without changing anything
//! - `guard`: that the host itself doesn't use it
//! - `attend`: a device's control thread: taken, watched, lost, taken again
//! - `prepare`: promiscuity, offloads and queues; `queues`: how many; `undo`: what was changed, noted to be put back; `note`: what such a note may say
//! - `open`: sockets and program, in the best mode there is
//! - `ledger`: whether their frames come back from the cores
//! - `port`: a device as all of control shares it; `report`: as operators see it
//! - `privileges`: what the kernel wants to be permitted
//! - `device`: a device as the kernel describes it; `netlink`: how it is asked

pub(crate) mod attend;
pub(crate) mod device;
pub(crate) mod guard;
pub(crate) mod layout;
pub(crate) mod ledger;
pub(crate) mod netlink;
mod note;
pub(crate) mod open;
pub(crate) mod port;
pub(crate) mod prepare;
pub(crate) mod privileges;
pub(crate) mod queues;
pub(crate) mod report;
pub(crate) mod survey;
pub(crate) mod undo;
