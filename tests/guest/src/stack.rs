//! Enough of a network stack to be talked to and to check what arrives: answers ARP and ping,
//! pings, and builds and verifies test frames that carry flow, sequence number, pattern and
//! checksum. Pure functions and values: bytes in, bytes out.

mod verifier;

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

pub use verifier::{Stamp, TEST_FRAME_LEAST, Verifier, read_test_frame, test_frame};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// To everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Vec<u8> = text
            .split(':')
            .map(|part| u8::from_str_radix(part, 16).map_err(|e| format!("{part}: {e}")))
            .collect::<Result<_, _>>()?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| format!("{text}: six bytes with colons are needed"))
    }
}

const IPV4: [u8; 2] = [8, 0];
const ARP: [u8; 2] = [8, 6];
const ICMP: u8 = 1;
const UDP: u8 = 17;
/// Ethernet, IPv4, UDP headers.
const UDP_HEADERS: usize = 42;

/// The Internet checksum over pieces of even length (the last may be odd).
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let sum = |piece: &&[u8]| piece.chunks(2).map(word).map(u64::from).sum::<u64>();
    let mut sum: u64 = pieces.iter().map(sum).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// A UDP datagram in a frame of at least 60 bytes; UDP checksum 0, which says there is none.
pub fn udp_frame(
    from: (Mac, Ipv4Addr),
    to: (Mac, Ipv4Addr),
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(payload.len() + 8).expect("a datagram below 64 KiB");
    let udp = [
        ports.0.to_be_bytes(),
        ports.1.to_be_bytes(),
        len.to_be_bytes(),
        [0, 0],
    ]
    .concat();
    ip_frame(from, to, UDP, &[udp.as_slice(), payload].concat())
}

fn ip_frame(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), proto: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 20).expect("a packet below 64 KiB");
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0];
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    ip.extend(from.1.octets());
    ip.extend(to.1.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(from.0, to.0, IPV4, &[ip.as_slice(), body].concat())
}

fn ethernet(from: Mac, to: Mac, kind: [u8; 2], body: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &kind, body].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// What a frame was to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Send this answer.
    Answer(Vec<u8>),
    /// Somebody answered our ping: who, identifier, sequence number.
    Pong(Ipv4Addr, u16, u16),
    /// Somebody told us their MAC.
    Neighbour(Ipv4Addr, Mac),
    /// Not for us, or nothing we know.
    Nothing,
}

/// A host: an address, and whom it knows.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its IP address.
    pub ip: Ipv4Addr,
    neighbours: HashMap<Ipv4Addr, Mac>,
}

impl Host {
    /// A host that knows nobody.
    pub fn new(mac: Mac, ip: Ipv4Addr) -> Self {
        Self {
            mac,
            ip,
            neighbours: HashMap::new(),
        }
    }

    /// The MAC of another host, if it has told us.
    pub fn neighbour(&self, ip: Ipv4Addr) -> Option<Mac> {
        self.neighbours.get(&ip).copied()
    }

    /// Handles a received frame: answers ARP requests and pings to this host, remembers neighbours.
    pub fn handle(&mut self, frame: &[u8]) -> Event {
        if frame.len() < 42 || !(frame[..6] == self.mac.0 || frame[..6] == Mac::BROADCAST.0) {
            return Event::Nothing;
        }
        match [frame[12], frame[13]] {
            ARP => self.handle_arp(frame),
            IPV4 => self.handle_ip(frame).unwrap_or(Event::Nothing),
            _ => Event::Nothing,
        }
    }

    /// Asks everybody who has `ip`. For the own address: announces it.
    pub fn arp_request(&self, ip: Ipv4Addr) -> Vec<u8> {
        self.arp(Mac::BROADCAST, 1, Mac::default(), ip)
    }

    /// A ping, once the MAC is known.
    pub fn ping(&self, ip: Ipv4Addr, id: u16, seq: u16, payload: &[u8]) -> Option<Vec<u8>> {
        let rest = [&id.to_be_bytes()[..], &seq.to_be_bytes(), payload].concat();
        Some(ip_frame(
            (self.mac, self.ip),
            (self.neighbour(ip)?, ip),
            ICMP,
            &icmp(8, &rest),
        ))
    }

    fn handle_arp(&mut self, frame: &[u8]) -> Event {
        let address =
            |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
        let sender = Mac(frame[22..28].try_into().expect("six bytes"));
        if frame[14..20] != [0, 1, 8, 0, 6, 4] {
            return Event::Nothing;
        }
        self.neighbours.insert(address(28), sender);
        match (frame[21], address(38) == self.ip) {
            (1, true) => Event::Answer(self.arp(sender, 2, sender, address(28))),
            (2, _) => Event::Neighbour(address(28), sender),
            _ => Event::Nothing,
        }
    }

