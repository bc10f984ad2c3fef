//! A tag that says a priority alone (VLAN 0) counts as none, wherever it comes from and wherever
//! its frame goes; and it hides no other tag.

use rig::behind_uplink;

use super::*;

const PRIORITIES: [[u8; 4]; 3] = [[0x81, 0, 0xe0, 0], [0x81, 0, 0, 0], [0x88, 0xa8, 0xa0, 0]];

/// Guests 0 and 1 and the uplink in one network.
fn one_network(vlan: Option<u16>, options: &Options) -> (Rig, XskPeer) {
    let networks = behind_uplink(UPLINK, 1514, &[(&[0, 1], vlan)]);
    let mut rig = Rig::new(1, 3, Arc::new(networks));
    rig.plug(0, ANY, options.clone());
    rig.plug(0, ANY, options.clone());
    let peer = uplink(&mut rig, false);
    peer.deliver(&on_wire(vlan, frame(ALL, mac(10), 0, 60)));
    assert!(rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60)));
    assert!(rig.guests[0].send(0, &frame(ALL, mac(0), 0, 60)));
    rig.settle();
    rig.drain(0..2);
    while peer.receive().is_some() {}
    (rig, peer)
}

fn on_wire(vlan: Option<u16>, frame: Vec<u8>) -> Vec<u8> {
    match vlan {
        Some(vlan) => tagged([0x81, 0, 0, vlan as u8], &frame),
        None => frame,
    }
}

/// What guest 1 and the wire get.
fn arrived(rig: &mut Rig, peer: &XskPeer) -> [Vec<Vec<u8>>; 2] {
    rig.settle();
    [
        rig.receive_all(1),
        std::iter::from_fn(|| peer.receive()).collect(),
    ]
}

#[test]
fn priority_of_a_guests_frame_counts_as_no_tag_in_unicast_and_flood_whatever_its_pieces() {
    let shapes = [
        (1, false),
        (1, true),
        (2, false),
        (3, true),
        (20, false),
        (60, true),
    ];
    for (vlan, (tx_parts, tx_header_apart)) in [Some(100), None]
        .into_iter()
        .flat_map(|v| shapes.map(|s| (v, s)))
    {
        let (mut rig, peer) = one_network(
            vlan,
            &Options {
                tx_parts,
                tx_header_apart,
                ..options()
            },
        );
        let mut id = 0;
        for len in [
            14, 15, 18, 60, 64, 123, 124, 125, 127, 128, 129, 131, 132, 133, 200, 1514,
        ] {
            for (dst, to_guest, to_wire) in [
                (mac(1), true, false),
                (mac(10), false, true),
                (ALL, true, true),
                (mac(77), true, true),
            ] {
                // New the first time, remembered afterwards, and the same as without a tag.
                for tag in [
                    Some(PRIORITIES[0]),
                    None,
                    Some(PRIORITIES[1]),
                    Some(PRIORITIES[2]),
                ] {
                    id += 1;
                    let plain = frame(dst, mac(0), id, len);
                    let sent = tag.map_or_else(|| plain.clone(), |tag| tagged(tag, &plain));
                    assert!(rig.guests[0].send(0, &sent));
                    let expected = [
                        if to_guest {
                            vec![plain.clone()]
                        } else {
                            vec![]
                        },
                        if to_wire {
                            vec![on_wire(vlan, plain)]
                        } else {
                            vec![]
                        },
                    ];
                    let got = arrived(&mut rig, &peer);
                    assert_eq!(
                        got, expected,
                        "{vlan:?}, {tx_parts} parts, {len} bytes, {tag:?}, to {dst:?}"
                    );
                    rig.guests[0].reclaim_tx(0);
                }
            }
        }
        assert_eq!(rig.counters(0).n_dropped(), 0);
        assert!(rig.guests[0].send(0, &tagged(PRIORITIES[0], &frame(mac(1), mac(0), id, 1515))));
        assert_eq!(arrived(&mut rig, &peer), [vec![], Vec::<Vec<u8>>::new()]);
        assert_eq!(
            rig.drops(0, DropReason::TooBig),
            1,
            "the frame itself, not its tag"
        );
        rig.assert_balanced();
        assert_ledger_is_at_rest(&mut rig);
    }
}

#[test]
fn burst_of_frames_with_and_without_priority_and_foreign_tags_keeps_its_order() {
    let (mut rig, peer) = one_network(
        Some(100),
        &Options {
            tx_parts: 3,
            ..options()
        },
    );
    let foreign = [0x81, 0, 0, 7];
    for id in 0..32 {
        let plain = frame(
            if id % 4 < 2 { mac(1) } else { ALL },
            mac(0),
            id,
            100 + id as usize,
        );
        let sent = match id % 3 {
            0 => tagged(PRIORITIES[0], &plain),
            1 => plain,
            _ => tagged(foreign, &plain),
        };
        assert!(rig.guests[0].send(0, &sent));
    }
    let [guest, wire] = arrived(&mut rig, &peer);
    assert!(
        guest
            .iter()
            .map(|frame| id_of(frame))
            .eq((0..32).filter(|id| id % 3 != 2))
    );
    assert!(wire.iter().all(|frame| frame[12..16] == TAG), "{wire:02x?}");
    assert_eq!(
        wire.len(),
        (0..32).filter(|id| id % 4 >= 2 && id % 3 != 2).count()
    );
    assert_eq!(
        rig.drops(0, DropReason::Tagged),
        (0..32).filter(|id| id % 3 == 2).count() as u64
    );
    rig.assert_balanced();
}

