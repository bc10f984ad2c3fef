//! Uplinks: trunks, tags, a wire that can't wait, and the ledger of a queue's frames. The wire is
//! plain memory.

mod limit;
mod priority;
mod shared_queue;

use std::sync::Arc;

use flowtable::{DropReason, Network, Networks, PortId, Trunk};
use guest::Options;
use guest::options::feature;
use pmd::port::mem::MemPort;
use pmd::ring::xsk::peer::XskPeer;
use rig::{ALL, ANY, Dice, Rig, behind_uplink, frame, id_of, mac, options, seeds};

/// Ports 0 and 1 are guests in VLAN 100 and without a tag; 2 is the uplink.
const UPLINK: PortId = 2;
/// Frames of its queue: for what is received, for what is sent. Not the same, so that none stands
/// for the other.
const N_RX: u32 = 64;
const N_TX: u32 = 128;

fn networks() -> Arc<Networks> {
    Arc::new(behind_uplink(
        UPLINK,
        3512,
        &[(&[0], Some(100)), (&[1], None)],
    ))
}

/// The guests' side of the switch; the uplink is not up yet.
fn guests(options: &Options) -> Rig {
    guests_on(1, options)
}

/// The same on so many cores, which ports are given to in turn.
fn guests_on(n_cores: usize, options: &Options) -> Rig {
    let mut rig = Rig::new(n_cores, 3, networks());
    rig.plug(0, ANY, options.clone());
    rig.plug(1, ANY, options.clone());
    rig
}

fn uplink(rig: &mut Rig, is_veth: bool) -> XskPeer {
    device(rig, None, is_veth, [N_RX, N_TX])
}

/// Port 2 by a queue of so many frames, for what is received and for what is sent; in a network, or
/// the trunk.
fn device(rig: &mut Rig, network: Option<u16>, is_veth: bool, [n_rx, n_tx]: [u32; 2]) -> XskPeer {
    rig.plug_device(UPLINK, network, is_veth, [n_rx, n_tx])
}

fn tagged(tag: [u8; 4], frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &tag, &frame[12..]].concat()
}

const TAG: [u8; 4] = [0x81, 0, 0, 100];

/// Everyone makes themselves known; station 10 is behind the uplink.
fn introduce(rig: &mut Rig, peer: &XskPeer) {
    peer.deliver(&tagged(TAG, &frame(ALL, mac(10), 0, 60)));
    peer.deliver(&frame(ALL, mac(10), 0, 60));
    rig.settle();
    for port in 0..2 {
        assert!(rig.guests[usize::from(port)].send(0, &frame(mac(10), mac(port), 0, 60)));
    }
    rig.settle();
    rig.drain(0..2);
    while peer.receive().is_some() {}
}

/// Takes the uplink down and looks at where its frames are.
fn assert_ledger_is_at_rest(rig: &mut Rig) {
    let down = rig.down(UPLINK);
    let (rx, tx) = (
        down.rxqs[0].ledger().unwrap(),
        down.txqs[0].ledger().unwrap(),
    );
    assert!(rx.is_balanced() && rx.n_kernel == rx.n_frames, "{rx:?}");
    assert!(tx.is_balanced() && tx.n_free == tx.n_frames, "{tx:?}");
    assert_ne!(rx.n_frames, tx.n_frames);
}

