//! Addresses as people write them: `52:54:00:00:00:01`, `10.0.0.0/8`.
//!
//! A MAC address implements `FromStr`, as the quantities of `units` do.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use flowtable::rules::rule::Cidr;

use crate::diagnostics::shown;
use crate::units::BadValue;

/// A MAC address that a guest can own: unicast, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Takes `octets` if a guest can own them.
    ///
    /// # Errors
    /// [`BadValue`] for the zero address and for group addresses (broadcast is one).
    pub fn new(octets: [u8; 6]) -> Result<Self, BadValue> {
        let help = "write the guest's own address, as in \"52:54:00:00:00:01\"";
        if octets == [0; 6] {
            return Err(BadValue::new("the zero address belongs to nobody", help));
        }
        if octets == [0xff; 6] {
            return Err(BadValue::new(
                "this is the broadcast address, which nobody sends from",
                help,
            ));
        }
        if octets[0] & 1 != 0 {
            let mut unicast = octets;
            unicast[0] &= !1;
            let message = format!(
                "this is a group address (bit 0 of `{:02x}` is set), which nobody sends from",
                octets[0]
            );
            return Err(BadValue::new(
                message,
                format!("write a unicast address, as in \"{}\"", Self(unicast)),
            ));
        }
        Ok(Self(octets))
    }

    /// The six bytes in wire order.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        if let Some(octets) = octets(text, ':') {
            return Self::new(octets);
        }
        let meant = octets(text, '-').and_then(|octets| Self::new(octets).ok());
        let example = meant.map_or_else(|| "52:54:00:00:00:01".to_owned(), |mac| mac.to_string());
        Err(BadValue::new(
            "this is not a MAC address",
            format!("write six pairs of hexadecimal digits with colons, as in \"{example}\""),
        ))
    }
}

fn octets(text: &str, separator: char) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut pairs = text.split(separator);
    for octet in &mut octets {
        let pair = pairs.next()?;
        // `from_str_radix` alone would accept a sign.
        if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *octet = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(octets)
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacAddr({self})")
    }
}

/// Reads a range of IP addresses.
///
/// # Errors
/// [`BadValue`] where there is no prefix, or bits are set beyond it.
pub(crate) fn cidr(text: &str) -> Result<Cidr, BadValue> {
    let (addr, len) = text
        .split_once('/')
        .map_or((text, None), |(addr, len)| (addr, Some(len)));
    let Ok(addr) = addr.parse::<IpAddr>() else {
        let help = "write addresses as in 10.0.0.0/8, 192.0.2.7 or \"2001:db8::/32\"";
        return Err(BadValue::new(
            format!(
                "`{}` is not an address or a range of addresses",
                shown(text)
            ),
            help,
        ));
    };
    let len_max = if addr.is_ipv4() { 32 } else { 128 };
    let is_number = |len: &str| {
        len.bytes().all(|byte| byte.is_ascii_digit()) && (len == "0" || !len.starts_with('0'))
    };
    let len = match len {
        None => Some(len_max),
        Some(len) => len.parse().ok().filter(|&n| is_number(len) && n <= len_max),
    };
    let Some(len) = len else {
        let help = format!(
            "write how many bits of the address count, 0 to {len_max}, as in {addr}/{len_max}"
        );
        return Err(BadValue::new(
            format!("`{}` has an invalid prefix length", shown(text)),
            help,
        ));
    };
    let cidr = Cidr::of(addr, len);
    if cidr.addr == addr {
        return Ok(cidr);
    }
    let help = format!(
        "write {}/{len} for all of these, or {addr} for this one",
        cidr.addr
    );
    Err(BadValue::new(
        format!("`{}` has bits set beyond the first {len}", shown(text)),
        help,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> String {
        MacAddr::from_str(text)
            .err()
            .unwrap_or_else(|| panic!("`{text}` was accepted"))
            .to_string()
    }

    #[test]
    fn mac_addresses_read_in_either_case() {
        let mac: MacAddr = "52:54:00:AB:cd:01".parse().unwrap();
        assert_eq!(mac.octets(), [0x52, 0x54, 0, 0xab, 0xcd, 1]);
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
    }

    #[test]
    fn mac_addresses_nobody_sends_from_are_refused() {
        assert!(refused("00:00:00:00:00:00").contains("zero address"));
        assert!(refused("ff:ff:ff:ff:ff:ff").contains("broadcast"));
        assert!(refused("53:54:00:00:00:01").contains("52:54:00:00:00:01"));
    }

    #[test]
    fn mac_addresses_of_other_shapes_are_refused() {
        assert!(refused("52-54-00-ab-00-01").contains("\"52:54:00:ab:00:01\""));
        for text in [
            "",
            "52:54:00:00:00",
            "52:54:00:00:00:01:02",
            "52:54:00:00:00:1",
            "52:54:00:00:00:g1",
            "5254.0000.0001",
            "+2:54:00:00:00:01",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn mac_addresses_read_back_what_they_print(octets: [u8; 6]) {
            if let Ok(mac) = MacAddr::new(octets) {
                prop_assert_eq!(mac.to_string().parse::<MacAddr>(), Ok(mac));
            }
        }
    }
}