#[test]
fn priority_tag_hides_no_other_tag() {
    for vlan in [Some(100), None] {
        let (mut rig, peer) = one_network(vlan, &options());
        let mut n_tagged = 0;
        for dst in [mac(1), mac(10), ALL] {
            let plain = frame(dst, mac(0), 1, 60);
            // First something that goes and is remembered, by whose memory the others must not go.
            rig.guests[0].send(0, &tagged(PRIORITIES[0], &plain));
            rig.guests[0].send(0, &plain);
            let got = arrived(&mut rig, &peer);
            assert!(got.iter().any(|frames| frames.len() == 2), "{got:?}");
            for outer in PRIORITIES {
                for inner in [
                    [0x81, 0, 0, 100],
                    [0x81, 0, 0, 101],
                    [0x88, 0xa8, 0, 100],
                    [0x81, 0, 0, 0],
                ] {
                    rig.guests[0].send(0, &tagged(outer, &tagged(inner, &plain)));
                    n_tagged += 1;
                }
                // Cut within the tag, or before what follows it; the rest of the header is left
                // over from a good frame.
                for len in 14..18 {
                    rig.guests[0].send(0, &tagged(outer, &plain)[..len]);
                    n_tagged += 1;
                }
                assert_eq!(
                    arrived(&mut rig, &peer),
                    [vec![], Vec::<Vec<u8>>::new()],
                    "{vlan:?}, {outer:?}, to {dst:?}"
                );
                rig.guests[0].reclaim_tx(0);
            }
        }
        assert_eq!(rig.drops(0, DropReason::Tagged), n_tagged);
        rig.assert_balanced();
    }
}

#[test]
fn priority_of_a_containers_frame_counts_as_no_tag_and_its_checksum_is_finished() {
    // Port 2 is a veth's end in the guests' network, which no wire carries a tag of.
    let network = Network {
        members: vec![0, 1, UPLINK],
        frame_max: 1514,
        ..Network::default()
    };
    let mut rig = Rig::new(
        1,
        3,
        Arc::new(Networks {
            networks: vec![network],
            ..Networks::default()
        }),
    );
    rig.plug(0, ANY, options());
    rig.plug(0, ANY, options());
    let peer = device(&mut rig, Some(0), true, [N_RX, N_TX]);
    assert!(rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60)));
    rig.settle();
    for n in [0, 33, 87, 200, 1472] {
        let payload: Vec<u8> = (0..n).map(|at| at as u8 ^ 0x5a).collect();
        for priority in PRIORITIES {
            peer.deliver(&tagged(priority, &datagram(1, &payload, false)));
            rig.settle();
            assert_eq!(
                rig.receive_all(1),
                [datagram(1, &payload, true)],
                "{n} bytes, {priority:?}"
            );
        }
    }
    peer.deliver(&tagged(TAG, &datagram(1, &[7; 60], false)));
    peer.deliver(&tagged(
        PRIORITIES[0],
        &tagged(TAG, &datagram(1, &[7; 60], false)),
    ));
    rig.settle();
    assert_eq!(rig.receive_all(1), Vec::<Vec<u8>>::new());
    assert_eq!(rig.drops(UPLINK, DropReason::Tagged), 2);
    rig.assert_balanced();
}

#[test]
fn two_tags_count_for_no_length_where_guests_tags_pass() {
    let mut rig = Rig::new(1, 2, rig::networks(&[&[0, 1]]));
    let options = Options {
        tx_frame_bytes: 9023,
        rx_shape: vec![9100],
        ..options()
    };
    rig.plug(0, ANY, options.clone());
    rig.plug(0, ANY, options);
    assert!(rig.guests[1].send(0, &frame(ALL, mac(1), 0, 60)));
    rig.settle();
    let two = |plain: &[u8]| tagged([0x88, 0xa8, 0, 7], &tagged([0x81, 0, 0, 0], plain));
    for dst in [mac(1), ALL] {
        let sent = two(&frame(dst, mac(0), 1, 9014));
        assert_eq!(sent.len(), 9022);
        assert!(rig.guests[0].send(0, &sent));
        rig.settle();
        assert_eq!(rig.receive_all(1), [sent], "to {dst:?}");
        assert!(rig.guests[0].send(0, &two(&frame(dst, mac(0), 2, 9015))));
        rig.settle();
        assert!(rig.receive_all(1).is_empty());
    }
    assert_eq!(rig.drops(0, DropReason::TooBig), 2);
    rig.assert_balanced();
}
