//! Networks, rules and addresses that change under frames that flow.

use std::sync::Arc;

use flowtable::rules::rule::{Proto, Rule};
use flowtable::{Direction, DropReason, Ingress, Networks, Policy, PortId, SourcePolicy, Verdict};
use guest::Options;
use pmd::limit::{LimitOptions, QueueOptions};
use pmd::port::mem::MemPort;
use rig::{ALL, ANY, MS, NO_LIMIT, Rig, behind_uplink, frame, id_of, mac, networks, options};

use super::{add, remove, with_members};

fn deny(direction: Direction) -> Option<Arc<Policy>> {
    let rule = Rule {
        direction,
        verdict: Verdict::Deny,
        proto: Proto::NonIp,
        cidr: None,
        numbers: Vec::new(),
    };
    Some(Arc::new(Policy::new(&[rule])))
}

/// Pairs of guests, each pair in a network of its own, that know each other.
fn pairs(n_cores: usize, n_pairs: u16) -> (Rig, Vec<MemPort>, Networks) {
    let members: Vec<Vec<PortId>> = (0..n_pairs).map(|n| vec![2 * n, 2 * n + 1]).collect();
    let networks = with_members(&members);
    let n_ports = 2 * n_pairs;
    let mut rig = Rig::with_room(n_cores, usize::from(n_ports), networks.clone(), 1 << 10);
    let ends: Vec<_> = (0..n_ports)
        .map(|port| {
            let ends = MemPort::new(1 << 20, true);
            add(&mut rig, rig::ingress(port, port / 2, ANY), &ends);
            ends
        })
        .collect();
    for port in 0..n_ports {
        ends[usize::from(port)].send(&frame(ALL, mac(port), 0, 60));
        rig.settle();
    }
    drain(&ends);
    (rig, ends, Networks::clone(&networks))
}

fn drain(ends: &[MemPort]) -> usize {
    ends.iter()
        .map(|end| std::iter::from_fn(|| end.receive()).count())
        .sum()
}

fn ids(end: &MemPort) -> Vec<u64> {
    std::iter::from_fn(|| end.receive())
        .map(|frame| id_of(&frame))
        .collect()
}

/// Takes a change through.
fn change(rig: &mut Rig, ingress: Ingress, mut meanwhile: impl FnMut(&mut Rig)) {
    let change = rig.cores.start_set_ingress(&ingress);
    for _ in 0..1000 {
        if let Some(changed) = rig.cores.try_finish_change(&change) {
            return changed.expect("room for its address");
        }
        meanwhile(rig);
        rig.step();
    }
    panic!("the change did not end");
}

#[test]
fn changed_rules_hold_for_cached_flows_and_other_networks_keep_theirs() {
    let (mut rig, ends, networks) = pairs(2, 2);
    let send = |rig: &mut Rig, id: u64| {
        for (from, to) in [(0, 1), (2, 3)] {
            ends[from].send(&frame(mac(to), mac(from as u16), id, 60));
        }
        rig.settle();
        [1, 3].map(|to| drain(&ends[to..=to]))
    };
    for id in 1..5 {
        assert_eq!(send(&mut rig, id), [1, 1]);
    }
    for (policies, arrives) in [
        (vec![None, deny(Direction::ToVm)], [0, 1]),
        (vec![], [1, 1]),
        (vec![deny(Direction::FromVm)], [0, 1]),
        (vec![deny(Direction::ToVm)], [1, 1]),
        (vec![None, None, deny(Direction::FromVm)], [1, 0]),
    ] {
        let others = networks.clone().with_policies(policies, 0);
        rig.cores.set_networks(&Arc::new(others));
        rig.step();
        for id in 5..9 {
            assert_eq!(send(&mut rig, id), arrives);
        }
    }
    // A change elsewhere costs a network's flows nothing.
    rig.cores.set_networks(&Arc::new(networks.clone()));
    rig.step();
    assert_eq!(send(&mut rig, 9), [1, 1]);
    let misses = rig.cores.flows().misses;
    for n in 0..4 {
        let policy = if n % 2 == 0 {
            deny(Direction::ToVm)
        } else {
            None
        };
        let others = networks
            .clone()
            .with_policies(vec![None, None, None, None, policy], 0);
        let mut others = others;
        others.networks.push(flowtable::Network {
            members: vec![4],
            ..flowtable::Network::default()
        });
        rig.cores.set_networks(&Arc::new(others));
        rig.step();
        assert_eq!(send(&mut rig, 10), [1, 1]);
    }
    assert_eq!(rig.cores.flows().misses, misses, "nothing was decided anew");
}

#[test]
fn longest_frame_is_that_of_the_present() {
    let (mut rig, ends, networks) = pairs(1, 1);
    for (frame_max, n_arrive) in [(9014, 1), (514, 0), (1014, 1)] {
        let mut others = networks.clone();
        others.networks[0].frame_max = frame_max;
        rig.cores.set_networks(&Arc::new(others));
        rig.step();
        ends[0].send(&frame(mac(1), mac(0), 1, 900));
        rig.settle();
        assert_eq!(drain(&ends[1..2]), n_arrive, "{frame_max}");
    }
    assert_eq!(rig.drops(0, DropReason::TooBig), 1);
}