#[test]
fn tag_is_taken_off_and_put_on_in_the_copy_whatever_the_length() {
    let mut rig = guests(&options());
    let peer = uplink(&mut rig, false);
    introduce(&mut rig, &peer);
    for (n, len) in [
        60, 64, 123, 124, 125, 127, 128, 129, 131, 132, 133, 200, 1514, 3512,
    ]
    .into_iter()
    .enumerate()
    {
        for port in 0..2 {
            let (there, back) = (
                frame(mac(10), mac(port), n as u64, len),
                frame(mac(port), mac(10), n as u64, len),
            );
            let on_wire = |frame: &[u8]| {
                if port == 0 {
                    tagged(TAG, frame)
                } else {
                    frame.to_vec()
                }
            };
            assert!(rig.guests[usize::from(port)].send(0, &there));
            assert!(peer.deliver(&on_wire(&back)));
            rig.settle();
            assert_eq!(
                peer.receive(),
                Some(on_wire(&there)),
                "{len} bytes from guest {port}"
            );
            assert_eq!(rig.receive_all(port), [back], "{len} bytes to guest {port}");
        }
    }
    assert_eq!(peer.receive(), None);
    let (wire, guest) = (rig.counters(UPLINK), rig.counters(0));
    assert_eq!((wire.n_dropped(), guest.n_dropped()), (0, 0));
    assert_eq!(
        wire.tx_bytes,
        rig.counters(0).rx_bytes + rig.counters(1).rx_bytes + 4 * guest.rx_frames
    );
    assert_eq!(
        wire.rx_bytes,
        rig.counters(0).tx_bytes + rig.counters(1).tx_bytes + 4 * guest.tx_frames
    );
    rig.assert_balanced();
    assert_ledger_is_at_rest(&mut rig);
}

#[test]
fn inner_tags_pass_while_those_of_guests_and_unknown_vlans_are_dropped_by_name() {
    let mut rig = guests(&options());
    let peer = uplink(&mut rig, false);
    introduce(&mut rig, &peer);
    let inner = tagged([0x81, 0, 0, 7], &frame(mac(0), mac(10), 1, 200));
    peer.deliver(&tagged([0x88, 0xa8, 0x60, 100], &inner));
    // A priority alone says nothing of a VLAN, and goes with its tag.
    let plain = frame(mac(1), mac(10), 2, 60);
    peer.deliver(&tagged([0x81, 0, 0xe0, 0], &plain));
    peer.deliver(&tagged([0x81, 0, 0, 101], &plain));
    peer.deliver(&tagged(TAG, &frame(mac(0), mac(10), 3, 14))[..17]);
    peer.deliver(&frame([1, 0x80, 0xc2, 0, 0, 2], mac(10), 3, 60));
    rig.guests[0].send(0, &tagged(TAG, &frame(mac(10), mac(0), 4, 60)));
    rig.settle();
    assert_eq!(rig.receive_all(0), [inner]);
    assert_eq!(rig.receive_all(1), [plain]);
    assert_eq!(rig.drops(UPLINK, DropReason::UnknownVlan), 1);
    assert_eq!(rig.drops(UPLINK, DropReason::Runt), 1);
    assert_eq!(rig.drops(UPLINK, DropReason::LinkLocal), 1);
    assert_eq!(rig.drops(0, DropReason::Tagged), 1);
    assert_eq!(peer.receive(), None);
    rig.assert_balanced();
    assert_ledger_is_at_rest(&mut rig);
}

#[test]
fn full_uplink_holds_guests_back_and_drops_nothing() {
    let mut rig = guests(&options());
    let peer = uplink(&mut rig, false);
    introduce(&mut rig, &peer);
    peer.stall(true);
    for id in 0..200 {
        assert!(rig.guests[0].send(0, &frame(mac(10), mac(0), id, 100)));
    }
    for _ in 0..10_000 {
        rig.step();
    }
    assert_eq!(
        rig.counters(0).rx_frames,
        1 + u64::from(N_TX),
        "as many as the uplink has frames; the rest stands in the guest's ring"
    );
    peer.stall(false);
    let mut next = 0;
    while next < 200 {
        rig.step();
        while let Some(got) = peer.receive() {
            assert_eq!(id_of(&[&got[..12], &got[16..]].concat()), next);
            next += 1;
        }
    }
    rig.settle();
    assert_eq!(rig.counters(0).n_dropped(), 0);
    assert!(rig.counters(0).held_turns > 0);
    rig.assert_balanced();
    assert_ledger_is_at_rest(&mut rig);
}

