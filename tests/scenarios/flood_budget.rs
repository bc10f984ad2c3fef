//! What floods may cost: one network of a trunk takes nothing from another, and a guest that sets
//! up its queues anew gets nothing anew.

use std::sync::Arc;

use flowtable::rules::policy::Policy;
use flowtable::rules::rule::Direction::ToVm;
use flowtable::rules::rule::Verdict::Deny;
use flowtable::rules::rule::{Proto, Rule};
use flowtable::{DropReason, Networks, PortId};
use pmd::flood_budget::{COPIES_PER_SEC, COPIES_SAVED, RESERVE_PER_SEC, RESERVE_SAVED};
use pmd::port::mem::MemPort;
use rig::{ALL, ANY, Rig, STEP, behind_uplink, frame, id_of, mac, networks, rewrite, send_raw};

use crate::floods::wide;

/// Members of the VLANs 1 and 2 besides the uplink, which is the last port and their trunk.
const LOUD: u16 = 200;
const QUIET: u16 = 40;
const UPLINK: PortId = LOUD + QUIET;

fn trunk() -> (Rig, Vec<MemPort>, MemPort) {
    let members: Vec<PortId> = (0..UPLINK).collect();
    let (loud, quiet) = members.split_at(usize::from(LOUD));
    let networks = behind_uplink(UPLINK, 1514, &[(loud, Some(1)), (quiet, Some(2))]);
    let mut rig = Rig::with_room(1, usize::from(UPLINK) + 1, Arc::new(networks), 1 << 12);
    let ends: Vec<_> = (0..UPLINK).map(|_| MemPort::new(1 << 20, true)).collect();
    for (port, ends) in (0..).zip(&ends) {
        rig.plug_mem(port, Some(u16::from(port >= LOUD)), ends);
    }
    let wire = MemPort::new(1 << 20, false);
    rig.plug_mem(UPLINK, None, &wire);
    (rig, ends, wire)
}

fn tagged(vlan: u8, id: u64) -> Vec<u8> {
    let bytes = frame(ALL, mac(1000 + u16::from(vlan)), id, 60);
    [&bytes[..12], &[0x81, 0, 0, vlan], &bytes[12..]].concat()
}

#[test]
fn flood_in_one_vlan_off_the_wire_takes_nothing_from_another() {
    // From what is just too much to what no wire can.
    for n_at_once in [1, 3, 20] {
        let (mut rig, ends, wire) = trunk();
        let (time, begin, mut id) = (400_000_000, rig.now, 0u64);
        while rig.now < begin + time {
            (0..n_at_once).for_each(|_| wire.send(&tagged(1, 0)));
            // A thousand a second, each to all members.
            if rig.now % (100 * STEP) == 0 {
                wire.send(&tagged(2, id));
                id += 1;
            }
            rig.step();
            ends[..usize::from(LOUD)]
                .iter()
                .for_each(|ends| while ends.receive().is_some() {});
        }
        rig.settle();
        for ends in &ends[usize::from(LOUD)..] {
            let got: Vec<u64> = std::iter::from_fn(|| ends.receive())
                .map(|bytes| id_of(&bytes))
                .collect();
            assert!(
                got.iter().copied().eq(0..id),
                "{n_at_once} at once: {} of {id} in the other network",
                got.len()
            );
        }
        let counters = rig.counters(UPLINK);
        let dropped = counters.drops[DropReason::FloodLimit.index()];
        assert!(
            dropped > 0 && dropped == counters.n_dropped(),
            "{counters:?}"
        );
        // All together no more than twice what one port may.
        let seconds = |rate: u64| rate * (rig.now - begin) / 1_000_000_000;
        let may =
            COPIES_SAVED + seconds(COPIES_PER_SEC) + 2 * (RESERVE_SAVED + seconds(RESERVE_PER_SEC));
        assert!(
            counters.copies <= may + 3 * u64::from(LOUD),
            "{} of {may}",
            counters.copies
        );
        rig.assert_counted();
    }
}

#[test]
fn guest_that_sets_up_its_queues_again_and_again_gets_no_more_copies_for_it() {
    let (mut rig, ends) = wide(200, true);
    let (time, begin) = (300_000_000, rig.now);
    let mut n_ups = 0;
    while rig.now < begin + time {
        // Down and up in the midst of things, whenever all that may be copied at once is.
        for _ in 0..250 {
            while rig.guests[0].send(0, &frame(ALL, mac(0), 1, 60)) {}
            rig.step();
            rig.guests[0].reclaim_tx(0);
            ends.iter()
                .for_each(|ends| while ends.receive().is_some() {});
        }
        rig.down(0);
        (0..2).for_each(|vring| rig.guests[0].reset_vring(vring));
        rig.up(0, 0, ANY);
        n_ups += 1;
        rig.cores
            .age(u32::try_from(rig.now / 1_000_000_000).unwrap(), 300);
    }
    let (copies, may) = (
        rig.counters(0).copies,
        COPIES_SAVED + COPIES_PER_SEC * (rig.now - begin) / 1_000_000_000,
    );
    assert!(
        n_ups > 100 && copies <= may + 200,
        "{copies} of {may} after {n_ups} times"
    );
    assert!(copies * 100 > may * 90, "{copies} of {may}");
    rig.assert_counted();
}