#[test]
fn who_is_no_member_any_more_gets_no_flood() {
    let (mut rig, ends, _) = pairs(2, 1);
    for (members, n_arrive) in [(vec![0, 1], 1), (vec![0], 0), (vec![1, 0], 1)] {
        rig.cores.set_networks(&with_members(&[members]));
        rig.step();
        ends[0].send(&frame(ALL, mac(0), 1, 60));
        rig.settle();
        assert_eq!(drain(&ends[1..2]), n_arrive);
    }
    rig.assert_counted();
}

/// A VLAN that leads to another network than before: what was decided by the one before is void in
/// both directions.
#[test]
fn vlan_leads_to_another_network_from_one_turn_to_the_next() {
    let before = behind_uplink(2, 1514, &[(&[0], Some(7)), (&[1], Some(8))]);
    let after = behind_uplink(2, 1514, &[(&[0], Some(8)), (&[1], Some(7))]);
    let mut rig = Rig::with_room(1, 3, Arc::new(before.clone()), 1 << 10);
    let ends: Vec<_> = (0..3).map(|n| MemPort::new(1 << 20, n < 2)).collect();
    add(&mut rig, rig::ingress(0, 0, ANY), &ends[0]);
    add(&mut rig, rig::ingress(1, 1, ANY), &ends[1]);
    let uplink = Ingress {
        trunk: Some(0),
        ..rig::ingress(2, u16::MAX, SourcePolicy::Any(1000))
    };
    add(&mut rig, uplink, &ends[2]);
    let tagged = |dst: [u8; 6], src: [u8; 6], vlan: u16| {
        let mut bytes = [
            &dst[..],
            &src,
            &[0x81, 0],
            &vlan.to_be_bytes(),
            &[0x88, 0xb5],
        ]
        .concat();
        bytes.resize(64, 0);
        bytes
    };
    let hello = |rig: &mut Rig| {
        for port in 0..2 {
            ends[usize::from(port)].send(&frame(ALL, mac(port), 0, 60));
        }
        rig.settle();
    };
    hello(&mut rig);
    for round in 0..6 {
        let (networks, vlan_of) = if round % 2 == 0 {
            (&before, [7, 8])
        } else {
            (&after, [8, 7])
        };
        rig.cores.set_networks(&Arc::new(networks.clone()));
        rig.settle();
        drain(&ends);
        // In: cached after the first.
        for _ in 0..3 {
            for (to, vlan) in (0..2).zip(vlan_of) {
                ends[2].send(&tagged(mac(to), mac(100), vlan));
                rig.settle();
                let n = [0, 1].map(|port| drain(&ends[port..=port]));
                assert_eq!(n[usize::from(1 - to)], 0, "round {round}");
                assert_eq!(n[usize::from(to)], 1, "round {round}");
            }
        }
        // Out.
        for (from, vlan) in (0..2u16).zip(vlan_of) {
            ends[usize::from(from)].send(&frame(mac(100), mac(from), 1, 60));
            rig.settle();
            let frame = ends[2].receive().expect("it leaves");
            assert_eq!(frame[12..16], [0x81, 0, 0, vlan as u8], "round {round}");
        }
    }
}

/// Other addresses than before, without a lost frame: each that the old or the new policy allows
/// arrives, in order.
#[test]
fn policy_of_addresses_changes_and_no_frame_is_lost() {
    for n_cores in 1..=2 {
        let mut rig = Rig::new(n_cores, 2, networks(&[&[0, 1]]));
        for port in 0..2 {
            let sticky = rig::ingress(port, 0, SourcePolicy::Sticky);
            rig.cores.add_port(&sticky).expect("room");
            rig.plug(0, SourcePolicy::Sticky, Options::clone(&options()));
        }
        rig.introduce(0..2);
        let policies = [
            SourcePolicy::Fixed(mac(0)),
            SourcePolicy::Learn(4),
            SourcePolicy::Any(100),
            SourcePolicy::Sticky,
            SourcePolicy::Learn(2),
            SourcePolicy::Fixed(mac(0)),
            SourcePolicy::Sticky,
        ];
        let (mut next, mut seen) = (0, Vec::new());
        let mut send = |rig: &mut Rig| {
            assert!(rig.guests[0].send(0, &frame(mac(1), mac(0), next, 60)));
            next += 1;
            rig.guests[0].reclaim_tx(0);
        };
        for round in 0..70 {
            let source = policies[round % policies.len()];
            change(&mut rig, rig::ingress(0, 0, source), &mut send);
            send(&mut rig);
            rig.step();
            seen.extend(rig.receive_ids(1));
        }
        rig.settle();
        seen.extend(rig.receive_ids(1));
        assert_eq!(seen, (0..next).collect::<Vec<_>>());
        let counters = rig.counters(0);
        assert_eq!(counters.n_dropped(), 0, "{counters:?}");
        rig.assert_balanced();
    }
}