#[test]
fn frames_to_a_full_uplink_are_dropped_by_its_name_when_others_could_go() {
    // Guests in one network, so that something else could go.
    let network = Network {
        members: vec![0, 1, UPLINK],
        frame_max: 1514,
        passes_tags: false,
        ..Network::default()
    };
    let networks = Arc::new(Networks {
        networks: vec![network],
        trunks: vec![Trunk::new([(None, 0)])],
        ..Networks::default()
    });
    let mut rig = Rig::new(1, 3, networks);
    rig.plug(0, ANY, options());
    rig.plug(0, ANY, options());
    let peer = uplink(&mut rig, false);
    introduce(&mut rig, &peer);
    peer.stall(true);
    let (mut n_through, mut id) = (0, 0);
    for _ in 0..4_000 {
        while rig.guests[0].send(
            0,
            &frame(mac(if id % 2 == 0 { 10 } else { 1 }), mac(0), id, 60),
        ) {
            id += 1;
        }
        rig.step();
        n_through += rig.receive_all(1).len();
        rig.guests[0].reclaim_tx(0);
    }
    assert!(
        n_through > 1000,
        "{n_through} got past the uplink that takes nothing"
    );
    assert!(rig.drops(0, DropReason::UplinkFull) > 100);
    assert_eq!(rig.drops(0, DropReason::ReceiverFull), 0);
    assert!(rig.counters(UPLINK).missed > 0);
    rig.assert_balanced();
}

#[test]
fn guest_that_stops_taking_costs_the_wire_its_frames_and_nobody_else_any() {
    let mut rig = guests(&Options {
        rx_ring: 16,
        ..options()
    });
    let peer = uplink(&mut rig, false);
    introduce(&mut rig, &peer);
    let mut got = Vec::new();
    for id in 0..400 {
        assert!(peer.deliver(&tagged(TAG, &frame(mac(0), mac(10), id, 60))));
        assert!(peer.deliver(&frame(mac(1), mac(10), id, 60)));
        rig.step();
        got.extend(rig.receive_all(1).iter().map(|frame| id_of(frame)));
    }
    rig.settle();
    got.extend(rig.receive_all(1).iter().map(|frame| id_of(frame)));
    assert!(
        got.into_iter().eq(0..400),
        "the other guest got everything, in order"
    );
    assert_eq!(rig.drops(UPLINK, DropReason::ReceiverFull), 400 - 16);
    assert_eq!(peer.n_lost(), 0);
    rig.assert_balanced();
    assert_ledger_is_at_rest(&mut rig);
}

#[test]
fn one_wake_up_a_turn_serves_all_guests_that_send() {
    let mut rig = guests(&options());
    let peer = uplink(&mut rig, false);
    introduce(&mut rig, &peer);
    rig.settle();
    let before = peer.n_wakes();
    for port in 0..2 {
        for id in 0..8 {
            rig.guests[usize::from(port)].send(0, &frame(mac(10), mac(port), id, 60));
        }
    }
    rig.step();
    assert_eq!(peer.n_wakes() - before, 1);
    assert_eq!(std::iter::from_fn(|| peer.receive()).count(), 16);
    rig.assert_balanced();
}

#[test]
fn two_ports_of_one_network_pass_frames_between_two_wires() {
    // As a container's veth and an uplink's: neither end is a guest.
    let networks = behind_uplink(UPLINK, 1514, &[(&[0], Some(100))]);
    let mut rig = Rig::new(1, 3, Arc::new(networks));
    let container = MemPort::new(64, false);
    rig.plug_mem(0, Some(0), &container);
    let peer = uplink(&mut rig, false);
    container.send(&frame(mac(10), mac(0), 1, 800));
    rig.settle();
    assert_eq!(
        peer.receive(),
        Some(tagged(TAG, &frame(mac(10), mac(0), 1, 800))),
        "flooded, with the tag"
    );
    peer.deliver(&tagged(TAG, &frame(mac(0), mac(10), 2, 1514)));
    rig.settle();
    assert_eq!(container.receive(), Some(frame(mac(0), mac(10), 2, 1514)));
    rig.assert_balanced();
    assert_ledger_is_at_rest(&mut rig);
}

