//! A guest, and a device behind which others are: its kernel's half is in memory. What that does
//! while a core is in it counts: it takes a packet out of a list, or puts one into it.

use std::sync::Arc;

use flowtable::{Exit, Network, Networks, PortId};
use guest::Options;
use guest::flows::{Flows, Vary};
use guest::lean::{LeanRx, LeanTx};
use guest::stack::{checksum, udp_frame};
use pmd::ring::xsk::peer::XskPeer;
use rig::{ALL, ANY, Rig, frame, mac, options};

use crate::{BURST, Spent, host, lean_rx, lean_tx, step};

const GUEST: PortId = 0;
const UPLINK: PortId = 1;
/// The station on the wire; the guest is station 0.
const REMOTE: u16 = 10;

/// A switch with a guest on port 0 and a device on port 1, of one network.
pub struct Uplink {
    rig: Rig,
    wire: XskPeer,
    tx: LeanTx,
    rx: LeanRx,
    /// What comes from the wire.
    packet: Vec<u8>,
}

/// What a packet's UDP checksum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// None, and the device is no veth, so nobody looks.
    Unasked,
    /// The right one, of a veth, where it might be left to be finished.
    Finished,
    /// The pseudo-header's, of a veth: the switch finishes it.
    Partial,
}

impl Uplink {
    /// Frames of `len` bytes to the wire, and from it.
    pub fn new(len: usize, kind: Checksum) -> Self {
        let network = Network {
            members: vec![GUEST, UPLINK],
            frame_max: 1514,
            uplink: Some(Exit {
                port: UPLINK,
                vlan: None,
            }),
            ..Network::default()
        };
        let networks = Networks {
            networks: vec![network],
            ..Networks::default()
        };
        let mut rig = Rig::new(1, 2, Arc::new(networks));
        let _ = rig.cores.settle();
        rig.plug(
            0,
            ANY,
            Options {
                line_offset: 52,
                checked: false,
                fifo: true,
                ..options()
            },
        );
        let is_veth = kind != Checksum::Unasked;
        let wire = rig.plug_device(UPLINK, Some(0), is_veth, [256, 256]);
        introduce(&mut rig, &wire);
        let packet = packet(len, kind);
        assert!(wire.deliver(&packet));
        rig.settle();
        let wanted = if kind == Checksum::Partial {
            Checksum::Finished
        } else {
            kind
        };
        assert_eq!(rig.receive_all(GUEST), [self::packet(len, wanted)]);
        rig.down(GUEST);
        let tx = lean_tx(
            &mut rig,
            GUEST,
            Flows::new(host(0), host(REMOTE), len, 1, Vary::Ip),
        );
        let rx = lean_rx(&mut rig, GUEST);
        rig.up(GUEST, 0, ANY);
        rig.step();
        Self {
            rig,
            wire,
            tx,
            rx,
            packet,
        }
    }

    /// So many bursts from the wire to the guest, of which none may be lost.
    pub fn receive(&mut self, n_bursts: u64) -> Spent {
        let mut spent = Spent::default();
        for _ in 0..n_bursts {
            assert!(
                (0..BURST).all(|_| self.wire.deliver(&self.packet)),
                "no room for what the wire brings"
            );
            spent += step(&mut self.rig);
            let n = self.rx.poll();
            assert_eq!(n, BURST, "frames were lost");
            self.rx.offer(n);
        }
        assert_eq!(spent.n_frames, n_bursts * u64::from(BURST));
        spent
    }

    /// So many bursts from the guest to the wire, of which none may be lost.
    pub fn send(&mut self, n_bursts: u64) -> Spent {
        let mut spent = Spent::default();
        for _ in 0..n_bursts {
            self.tx.poll();
            self.tx.offer(BURST);
            spent += step(&mut self.rig);
            let n = std::iter::from_fn(|| self.wire.receive()).count();
            assert_eq!(n, usize::from(BURST), "frames were lost");
        }
        assert_eq!(spent.n_frames, n_bursts * u64::from(BURST));
        spent
    }
}

/// Both stations become known.
fn introduce(rig: &mut Rig, wire: &XskPeer) {
    wire.deliver(&frame(ALL, mac(REMOTE), 0, 60));
    rig.guests[usize::from(GUEST)].send(0, &frame(ALL, mac(0), 0, 60));
    rig.settle();
    rig.receive_all(GUEST);
    while wire.receive().is_some() {}
}

/// A datagram from the wire.
fn packet(len: usize, kind: Checksum) -> Vec<u8> {
    let (from, to) = (host(REMOTE), host(0));
    let mut bytes = udp_frame(from, to, (1024, 9), &vec![0x5a; len - 42]);
    let pseudo = [&bytes[26..34], &[0, 17], &bytes[38..40]].concat();
    let sum = match kind {
        Checksum::Unasked => 0,
        Checksum::Finished => checksum(&[&pseudo, &bytes[34..]]),
        Checksum::Partial => !checksum(&[&pseudo]),
    };
    bytes[40..42].copy_from_slice(&sum.to_be_bytes());
    bytes
}