    fn handle_ip(&self, frame: &[u8]) -> Option<Event> {
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let packet = frame.get(14..14 + total)?;
        let to_us = packet.get(16..20)? == self.ip.octets();
        if packet[0] != 0x45 || packet[9] != ICMP || !to_us || checksum(&[&packet[..20]]) != 0 {
            return None;
        }
        let message = &packet[20..];
        if message.len() < 8 || checksum(&[message]) != 0 {
            return None;
        }
        let from = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
        let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        match message[0] {
            8 => {
                let mac = Mac(frame[6..12].try_into().expect("six bytes"));
                let answer = icmp(0, &message[4..]);
                Some(Event::Answer(ip_frame(
                    (self.mac, self.ip),
                    (mac, from),
                    ICMP,
                    &answer,
                )))
            }
            0 => Some(Event::Pong(from, word(4), word(6))),
            _ => None,
        }
    }

    fn arp(&self, to: Mac, op: u8, target: Mac, ip: Ipv4Addr) -> Vec<u8> {
        let fixed = [0, 1, 8, 0, 6, 4, 0, op];
        let body = [
            &fixed[..],
            &self.mac.0,
            &self.ip.octets(),
            &target.0,
            &ip.octets(),
        ]
        .concat();
        ethernet(self.mac, to, ARP, &body)
    }
}

fn icmp(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0], rest].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(n: u8) -> (Mac, Ipv4Addr) {
        (Mac([2, 0, 0, 0, 0, n]), Ipv4Addr::new(10, 0, 0, n))
    }

    fn host(n: u8) -> Host {
        Host::new(end(n).0, end(n).1)
    }

    #[test]
    fn two_hosts_find_and_ping_each_other() {
        let (mut a, mut b) = (host(1), host(2));
        assert_eq!(a.ping(b.ip, 7, 1, &[]), None);
        let Event::Answer(reply) = b.handle(&a.arp_request(b.ip)) else {
            panic!("no ARP answer")
        };
        assert_eq!(a.handle(&reply), Event::Neighbour(b.ip, b.mac));
        for n in [0, 56, 57, 8000] {
            let Event::Answer(pong) = b.handle(&a.ping(b.ip, 7, 1, &vec![9; n]).unwrap()) else {
                panic!("no pong")
            };
            assert_eq!(a.handle(&pong), Event::Pong(b.ip, 7, 1));
        }
    }

    #[test]
    fn frames_for_others_and_broken_ones_are_nothing() {
        let (mut a, mut b) = (host(1), host(2));
        assert_eq!(b.handle(&a.arp_request(host(3).ip)), Event::Nothing);
        a.neighbours.insert(b.ip, b.mac);
        let ping = a.ping(b.ip, 1, 1, &[1, 2, 3]).unwrap();
        assert_eq!(host(3).handle(&ping), Event::Nothing);
        for n in 0..60 {
            let mut cut = ping[..n].to_vec();
            assert_eq!(
                b.handle(&cut).clone(),
                b.handle(&cut),
                "a cut frame doesn't panic"
            );
            cut.clone_from(&ping);
            cut[n] ^= 0xff;
            b.handle(&cut);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn test_frames_read_back_at_every_size() {
        for len in [66, 67, 128, 1514, 9000, 9018] {
            let stamp = Stamp { flow: 513, seq: 77 };
            let frame = test_frame(end(1), end(2), stamp, len);
            assert_eq!(frame.len(), len);
            assert_eq!(read_test_frame(&frame), Some(Ok(stamp)));
            for at in [50, 65, len - 1] {
                let mut bad = frame.clone();
                bad[at] ^= 1;
                assert!(
                    read_test_frame(&bad).unwrap().is_err(),
                    "a flipped bit at {at} of {len}"
                );
            }
            assert!(read_test_frame(&frame[..len - 1]).is_none_or(|r| r.is_err()));
        }
        assert_eq!(read_test_frame(&host(1).arp_request(end(2).1)), None);
    }

    #[test]
    fn verifier_tells_loss_from_reordering_from_duplicates() {
        let mut verifier = Verifier::default();
        for seq in [0, 1, 2, 5, 4, 4, 8] {
            verifier.take(&test_frame(end(1), end(2), Stamp { flow: 3, seq }, 100));
        }
        verifier.take(&test_frame(end(1), end(2), Stamp { flow: 4, seq: 0 }, 100));
        verifier.take(&[0; 60]);
        assert_eq!(
            (
                verifier.n_good,
                verifier.n_duplicate,
                verifier.n_reordered,
                verifier.n_other
            ),
            (7, 1, 1, 1)
        );
        assert_eq!((verifier.n_gaps(), verifier.n_lost(|_| 10)), (3, 13));
        assert!(!verifier.is_clean() && verifier.n_flows() == 2);
    }

    #[test]
    fn mac_reads_as_it_prints() {
        let mac: Mac = "52:54:00:0a:0b:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:0a:0b:ff");
        assert!("52:54:00".parse::<Mac>().is_err() && "x:0:0:0:0:0".parse::<Mac>().is_err());
    }
}
