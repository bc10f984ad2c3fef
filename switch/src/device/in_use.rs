//! Refuses devices that the host itself uses: all frames of an attached device go to the switch, so
//! an address on it, and an operator's ssh with it, would be cut off.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::link::Device;
use super::netlink::message::{attributes, kind, u16_at, u32_at};
use super::netlink::socket::Netlink;

/// Bytes of `ifaddrmsg` and of `rtmsg`.
const ADDR_HEAD: usize = 8;
const ROUTE_HEAD: usize = 12;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;
/// Items of each kind that are named.
const NAMED_MAX: usize = 4;

/// What the host uses `device` for, as text; none: nothing.
///
/// IPv6 link-local addresses and their routes don't count: the kernel gives them to every device
/// that is up.
///
/// # Errors
/// The kernel's.
pub(crate) fn uses(netlink: &mut Netlink, device: &Device) -> io::Result<Option<String>> {
    let mut found = Vec::new();
    if let Some(master) = device.master {
        let name = Device::with_index(netlink, master)?
            .map_or_else(|| format!("device {master}"), |it| it.name);
        found.push(format!("belongs to {name}"));
    }
    let uppers = Device::all(netlink)?;
    let uppers = uppers
        .into_iter()
        .filter(|upper| upper.is_stacked_on(device))
        .map(|upper| upper.name);
    found.extend(listed("carries", uppers.collect()));
    found.extend(listed("has the address", addresses(netlink, device.index)?));
    found.extend(listed("has the route", routes(netlink, device.index)?));
    Ok((!found.is_empty()).then(|| found.join(", ")))
}

fn listed(verb: &str, items: Vec<String>) -> Option<String> {
    let mut text = format!("{verb} {}", items.first()?);
    for item in items.iter().take(NAMED_MAX).skip(1) {
        // Writing to a string can't fail.
        let _ = write!(text, " and {item}");
    }
    if items.len() > NAMED_MAX {
        let _ = write!(text, " and {} more", items.len() - NAMED_MAX);
    }
    Some(text)
}

fn addresses(netlink: &mut Netlink, index: u32) -> io::Result<Vec<String>> {
    let messages = netlink.dump(kind::GET_ADDR, &[0; ADDR_HEAD])?;
    Ok(messages
        .iter()
        .filter_map(|message| address(&message.body, index))
        .collect())
}

fn address(body: &[u8], index: u32) -> Option<String> {
    if u32_at(body, 4) != Some(index) {
        return None;
    }
    let of = |wanted| {
        attributes(&body[ADDR_HEAD..])
            .find(|(number, _)| *number == wanted)
            .and_then(|(_, it)| ip(it))
    };
    // With a peer, the local address is the host's and the other one the peer's.
    let address = of(IFA_LOCAL).or_else(|| of(IFA_ADDRESS))?;
    (!is_link_local(address)).then(|| format!("{address}/{}", body[1]))
}

fn routes(netlink: &mut Netlink, index: u32) -> io::Result<Vec<String>> {
    let messages = netlink.dump(kind::GET_ROUTE, &[0; ROUTE_HEAD])?;
    Ok(messages
        .iter()
        .filter_map(|message| route(&message.body, index))
        .collect())
}

fn route(body: &[u8], index: u32) -> Option<String> {
    let flags = u32_at(body, 8)?;
    if body[7] != RTN_UNICAST || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let (mut to, mut is_ours) = (None, false);
    for (number, value) in attributes(&body[ROUTE_HEAD..]) {
        match number {
            RTA_DST => to = ip(value),
            RTA_OIF => is_ours |= u32_at(value, 0) == Some(index),
            RTA_MULTIPATH => is_ours |= hops(value).any(|hop| hop == index),
            _ => {}
        }
    }
    if !is_ours || to.is_some_and(is_link_local) {
        return None;
    }
    Some(to.map_or_else(|| "default".to_owned(), |to| format!("to {to}/{}", body[1])))
}

/// The devices of a multipath route.
fn hops(mut bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let index = u32_at(bytes, 4)?;
        bytes = bytes
            .get(len.next_multiple_of(4).max(4)..)
            .unwrap_or_default();
        Some(index)
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes)
        .ok()
        .map(|octets| Ipv6Addr::from(octets).into())
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::super::netlink::message::attribute;
    use super::*;

    fn addr(index: u8, prefix: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [&[2, prefix, 0, 0, index, 0, 0, 0][..], &attributes.concat()].concat()
    }

    #[test]
    fn loopback_is_in_use() {
        let mut netlink = Netlink::open().unwrap();
        let lo = Device::named(&mut netlink, "lo").unwrap().unwrap();
        if lo.is_up {
            let found = uses(&mut netlink, &lo).unwrap().unwrap();
            assert!(found.contains("has the address 127.0.0.1/8"), "{found}");
        }
    }

    #[test]
    fn address_of_the_device_itself_is_named_and_others_are_not() {
        let own = attribute(IFA_LOCAL, &[10, 0, 0, 1]);
        let peer = attribute(IFA_ADDRESS, &[10, 0, 0, 2]);
        assert_eq!(
            address(&addr(5, 24, &[peer, own]), 5).as_deref(),
            Some("10.0.0.1/24")
        );
        assert_eq!(
            address(&addr(6, 24, &[attribute(IFA_LOCAL, &[10, 0, 0, 1])]), 5),
            None
        );
        let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(
            address(&addr(5, 64, &[attribute(IFA_ADDRESS, &link_local)]), 5),
            None
        );
    }

    #[test]
    fn routes_count_by_every_hop() {
        let head = |kind: u8, prefix: u8| vec![2, prefix, 0, 0, 254, 3, 0, kind, 0, 0, 0, 0];
        let oif = |index: u32| attribute(RTA_OIF, &index.to_ne_bytes());
        let default = [head(RTN_UNICAST, 0), oif(5)].concat();
        assert_eq!(route(&default, 5).as_deref(), Some("default"));
        assert_eq!(route(&default, 6), None);
        let local = [head(2, 32), oif(5), attribute(RTA_DST, &[10, 0, 0, 1])].concat();
        assert_eq!(route(&local, 5), None);
        let hop = |index: u8| vec![8, 0, 0, 0, index, 0, 0, 0];
        let both = [
            head(RTN_UNICAST, 8),
            attribute(RTA_DST, &[10, 0, 0, 0]),
            attribute(RTA_MULTIPATH, &[hop(4), hop(5)].concat()),
        ];
        assert_eq!(route(&both.concat(), 5).as_deref(), Some("to 10.0.0.0/8"));
    }

    #[test]
    fn long_lists_are_cut() {
        let items = (0..6).map(|n| n.to_string()).collect();
        assert_eq!(
            listed("has", items).unwrap(),
            "has 0 and 1 and 2 and 3 and 2 more"
        );
        assert_eq!(listed("has", vec![]), None);
    }
}
