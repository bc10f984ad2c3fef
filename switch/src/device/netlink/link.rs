//! A network device as the kernel describes it.

use std::io;

use super::message::{Message, attribute, attributes, kind, text, u32_at, u64_at};
use super::socket::Netlink;

/// Bytes of `ifinfomsg`.
const HEAD: usize = 16;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 0x1_0000;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_NEW_IFINDEX: u16 = 49;
/// Places in `rtnl_link_stats64`, in words of 64 bits.
const RX_DROPPED: usize = 6;
const RX_MISSED: usize = 15;

/// A network device of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// What made it, as in `ip -d link`: `veth`, `vlan`; empty for a NIC.
    pub(crate) kind: String,
    pub(crate) mtu: u32,
    /// Whether it is administratively up.
    pub(crate) is_up: bool,
    pub(crate) has_carrier: bool,
    /// Bridge or bond that it is part of.
    pub(crate) master: Option<u32>,
    /// Device that it is stacked on; of a veth: its other end.
    pub(crate) lower: Option<u32>,
    /// Receive queues that it may have at most.
    pub(crate) n_rx_queues: u32,
    /// The XDP program that is attached.
    pub(crate) xdp_program: Option<u32>,
    /// Frames that the device took and the kernel dropped.
    pub(crate) rx_dropped: u64,
    /// Frames that the device had no room for.
    pub(crate) rx_missed: u64,
}

impl Device {
    /// The device of this name; none: there is none here.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn named(netlink: &mut Netlink, name: &str) -> io::Result<Option<Self>> {
        let mut body = vec![0; HEAD];
        body.extend(attribute(IFLA_IFNAME, format!("{name}\0").as_bytes()));
        Self::one(netlink, &body)
    }

    /// The device with this index; none: there is none here.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn with_index(netlink: &mut Netlink, index: u32) -> io::Result<Option<Self>> {
        let mut body = vec![0; HEAD];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        Self::one(netlink, &body)
    }

    /// Every device of this network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn all(netlink: &mut Netlink) -> io::Result<Vec<Self>> {
        let messages = netlink.dump(kind::GET_LINK, &[0; HEAD])?;
        Ok(messages.iter().filter_map(Self::read).collect())
    }

    fn one(netlink: &mut Netlink, body: &[u8]) -> io::Result<Option<Self>> {
        match netlink.get(kind::GET_LINK, body) {
            Ok(message) => Ok(Self::read(&message)),
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn read(message: &Message) -> Option<Self> {
        if message.kind != kind::NEW_LINK {
            return None;
        }
        let flags = u32_at(&message.body, 8)?;
        let mut device = Self {
            index: u32_at(&message.body, 4)?,
            is_up: flags & IFF_UP != 0,
            has_carrier: flags & IFF_LOWER_UP != 0,
            ..Self::default()
        };
        for (number, value) in attributes(message.body.get(HEAD..)?) {
            match number {
                IFLA_IFNAME => device.name = text(value),
                IFLA_MTU => device.mtu = u32_at(value, 0)?,
                IFLA_LINK => device.lower = u32_at(value, 0),
                IFLA_MASTER => device.master = u32_at(value, 0),
                IFLA_NUM_RX_QUEUES => device.n_rx_queues = u32_at(value, 0)?,
                IFLA_LINKINFO => {
                    device.kind = nested(value, IFLA_INFO_KIND).map(text).unwrap_or_default()
                }
                IFLA_XDP => {
                    device.xdp_program =
                        nested(value, IFLA_XDP_PROG_ID).and_then(|id| u32_at(id, 0))
                }
                IFLA_STATS64 => {
                    device.rx_dropped = u64_at(value, RX_DROPPED * 8).unwrap_or(0);
                    device.rx_missed = u64_at(value, RX_MISSED * 8).unwrap_or(0);
                }
                _ => {}
            }
        }
        Some(device)
    }

    /// Whether it is stacked on `lower`, as a VLAN or a macvlan is; a veth is not on its other end.
    pub(crate) fn is_stacked_on(&self, lower: &Device) -> bool {
        self.lower == Some(lower.index) && self.index != lower.index && self.kind != "veth"
    }
}

fn nested(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(number, _)| *number == wanted)
        .map(|(_, value)| value)
}

/// How a device disappeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It was deleted.
    Removed,
    /// Into another network namespace.
    Moved,
}

impl Gone {
    /// As a predicate for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Gone::Removed => "was removed",
            Gone::Moved => "was moved into another network namespace",
        }
    }
}

/// Whether a message says that the device with this index disappeared.
pub(crate) fn gone(message: &Message, index: u32) -> Option<Gone> {
    if message.kind != kind::DEL_LINK || u32_at(&message.body, 4) != Some(index) {
        return None;
    }
    let is_moved = nested(message.body.get(HEAD..)?, IFLA_NEW_IFINDEX).is_some();
    // A bridge that releases it sends the same message, in its own address family.
    (message.body.first() == Some(&0)).then_some(if is_moved { Gone::Moved } else { Gone::Removed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_by_name_and_by_index_and_among_all() {
        let mut netlink = Netlink::open().unwrap();
        let lo = Device::named(&mut netlink, "lo").unwrap().unwrap();
        assert_eq!((lo.index, lo.name.as_str(), lo.mtu), (1, "lo", 65_536));
        assert_eq!(
            Device::with_index(&mut netlink, 1).unwrap().unwrap().name,
            "lo"
        );
        assert!(
            Device::all(&mut netlink)
                .unwrap()
                .iter()
                .any(|device| device.name == "lo")
        );
    }

    #[test]
    fn absent_device_is_none() {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(Device::named(&mut netlink, "nosuchdevice").unwrap(), None);
        assert_eq!(Device::with_index(&mut netlink, 0x7fff_fff0).unwrap(), None);
    }

    #[test]
    fn removal_is_told_from_a_bridge_letting_go_and_from_a_move() {
        let message = |family: u8, attributes: Vec<u8>| {
            let mut body = vec![0; HEAD];
            body[0] = family;
            body[4] = 7;
            body.extend(attributes);
            Message {
                kind: kind::DEL_LINK,
                body,
            }
        };
        assert_eq!(gone(&message(0, vec![]), 7), Some(Gone::Removed));
        assert_eq!(gone(&message(0, vec![]), 8), None);
        assert_eq!(gone(&message(7, vec![]), 7), None);
        assert_eq!(
            gone(
                &message(0, attribute(IFLA_NEW_IFINDEX, &9u32.to_ne_bytes())),
                7
            ),
            Some(Gone::Moved)
        );
    }
}
