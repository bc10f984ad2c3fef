//! Packets as they are made, and as frames.

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;

/// A packet as whoever makes it thinks of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    /// Last byte of the addresses.
    pub(super) src: u8,
    pub(super) dst: u8,
    pub(super) proto: u8,
    pub(super) number: Number,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
    /// IPv6 with a hop-by-hop and a destination options header.
    V6Extended,
    Arp,
    Lldp,
    /// IPv4 by its type, and nonsense.
    Nonsense,
}

/// Destination port or ICMP type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Is(u16),
    /// A later fragment has none.
    LaterFragment,
    /// The datagram ends before it.
    Cut,
}

/// To a port of TCP, from 10.0.0.1 to 10.0.0.2.
pub(super) fn tcp(port: u16) -> Packet {
    Packet {
        kind: Kind::V4,
        src: 1,
        dst: 2,
        proto: TCP,
        number: Number::Is(port),
    }
}

impl Packet {
    /// As a frame, with an id that tells it from others.
    pub(super) fn frame(self, dst: [u8; 6], src: [u8; 6], is_tagged: bool, id: u32) -> Vec<u8> {
        let mut bytes = [dst, src].concat();
        if is_tagged {
            bytes.extend([0x81, 0, 0, 7]);
        }
        let payload = self.payload(id);
        match self.kind {
            Kind::V4 => bytes.extend(self.v4(&payload)),
            Kind::V6 | Kind::V6Extended => bytes.extend(self.v6(&payload)),
            Kind::Arp => bytes.extend([&[8, 6][..], &payload].concat()),
            Kind::Lldp => bytes.extend([&[0x88, 0xcc][..], &payload].concat()),
            Kind::Nonsense => bytes.extend([&[8, 0][..], &[0x55; 40], &payload].concat()),
        }
        bytes.extend(id.to_be_bytes());
        bytes.resize(bytes.len().max(100), 0);
        bytes
    }

    fn payload(self, id: u32) -> Vec<u8> {
        let number = match self.number {
            Number::Is(number) => number,
            // What a fragment holds there means nothing.
            Number::LaterFragment | Number::Cut => 25,
        };
        let mut bytes = match self.proto {
            ICMP | ICMP6 => vec![number as u8, 0, 0, 0],
            _ => [[0x13, 0x88], number.to_be_bytes()].concat(),
        };
        match self.number {
            Number::Cut => bytes.truncate(0),
            _ => bytes.extend(id.to_le_bytes()),
        }
        bytes
    }

    fn v4(self, payload: &[u8]) -> Vec<u8> {
        let len = (20 + payload.len()) as u16;
        let fragment: u16 = if self.number == Number::LaterFragment {
            3
        } else {
            0
        };
        let mut bytes = vec![8, 0, 0x45, 0];
        bytes.extend(len.to_be_bytes());
        bytes.extend([0, 9]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, self.proto, 0, 0, 10, 0, 0, self.src, 10, 0, 0, self.dst]);
        bytes.extend(payload);
        bytes
    }

    fn v6(self, payload: &[u8]) -> Vec<u8> {
        // Backwards: each header names the next.
        let (mut next, mut behind) = (self.proto, payload.to_vec());
        let mut push = |number: u8, rest: [u8; 7]| {
            behind.splice(0..0, [&[next][..], &rest].concat());
            next = number;
        };
        if self.kind == Kind::V6Extended {
            push(60, [0; 7]);
        }
        if self.number == Number::LaterFragment {
            push(44, [0, 0, 3 << 3, 0, 0, 0, 9]);
        }
        if self.kind == Kind::V6Extended {
            push(0, [0; 7]);
        }
        let mut bytes = vec![0x86, 0xdd, 0x60, 0, 0, 0];
        bytes.extend((behind.len() as u16).to_be_bytes());
        bytes.extend([next, 64]);
        for last in [self.src, self.dst] {
            bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        bytes.extend(behind);
        bytes
    }
}