/// An address from the topology that changes: the old one is free for others, the new one the
/// port's own, even where another guest used it.
#[test]
fn changed_address_releases_the_old_one_and_owns_the_new_one() {
    let (mut rig, ends, _) = pairs(2, 1);
    let fixed = |n| rig::ingress(0, 0, SourcePolicy::Fixed(mac(n)));
    change(&mut rig, fixed(0), |_| ());
    change(&mut rig, fixed(9), |_| ());
    let rows = rig.cores.macs().rows();
    let own: Vec<_> = rows.iter().filter(|row| row.port == 0).collect();
    assert_eq!((own.len(), own[0].mac), (1, mac(9)));
    ends[0].send(&frame(mac(1), mac(0), 1, 60));
    rig.settle();
    assert_eq!(rig.drops(0, DropReason::Spoofed), 1);
    ends[1].send(&frame(ALL, mac(0), 1, 60));
    rig.settle();
    assert_eq!(rig.drops(1, DropReason::Spoofed), 0, "it is free");
    ends[0].send(&frame(mac(1), mac(9), 1, 60));
    rig.settle();
    assert_eq!(drain(&ends[1..2]), 1);
}

/// A guest goes to another network with its queues as they are. What waits for it or from it at
/// limits was meant for the network before, and goes nowhere.
#[test]
fn guest_that_goes_to_another_network_takes_nothing_along() {
    for n_cores in 1..=2 {
        let (mut rig, ends, _) = pairs(n_cores, 2);
        let to_vm = LimitOptions {
            queue: Some(QueueOptions {
                time: 20 * MS,
                bytes_max: 1 << 20,
            }),
            ..rig::bits(10_000_000)
        };
        rig.limit(&[1], NO_LIMIT, to_vm);
        rig.now += 1000 * MS;
        // Frames to the limited one, and others behind them, so that they are taken out of the
        // ring.
        for id in 0..400 {
            let to = if id % 4 == 3 { ALL } else { mac(1) };
            ends[0].send(&frame(to, mac(0), id, 1000));
        }
        (0..40).for_each(|_| _ = rig.step());
        assert!(rig.counters(0).held > 10, "{:?}", rig.counters(0));
        let n_before = ids(&ends[1]).len();
        let there = rig::ingress(1, 1, ANY);
        rig.cores
            .set_networks(&with_members(&[vec![0], vec![1, 2, 3]]));
        change(&mut rig, there, |_| ());
        let n_between = ids(&ends[1]).len();
        rig.settle();
        assert_eq!(ids(&ends[1]).len(), 0, "after {n_before} and {n_between}");
        assert!(rig.drops(0, DropReason::PortDown) > 10);
        // It is there, and no longer here.
        ends[1].send(&frame(ALL, mac(1), 1, 60));
        rig.settle();
        assert_eq!([0, 2, 3].map(|port| ids(&ends[port]).len()), [0, 1, 1]);
        rig.now += 1000 * MS;
        ends[2].send(&frame(mac(1), mac(2), 2, 60));
        rig.settle();
        assert_eq!(ids(&ends[1]), [2]);
        rig.assert_counted();
    }
}

/// A flood to 700 members that stands at one of them when that one goes, and its id to a guest of
/// another network.
#[test]
fn flood_that_is_half_done_does_not_reach_the_next_owner_of_an_id() {
    let n_members: PortId = if cfg!(miri) { 20 } else { 700 };
    let all: Vec<PortId> = (0..n_members).collect();
    let mut rig = Rig::with_room(1, all.len(), with_members(&[all.clone(), vec![]]), 1 << 12);
    let ends: Vec<_> = all
        .iter()
        .map(|&port| {
            let ends = MemPort::new(1 << 20, true);
            add(&mut rig, rig::ingress(port, 0, ANY), &ends);
            ends
        })
        .collect();
    rig.settle();
    ends[0].send(&frame(ALL, mac(0), 1, 60));
    rig.step();
    let at = (1..all.len())
        .find(|&port| drain(&ends[port..=port]) == 0)
        .unwrap_or(all.len() - 1);
    assert!(cfg!(miri) || at < all.len() - 10, "it is half done");
    for port in [at, at + 3].map(|port| port.min(all.len() - 1) as PortId) {
        // Control is quicker than the core.
        rig.cores.start_down(port);
        while rig.cores.try_finish_down(port).is_none() {
            rig.step();
        }
        remove(&mut rig, port, |_| ());
        let others: Vec<_> = all.iter().copied().filter(|&other| other != port).collect();
        rig.cores.set_networks(&with_members(&[others, vec![port]]));
        let next = MemPort::new(1 << 20, true);
        add(&mut rig, rig::ingress(port, 1, ANY), &next);
        rig.settle();
        assert!(next.receive().is_none());
    }
}