#[test]
fn flood_behind_one_that_its_guest_has_rewritten_reaches_every_member() {
    let (mut rig, ends) = wide(1200, true);
    // More than the budget is for, so that some wait for it behind the rewritten one.
    for id in 0..60 {
        let begun = rig.counters(0).forwarded;
        send_raw(&mut rig.guests[0], &frame(ALL, mac(0), 1_000, 60));
        while rig.counters(0).forwarded == begun {
            rig.step();
        }
        assert!(
            rig.counters(0).forwarded - begun < 1200,
            "it is to stop on the way"
        );
        rewrite(
            &rig.guests[0],
            &frame([1, 0x80, 0xc2, 0, 0, 14], mac(0), 1_000, 60),
        );
        rig.guests[0].send(0, &frame(ALL, mac(0), id, 60));
        while rig.counters(0).rx_frames < 2 * (id + 1) {
            rig.step();
        }
        rig.guests[0].reclaim_tx(0);
        for (port, ends) in (1..).zip(&ends) {
            let got: Vec<u64> = std::iter::from_fn(|| ends.receive())
                .map(|bytes| id_of(&bytes))
                .collect();
            assert_eq!(
                got.iter().filter(|&&got| got == id).count(),
                1,
                "flood {id} at port {port}: {got:?}"
            );
            assert!(
                got.iter().filter(|&&got| got == 1_000).count() <= 1,
                "port {port}: {got:?}"
            );
        }
    }
    rig.assert_counted();
}

#[test]
fn flood_goes_on_with_the_right_member_when_the_network_has_changed() {
    let all: Vec<PortId> = (0..=1200).collect();
    let some = |gone: &[PortId]| {
        all.iter()
            .copied()
            .filter(|port| !gone.contains(port))
            .collect::<Vec<_>>()
    };
    // Those before the one at which it stops, that one, and those behind.
    for gone in [&[3, 4][..], &[510, 511, 512, 513, 514, 515], &[700]] {
        let (mut rig, ends) = wide(1200, true);
        rig.cores.set_networks(&networks(&[&some(gone)]));
        rig.step();
        rig.cores.set_networks(&networks(&[&all]));
        rig.step();
        assert!(rig.guests[0].send(0, &frame(ALL, mac(0), 7, 60)));
        rig.step();
        assert_eq!(rig.counters(0).forwarded, 512);
        rig.cores.set_networks(&networks(&[&some(gone)]));
        rig.settle();
        for (port, ends) in (1..).zip(&ends) {
            let n = std::iter::from_fn(|| ends.receive()).count();
            assert!(
                n == 1 || (n == 0 && gone.contains(&port)),
                "port {port} got {n}, {gone:?} gone"
            );
        }
        rig.assert_counted();
    }
}

/// A network of so many members of which all but the first want nothing; the first two are up, or
/// all.
fn unwilling(n: u16, are_up: bool) -> Rig {
    let deny = Rule {
        direction: ToVm,
        verdict: Deny,
        proto: Proto::Ip,
        cidr: None,
        numbers: Vec::new(),
    };
    let deny = [
        deny.clone(),
        Rule {
            proto: Proto::Arp,
            ..deny
        },
    ];
    let policies = (0..n)
        .map(|port| (port > 0).then(|| Arc::new(Policy::new(&deny))))
        .collect();
    let members: Vec<u16> = (0..n).collect();
    let networks = Networks::clone(&networks(&[&members])).with_policies(policies, 1);
    let mut rig = Rig::with_room(1, usize::from(n), Arc::new(networks), 1 << 13);
    rig.plug(0, ANY, rig::options());
    let n_up = if are_up { n } else { 2 };
    (1..n_up).for_each(|port| rig.plug_mem(port, Some(0), &MemPort::new(16, true)));
    rig
}

#[test]
fn flood_that_all_rules_refuse_or_that_finds_nobody_costs_what_any_does() {
    const N: u16 = 1200;
    for are_up in [true, false] {
        let mut rig = unwilling(N, are_up);
        let (time, begin, mut before, mut n) = (200_000_000, rig.now, 0, 0);
        while rig.now < begin + time {
            while rig.guests[0].send(0, &frame(ALL, mac(0), 1, 60)) {}
            rig.step();
            rig.guests[0].reclaim_tx(0);
            let counters = rig.counters(0);
            let refused = counters.drops[DropReason::Denied.index()];
            assert!(
                refused - before <= 512,
                "{} refused in one turn",
                refused - before
            );
            (before, n) = (refused, counters.rx_frames);
        }
        // Each frame is worth the members that are looked at for it, all but the first.
        let may = (COPIES_SAVED + COPIES_PER_SEC * (rig.now - begin) / 1_000_000_000)
            / u64::from(N - 2)
            + 2;
        assert!(n <= may, "{n} frames, of {may}, members up: {are_up}");
        assert!(n >= may / 2, "{n} frames, of {may}, members up: {are_up}");
        rig.assert_counted();
    }
}