/// A UDP datagram to station `to` whose checksum is finished, or only begun.
fn datagram(to: u16, payload: &[u8], is_finished: bool) -> Vec<u8> {
    let mut bytes = [
        &mac(to)[..],
        &mac(10),
        &[
            8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ],
    ]
    .concat();
    let len = 8 + payload.len() as u16;
    bytes[16..18].copy_from_slice(&(20 + len).to_be_bytes());
    bytes.extend([0x30, 0x39, 0, 53]);
    bytes.extend(len.to_be_bytes());
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)))
            .sum()
    };
    let mut sum = words(&[10, 0, 0, 1, 10, 0, 0, 2]) + 17 + u32::from(len);
    if is_finished {
        sum += words(&bytes[34..]) + words(payload);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes.extend(
        (if is_finished {
            !(sum as u16)
        } else {
            sum as u16
        })
        .to_be_bytes(),
    );
    bytes.extend(payload);
    bytes
}

#[test]
fn partial_checksum_of_a_veth_is_finished_unless_the_guest_does_that_itself() {
    for (more_features, takes) in [(0, false), (feature::GUEST_CSUM, true)] {
        for options in [
            options(),
            Options {
                rx_shape: vec![100],
                ..options()
            },
        ] {
            let mut rig = guests(&Options {
                more_features,
                ..options
            });
            let peer = uplink(&mut rig, true);
            introduce(&mut rig, &peer);
            for n in [0, 1, 33, 87, 200, 1471] {
                let payload: Vec<u8> = (0..n).map(|at| at as u8 ^ 0x5a).collect();
                for port in 0..2 {
                    let begun = datagram(port, &payload, false);
                    peer.deliver(&if port == 0 {
                        tagged(TAG, &begun)
                    } else {
                        begun.clone()
                    });
                    rig.settle();
                    let guest = &mut rig.guests[usize::from(port)];
                    let got = guest.recv_full(0).expect("it arrived");
                    guest.post_rx(0);
                    let wishes = (
                        got.header.flags,
                        got.header.csum_start,
                        got.header.csum_offset,
                    );
                    if takes {
                        assert_eq!((wishes, &got.frame), ((1, 34, 6), &begun), "{n} bytes");
                    } else {
                        assert_eq!(
                            (wishes, got.frame),
                            ((0, 0, 0), datagram(port, &payload, true)),
                            "{n} bytes"
                        );
                    }
                }
            }
            rig.assert_balanced();
        }
    }
}

#[test]
fn random_traffic_over_a_trunk_balances_to_the_last_frame() {
    for seed in seeds(0..6) {
        let mut dice = Dice::new(seed);
        let mut rig = guests(&Options {
            rx_ring: 64,
            tx_ring: 64,
            ..options()
        });
        let peer = uplink(&mut rig, seed % 2 == 1);
        introduce(&mut rig, &peer);
        peer.hold_completions();
        for id in 0..5_000 {
            let len = 14 + dice.below(3600);
            match dice.below(6) {
                0 | 1 => drop(
                    rig.guests[dice.below(2)]
                        .send(0, &frame(mac(10), mac(dice.below(3) as u16), id, len)),
                ),
                2 => drop(peer.deliver(&frame(mac(1), mac(10), id, len))),
                3 => drop(peer.deliver(&tagged(
                    [0x81, 0, 0, 99 + dice.below(3) as u8],
                    &frame(mac(0), mac(10), id, len),
                ))),
                4 => drop(peer.deliver(&frame(ALL, mac(10), id, len))),
                _ => drop(
                    rig.guests[dice.below(2)]
                        .send(0, &frame(ALL, mac(dice.below(2) as u16), id, len)),
                ),
            }
            if dice.below(3) == 0 {
                peer.stall(dice.below(5) == 0);
                peer.complete(dice.below(30), |n| dice.below(n));
                rig.step();
            }
            if dice.below(10) == 0 {
                drop(rig.receive_all(dice.below(2) as u16));
            }
        }
        peer.stall(false);
        for _ in 0..200 {
            peer.complete(usize::MAX, |n| dice.below(n));
            rig.step();
            rig.drain(0..2);
        }
        rig.settle();
        rig.assert_balanced();
        assert_ledger_is_at_rest(&mut rig);
    }
}
