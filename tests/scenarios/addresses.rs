//! Whose an address is, on the whole switch: floods of sources from a guest and from the wire, and
//! guests that move.

use std::collections::BTreeSet;
use std::sync::Arc;

use flowtable::{DropReason, Ingress, PortId, SourcePolicy};
use guest::Options;
use pmd::control::PortUp;
use pmd::port::mem::MemPort;
use pmd::port::{RxQueue, TxQueue};
use rig::{ALL, Rig, behind_uplink, frame, ingress, mac, options};

/// Port 0 is the guest that matters, 1 its neighbour, 2 the uplink.
const GUEST: PortId = 0;
const NEIGHBOUR: PortId = 1;
const UPLINK: PortId = 2;
/// A station behind the uplink.
const STATION: u16 = 10;
const N_SOURCES: u32 = if cfg!(miri) { 100 } else { 50_000 };
const N_SENDERS: u32 = 70_000;
/// Addresses that an uplink learns.
const UPLINK_MACS: u32 = 1 << 16;

fn numbered(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [2, 9, a, b, c, d]
}

fn source_of(frame: &[u8]) -> [u8; 6] {
    std::array::from_fn(|at| frame[6 + at])
}

/// A switch of so many cores, its guest with two queue pairs, and the wire.
fn rig(n_cores: usize, source: SourcePolicy, n_macs: usize) -> (Rig, MemPort) {
    let networks = behind_uplink(UPLINK, 1514, &[(&[GUEST, NEIGHBOUR], None)]);
    let mut rig = Rig::with_room(n_cores, 3, Arc::new(networks), n_macs);
    rig.plug(
        0,
        source,
        Options {
            n_queue_pairs: 2,
            ..options()
        },
    );
    rig.plug(0, SourcePolicy::Sticky, options());
    let wire = MemPort::new(1 << 10, false);
    let ingress = Ingress {
        trunk: Some(0),
        ..ingress(UPLINK, u16::MAX, SourcePolicy::Any(UPLINK_MACS))
    };
    let (rxqs, txqs) = (vec![RxQueue::mem(UPLINK, &wire)], vec![TxQueue::mem(&wire)]);
    rig.cores.up(PortUp {
        ingress,
        rxqs,
        txqs,
    });
    rig.step();
    wire.send(&frame(ALL, mac(STATION), 0, 60));
    rig.settle();
    assert!(rig.guests[1].send(0, &frame(ALL, mac(NEIGHBOUR), 0, 60)));
    rig.settle();
    (rig, wire)
}

/// What arrived anywhere since this was asked before.
fn arrived(rig: &mut Rig, wire: &MemPort) -> Vec<Vec<u8>> {
    let mut frames = rig.receive_all(NEIGHBOUR);
    frames.extend(std::iter::from_fn(|| wire.receive()));
    rig.receive_all(GUEST);
    frames
}

