//! A guest in a network with an uplink, and what each of them sends at what time.

use super::*;
use crate::mac::dispute::GAP;
use crate::mac::entry::Row;

pub(super) const SPOOFED: Action = Action::Drop(DropReason::Spoofed);
pub(super) const FLOOD_2: Action = Action::Flood(2);
/// Ticks, and a few less.
pub(super) const SECOND: u32 = 953;
/// The guest in network 2, whose uplink is [`UPLINK`].
pub(super) const GUEST: PortId = 5;

pub(super) fn sticky(n: PortId) -> Ingress {
    port(n, SourcePolicy::Sticky)
}

pub(super) fn numbered(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [2, 9, a, b, c, d]
}

impl Rig {
    /// A frame from the wire of network 2.
    pub(super) fn wire(&mut self, dst: [u8; 6], src: [u8; 6]) -> Action {
        wire(self, dst, src, &[(0x8100, 100)], 64)
    }

    pub(super) fn wire_at(&mut self, dst: [u8; 6], src: [u8; 6], now: u32) -> Action {
        let mut header = Header::default();
        header.0[..6].copy_from_slice(&dst);
        header.0[6..12].copy_from_slice(&src);
        header.0[12..18].copy_from_slice(&[0x81, 0, 0, 100, 8, 0]);
        let mut actions = [Action::Flood(9)];
        self.lookup
            .decide(&unbounded(UPLINK), &[header], &[64], &mut actions, now);
        actions[0]
    }

    pub(super) fn at(&mut self, ticks: u32) -> &mut Self {
        self.lookup.set_time(u64::from(ticks) << TICK_SHIFT);
        self
    }

    /// The guest starts, and takes an address from the wire as one that was migrated here.
    pub(super) fn take_from_wire(&mut self, mac: [u8; 6]) {
        self.wire(ALL, mac);
        self.macs.start(&sticky(GUEST), 0);
        for n in 1..4 {
            self.at(n * GAP).send(&sticky(GUEST), ALL, mac, 0);
        }
    }

    pub(super) fn port_of(&self, mac: [u8; 6]) -> Option<PortId> {
        self.macs.find(2, mac).map(|found| found.port)
    }

    pub(super) fn row(&self, mac: [u8; 6]) -> Row {
        self.macs
            .rows()
            .into_iter()
            .find(|row| row.mac == mac)
            .expect("a row")
    }
}

/// A neighbour of the guest, in network 2, is known.
pub(super) fn with_neighbour() -> Rig {
    let mut rig = Rig::new();
    let neighbour = Ingress {
        port: 4,
        network: 2,
        ..any(4)
    };
    rig.send(&neighbour, ALL, B, 0);
    rig
}
