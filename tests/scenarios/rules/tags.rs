//! Tags before a packet: rules see the same of a unicast and of a flood, from a guest and from a
//! wire.

use std::sync::Arc;

use flowtable::Policy;
use pmd::ring::xsk::peer::XskPeer;
use rig::{ALL, Rig, behind_uplink, mac, options};

use super::packets::{Packet, tcp};
use super::{ANY, Direction, FromVm, Ruled, ToVm, deny_port};

const UPLINK: u16 = 1;

/// A frame with so many tags of its own.
fn with_tags(packet: Packet, dst: [u8; 6], src: [u8; 6], n_tags: usize) -> Vec<u8> {
    let frame = packet.frame(dst, src, false, 1);
    [&frame[..12], &[0x81, 0, 0, 7].repeat(n_tags), &frame[12..]].concat()
}

/// Whether a frame to this port comes to somebody whose rules deny port 25: two tags are looked
/// behind, and where there are more nothing can be read.
fn passes(port: u16, n_tags: usize) -> bool {
    port == 26 && n_tags <= 2
}

#[test]
fn guests_tags_are_looked_behind_in_unicasts_and_in_floods() {
    let mut ruled = Ruled::new(2);
    ruled.set(&[vec![], deny_port(ToVm, 25)]);
    for n_tags in 0..=3 {
        for port in [25, 26] {
            for dst in [mac(1), ALL] {
                let got = ruled.send(0, &with_tags(tcp(port), dst, mac(0), n_tags));
                assert_eq!(
                    got == [1],
                    passes(port, n_tags),
                    "{n_tags} tags, port {port}, to {dst:?}"
                );
            }
        }
    }
}

#[test]
fn guests_priority_tag_is_not_there_for_rules_and_leads_past_none() {
    // What comes to the guest is denied as what it sends: both ends of the rule see the frame
    // without the tag.
    for direction in [ToVm, FromVm] {
        let (mut rig, peer) = wired_by(Some(100), direction);
        for (tag, port) in [[0x81, 0, 0xe0, 0], [0x88, 0xa8, 0, 0]]
            .into_iter()
            .flat_map(|tag| [25, 26].map(|p| (tag, p)))
        {
            for dst in [mac(10), ALL] {
                for _ in 0..2 {
                    let frame = tcp(port).frame(dst, mac(0), false, 1);
                    assert!(rig.guests[0].send(0, &[&frame[..12], &tag, &frame[12..]].concat()));
                    rig.settle();
                    let expected = (direction == ToVm || port == 26)
                        .then(|| [&frame[..12], &[0x81, 0, 0, 100], &frame[12..]].concat());
                    assert_eq!(
                        peer.receive(),
                        expected,
                        "{direction:?}, {tag:?}, port {port}, to {dst:?}"
                    );
                }
            }
        }
        rig.assert_balanced();
    }
}

/// A guest in a network of this VLAN, whose rules deny port 25, and the wire.
fn wired(vlan: Option<u16>) -> (Rig, XskPeer) {
    wired_by(vlan, ToVm)
}

fn wired_by(vlan: Option<u16>, direction: Direction) -> (Rig, XskPeer) {
    let networks = behind_uplink(UPLINK, 3512, &[(&[0], vlan)]);
    let policies = vec![Some(Arc::new(Policy::new(&deny_port(direction, 25))))];
    let mut rig = Rig::new(1, 2, Arc::new(networks.with_policies(policies, 1)));
    rig.plug(0, ANY, options());
    let peer = rig.plug_device(UPLINK, None, false, [64, 64]);
    assert!(rig.guests[0].send(0, &tcp(26).frame(ALL, mac(0), false, 0)));
    rig.settle();
    while peer.receive().is_some() {}
    (rig, peer)
}

#[test]
fn networks_tag_counts_for_none_and_those_behind_it_are_looked_behind() {
    // By a VLAN, by a tag that says its priority alone, and without any tag of the network's.
    for (vlan, outer) in [
        (Some(100), &[0x88, 0xa8, 0, 100][..]),
        (None, &[0x81, 0, 0xe0, 0]),
        (None, &[]),
    ] {
        let (mut rig, peer) = wired(vlan);
        // Where the network has no tag, a frame's own first one would name a VLAN.
        for n_tags in 0..=if outer.is_empty() { 0 } else { 3 } {
            for port in [25, 26] {
                for dst in [mac(0), ALL] {
                    let frame = with_tags(tcp(port), dst, mac(10), n_tags);
                    assert!(peer.deliver(&[&frame[..12], outer, &frame[12..]].concat()));
                    rig.settle();
                    let expected = if passes(port, n_tags) {
                        vec![frame]
                    } else {
                        vec![]
                    };
                    assert_eq!(
                        rig.receive_all(0),
                        expected,
                        "{outer:?}, {n_tags} tags, port {port}, to {dst:?}"
                    );
                }
            }
        }
        rig.assert_balanced();
    }
}