#[test]
fn flood_of_sources_brings_through_what_the_port_may_have_and_not_one_frame_more() {
    for n_cores in [1, 2] {
        for (source, n_allowed) in [
            (SourcePolicy::Sticky, 1),
            (SourcePolicy::Learn(4), 4),
            (SourcePolicy::Fixed(mac(GUEST)), 0),
        ] {
            let (mut rig, wire) = rig(n_cores, source, 1 << 16);
            let cores: Vec<_> = (0..n_cores).collect();
            arrived(&mut rig, &wire);
            let (mut n, mut through) = (0, BTreeSet::new());
            while n < N_SOURCES {
                // Different ones on each of its queues, to either destination.
                for (k, pair) in [0, 0, 1, 1].into_iter().cycle().take(64).enumerate() {
                    let to = mac(if k % 2 == 0 { NEIGHBOUR } else { STATION });
                    n += u32::from(
                        rig.guests[0].send(pair, &frame(to, numbered(n), u64::from(n), 60)),
                    );
                }
                rig.step_together(&cores);
                through.extend(
                    arrived(&mut rig, &wire)
                        .iter()
                        .map(|frame| source_of(frame)),
                );
            }
            rig.settle();
            through.extend(
                arrived(&mut rig, &wire)
                    .iter()
                    .map(|frame| source_of(frame)),
            );
            assert_eq!(
                through.len(),
                n_allowed,
                "{n_cores} cores, {source:?}: those that it may have"
            );
            let counters = rig.counters(GUEST);
            assert_eq!(counters.rx_frames, u64::from(n), "all were taken");
            assert!(counters.n_dropped() >= u64::from(n) - 4, "{counters:?}");
            rig.assert_balanced();
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn wire_with_more_senders_than_an_uplink_learns_loses_none_of_their_frames() {
    // The table is full first, or the uplink has as many as it may.
    for n_macs in [1 << 15, 1 << 17] {
        flood_from_the_wire(rig(1, SourcePolicy::Sticky, n_macs));
    }
}

fn flood_from_the_wire((mut rig, wire): (Rig, MemPort)) {
    assert!(rig.guests[0].send(0, &frame(ALL, mac(GUEST), 0, 60)));
    rig.settle();
    arrived(&mut rig, &wire);
    let mut got = 0;
    for n in 0..N_SENDERS {
        wire.send(&frame(mac(GUEST), numbered(n), u64::from(n), 60));
        if n % 32 == 31 || n == N_SENDERS - 1 {
            rig.step();
            got += rig.receive_all(GUEST).len();
        }
    }
    rig.settle();
    got += rig.receive_all(GUEST).len();
    assert_eq!(
        (got as u32, rig.counters(UPLINK).n_dropped()),
        (N_SENDERS, 0)
    );
    // And who comes late has a place.
    assert!(rig.cores.macs().n_addresses(UPLINK) < N_SENDERS);
    rig.down(NEIGHBOUR);
    rig.cores.macs().unpin(NEIGHBOUR);
    rig.up(NEIGHBOUR, 0, SourcePolicy::Sticky);
    assert!(rig.guests[1].send(0, &frame(mac(GUEST), mac(77), 1, 60)));
    rig.settle();
    assert_eq!(rig.receive_all(GUEST).len(), 1);
    assert_eq!(
        rig.cores.macs().find(0, mac(77)).map(|found| found.port),
        Some(NEIGHBOUR)
    );
    rig.assert_balanced();
}

#[test]
fn guest_that_moved_away_is_reached_by_the_uplink_and_is_itself_again_when_it_is_back() {
    for source in [SourcePolicy::Fixed(mac(GUEST)), SourcePolicy::Sticky] {
        let (mut rig, wire) = rig(1, source, 1 << 10);
        let send = |rig: &mut Rig, from: PortId, to| {
            assert!(rig.guests[usize::from(from)].send(0, &frame(mac(to), mac(from), 7, 60)));
            rig.settle();
        };
        send(&mut rig, GUEST, NEIGHBOUR);
        arrived(&mut rig, &wire);
        send(&mut rig, NEIGHBOUR, GUEST);
        assert_eq!(rig.receive_all(GUEST).len(), 1);
        // Its front-end has stopped its rings, and is still connected.
        rig.down(GUEST);
        rig.cores.macs().rest(GUEST);
        for _ in 0..2 {
            send(&mut rig, NEIGHBOUR, GUEST);
            assert_eq!(
                arrived(&mut rig, &wire),
                [frame(mac(GUEST), mac(NEIGHBOUR), 7, 60)],
                "by the uplink"
            );
        }
        wire.send(&frame(mac(NEIGHBOUR), mac(GUEST), 8, 60));
        rig.settle();
        assert_eq!(
            arrived(&mut rig, &wire),
            [frame(mac(NEIGHBOUR), mac(GUEST), 8, 60)]
        );
        assert_eq!(
            [DropReason::Spoofed, DropReason::PortDown].map(|reason| rig.drops(UPLINK, reason)),
            [0, 0]
        );
        assert_eq!(rig.drops(NEIGHBOUR, DropReason::PortDown), 0);
        // Back.
        rig.up(GUEST, 0, source);
        rig.step();
        send(&mut rig, NEIGHBOUR, GUEST);
        assert_eq!(rig.receive_all(GUEST).len(), 1);
        assert_eq!(wire.receive(), None);
        send(&mut rig, GUEST, NEIGHBOUR);
        assert_eq!(rig.receive_all(NEIGHBOUR).len(), 1);
        wire.send(&frame(mac(NEIGHBOUR), mac(GUEST), 9, 60));
        rig.settle();
        assert_eq!(rig.drops(UPLINK, DropReason::Spoofed), 1);
        rig.assert_balanced();
    }
}

#[test]
fn thief_of_the_gateways_address_gets_nothing_while_the_gateway_speaks() {
    let (mut rig, wire) = rig(1, SourcePolicy::Sticky, 1 << 10);
    let (gateway, mut answered) = (mac(STATION), 0);
    arrived(&mut rig, &wire);
    // Two seconds: the thief as fast as the switch is, the gateway every 300 ms.
    for n in 0..200_000u64 {
        if n % 10 == 0 {
            rig.guests[0].send(0, &frame(mac(NEIGHBOUR), gateway, n, 60));
        }
        if n % 30_000 == 29_999 {
            wire.send(&frame(mac(NEIGHBOUR), gateway, n, 60));
        }
        rig.step();
        if n % 1000 == 999 {
            answered += rig.receive_all(NEIGHBOUR).len();
            rig.receive_all(GUEST);
        }
    }
    assert_eq!(answered, 6, "the gateway's own frames");
    assert_eq!(rig.drops(UPLINK, DropReason::Spoofed), 0);
    assert_eq!(
        rig.drops(GUEST, DropReason::Spoofed),
        rig.counters(GUEST).rx_frames
    );
    rig.assert_balanced();
}
