//! Decisions of whole bursts, as a core asks for them.

use super::*;
use crate::action::DropReason;
use crate::ids::PortId;
use crate::network::Network;
use crate::network::{Exit, SourcePolicy, Trunk};

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const C: [u8; 6] = [2, 0, 0, 0, 0, 3];
const ALL: [u8; 6] = [0xff; 6];
/// A trunk: VLAN 100 is network 2, where port 5 is; what has no tag is network 3, where port 7 is.
const UPLINK: PortId = 6;
const FLOOD_0: Action = Action::Flood(0);
const FLOOD_1: Action = Action::Flood(1);

struct Rig {
    lookup: Lookup,
    macs: Arc<MacTable>,
}

impl Rig {
    fn new() -> Self {
        let networks = Arc::new(Networks {
            networks: vec![
                network(&[0, 1, 2], 1514, true, None),
                network(&[3, 4], 9014, false, None),
                network(
                    &[5, 6],
                    1514,
                    false,
                    Some(Exit {
                        port: 6,
                        vlan: Some(100),
                    }),
                ),
                network(
                    &[6, 7],
                    1000,
                    false,
                    Some(Exit {
                        port: 6,
                        vlan: None,
                    }),
                ),
            ],
            trunks: vec![Trunk::new([(Some(100), 2), (None, 3)])],
            ..Networks::default()
        });
        let room = if cfg!(miri) { 64 } else { 1024 };
        let macs = Arc::new(MacTable::new(room, 8, [3, 5]));
        let flows = Arc::new(FlowTable::new(room, 8, [1, 2]));
        Self {
            lookup: Lookup::new(flows, macs.clone(), networks),
            macs,
        }
    }

    fn send(&mut self, from: &Ingress, dst: [u8; 6], src: [u8; 6], now: u32) -> Action {
        self.send_sized(from, dst, src, 0x0800, 64, now)
    }

    fn send_sized(
        &mut self,
        from: &Ingress,
        dst: [u8; 6],
        src: [u8; 6],
        kind: u16,
        len: u32,
        now: u32,
    ) -> Action {
        let mut header = Header::default();
        header.0[..6].copy_from_slice(&dst);
        header.0[6..12].copy_from_slice(&src);
        header.0[12..14].copy_from_slice(&kind.to_be_bytes());
        let mut actions = [Action::Flood(9); 1];
        self.lookup
            .decide(from, &[header], &[len], &mut actions, now);
        actions[0]
    }
}

fn network(members: &[PortId], frame_max: u32, passes_tags: bool, uplink: Option<Exit>) -> Network {
    Network {
        members: members.to_vec(),
        frame_max,
        passes_tags,
        uplink,
        ..Network::default()
    }
}

fn port(port: PortId, source: SourcePolicy) -> Ingress {
    let network = [0, 0, 0, 1, 1, 2, u16::MAX, 3][usize::from(port)];
    Ingress {
        port,
        network,
        trunk: (port == UPLINK).then_some(0),
        source,
        generation: 1,
    }
}

/// A port that may send from whatever it likes.
fn unbounded(n: PortId) -> Ingress {
    port(n, SourcePolicy::Any(u32::MAX))
}

fn any(n: PortId) -> Ingress {
    port(n, SourcePolicy::Learn(u32::MAX))
}

#[test]
fn unknown_destination_is_flooded_until_it_speaks() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(&any(0), B, A, 0), FLOOD_0);
    assert_eq!(
        rig.send(&any(0), B, A, 0),
        FLOOD_0,
        "remembered, and still true"
    );
    assert_eq!(rig.send(&any(1), A, B, 0), Action::Unicast(0));
    assert_eq!(rig.send(&any(0), B, A, 0), Action::Unicast(1));
    assert_eq!(rig.send(&any(0), ALL, A, 0), FLOOD_0);
}

#[test]
fn address_that_moved_is_followed_at_once() {
    let mut rig = Rig::new();
    rig.send(&any(0), ALL, A, 0);
    rig.send(&any(1), ALL, B, 0);
    assert_eq!(rig.send(&any(0), B, A, 0), Action::Unicast(1));
    assert_eq!(
        rig.send(&any(2), A, B, 0),
        Action::Unicast(0),
        "B is behind port 2 now"
    );
    assert_eq!(rig.send(&any(0), B, A, 0), Action::Unicast(2));
    assert_eq!(rig.send(&any(1), ALL, B, 0), FLOOD_0);
    assert_eq!(rig.send(&any(0), B, A, 0), Action::Unicast(1));
}

#[test]
fn flow_that_rests_on_a_moved_source_is_decided_anew() {
    let mut rig = Rig::new();
    rig.send(&any(1), ALL, B, 0);
    assert_eq!(rig.send(&any(0), B, A, 0), Action::Unicast(1));
    rig.send(&any(2), ALL, A, 0);
    assert_eq!(rig.send(&any(1), A, B, 0), Action::Unicast(2));
    assert_eq!(
        rig.send(&any(0), B, A, 0),
        Action::Unicast(1),
        "and this brings A back"
    );
    assert_eq!(rig.send(&any(1), A, B, 0), Action::Unicast(0));
}

#[test]
fn fixed_address_is_the_only_one_a_port_may_send_from() {
    let mut rig = Rig::new();
    let fixed = port(0, SourcePolicy::Fixed(A));
    assert_eq!(rig.send(&fixed, ALL, A, 0), FLOOD_0);
    assert_eq!(
        rig.send(&fixed, ALL, C, 0),
        Action::Drop(DropReason::Spoofed)
    );
    assert_eq!(
        rig.send(&any(1), ALL, A, 0),
        Action::Drop(DropReason::Spoofed),
        "nobody else takes it over"
    );
    assert_eq!(rig.send(&any(1), A, B, 0), Action::Unicast(0));
}

#[test]
fn first_address_sticks_until_another_guest_comes() {
    let mut rig = Rig::new();
    let sticky = port(0, SourcePolicy::Sticky);
    assert_eq!(rig.send(&sticky, ALL, A, 0), FLOOD_0);
    assert_eq!(
        rig.send(&sticky, ALL, C, 0),
        Action::Drop(DropReason::Spoofed)
    );
    rig.macs.forget_port(0);
    assert_eq!(
        rig.send(&sticky, ALL, C, 0),
        Action::Drop(DropReason::Spoofed),
        "a connection is no guest"
    );
    assert_eq!(rig.send(&sticky, ALL, A, 0), FLOOD_0);
    rig.macs.unpin(0);
    assert_eq!(rig.send(&sticky, ALL, C, 0), FLOOD_0);
    assert_eq!(
        rig.send(&sticky, ALL, A, 0),
        Action::Drop(DropReason::Spoofed)
    );
}

#[test]
fn networks_know_nothing_of_each_other() {
    let mut rig = Rig::new();
    rig.send(&any(0), ALL, A, 0);
    assert_eq!(
        rig.send(&any(3), A, B, 0),
        FLOOD_1,
        "A is in the other network"
    );
    rig.send(&any(3), ALL, A, 0);
    assert_eq!(rig.send(&any(1), A, C, 0), Action::Unicast(0));
    assert_eq!(rig.send(&any(4), A, C, 0), Action::Unicast(3));
}

#[test]
fn tag_goes_where_tags_pass_and_length_is_that_of_the_network() {
    let mut rig = Rig::new();
    rig.send(&any(1), ALL, B, 0);
    assert_eq!(
        rig.send_sized(&any(0), B, A, 0x8100, 64, 0),
        Action::Unicast(1)
    );
    assert_eq!(
        rig.send_sized(&any(0), B, A, 0x8100, 1518, 0),
        Action::Unicast(1)
    );
    assert_eq!(
        rig.send_sized(&any(0), B, A, 0x8100, 1519, 0),
        Action::Drop(DropReason::TooBig)
    );
    assert_eq!(
        rig.send_sized(&any(0), B, A, 0x0800, 1514, 0),
        Action::Unicast(1)
    );
    assert_eq!(
        rig.send_sized(&any(0), B, A, 0x0800, 1515, 0),
        Action::Drop(DropReason::TooBig)
    );
    let two = [(0x88a8, 5), (0x8100, 7)];
    assert_eq!(
        tagged(&mut rig, 0, B, A, &two, 1522),
        (Action::Unicast(1), false),
        "two tags count for no length"
    );
    assert_eq!(
        tagged(&mut rig, 0, B, A, &two, 1523),
        (Action::Drop(DropReason::TooBig), false)
    );
    assert_eq!(
        tagged(&mut rig, 3, ALL, A, &[(0x88a8, 5)], 64),
        (Action::Drop(DropReason::Tagged), false)
    );
    assert_eq!(rig.send_sized(&any(3), ALL, A, 0x0800, 9014, 0), FLOOD_1);
}

#[test]
fn what_a_bridge_must_not_forward_is_dropped_by_name() {
    let mut rig = Rig::new();
    let from = any(0);
    assert_eq!(
        rig.send(&from, [1, 0x80, 0xc2, 0, 0, 0xe], A, 0),
        Action::Drop(DropReason::LinkLocal)
    );
    assert_eq!(rig.send(&from, [1, 0x80, 0xc2, 0, 0, 0x10], A, 0), FLOOD_0);
    assert_eq!(
        rig.send(&from, B, [3, 0, 0, 0, 0, 1], 0),
        Action::Drop(DropReason::BadSource)
    );
    assert_eq!(
        rig.send(&from, B, [0; 6], 0),
        Action::Drop(DropReason::BadSource)
    );
    rig.send(&from, ALL, A, 0);
    assert_eq!(rig.send(&from, A, C, 0), Action::Drop(DropReason::SamePort));
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn flow_that_goes_on_keeps_its_source_from_ageing() {
    let mut rig = Rig::new();
    rig.send(&any(1), ALL, B, 0);
    for second in 0..400 {
        assert_eq!(
            rig.send(&any(0), B, A, second),
            if second <= 301 {
                Action::Unicast(1)
            } else {
                FLOOD_0
            }
        );
        rig.macs.age(second, 300);
    }
}

#[test]
#[cfg_attr(miri, ignore = "minutes in an interpreter, and nothing new")]
fn port_that_flaps_addresses_is_forwarded_without_being_believed() {
    let mut rig = Rig::new();
    let mut moved = 0;
    for turn in 0..10_000u32 {
        let n = (turn % 2) as u16;
        rig.send(&unbounded(n), ALL, A, 0);
        moved += u32::from(rig.macs.find(0, A).is_some_and(|f| f.port == n));
    }
    assert!(
        moved < 7_000,
        "{moved}: the budget of 1,024 moves a port and second ends it"
    );
    assert_eq!(rig.send(&unbounded(0), ALL, A, 0), FLOOD_0);
}

#[test]
fn changed_generation_asks_the_whole_question_again() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(&any(0), ALL, A, 0), FLOOD_0);
    let stricter = Ingress {
        source: SourcePolicy::Fixed(C),
        generation: 2,
        ..any(0)
    };
    rig.macs.forget_port(0);
    assert_eq!(
        rig.send(&stricter, ALL, A, 0),
        Action::Drop(DropReason::Spoofed)
    );
}

#[test]
fn refused_frame_keeps_its_reason() {
    let mut rig = Rig::new();
    let mut actions = [Action::Drop(DropReason::BadChain)];
    rig.lookup
        .decide(&any(0), &[Header::default()], &[0], &mut actions, 0);
    assert_eq!(actions[0], Action::Drop(DropReason::BadChain));
}

/// A frame to TCP's port 25.
fn mail(dst: [u8; 6], src: [u8; 6]) -> Header {
    let mut header = Header::default();
    let ip = [
        8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0x88, 0, 25,
    ];
    header.0[..38].copy_from_slice(&[&dst[..], &src, &ip].concat());
    header
}

#[test]
fn rules_of_both_ends_are_part_of_the_answer_from_the_next_frame_on() {
    use crate::rules::policy::Policy;
    use crate::rules::rule::{Direction, Proto, Rule, Verdict};
    let deny = |direction| {
        let numbers = vec![(25, 25)];
        let rule = Rule {
            direction,
            verdict: Verdict::Deny,
            proto: Proto::Number(6),
            cidr: None,
            numbers,
        };
        Some(Arc::new(Policy::new(&[rule])))
    };
    let mut rig = Rig::new();
    rig.send(&any(1), ALL, B, 0);
    let mut generation = 1;
    let mut send = |rules: Vec<Option<Arc<Policy>>>, dst| {
        generation += 1;
        let networks = rig
            .lookup
            .networks()
            .clone()
            .with_policies(rules, generation);
        rig.lookup.set_networks(Arc::new(networks));
        let mut actions = [Action::Flood(9); 2];
        // The second one isn't TCP.
        let mut other = mail(dst, A);
        other.0[23] = 17;
        rig.lookup
            .decide(&any(0), &[mail(dst, A), other], &[64, 64], &mut actions, 0);
        actions
    };
    for _ in 0..3 {
        let [to_b, denied] = [Action::Unicast(1), Action::Drop(DropReason::Denied)];
        assert_eq!(send(vec![], B), [to_b, to_b]);
        assert_eq!(send(vec![deny(Direction::FromVm)], B), [denied, to_b]);
        assert_eq!(
            send(vec![None, deny(Direction::ToVm)], B),
            [Action::Refused(1), to_b]
        );
        assert_eq!(
            send(vec![deny(Direction::ToVm), deny(Direction::FromVm)], B),
            [to_b, to_b],
            "the other way"
        );
        assert_eq!(send(vec![deny(Direction::FromVm)], ALL), [denied, FLOOD_0]);
        assert_eq!(
            send(vec![None, deny(Direction::ToVm)], ALL),
            [FLOOD_0; 2],
            "each copy is asked for"
        );
    }
}

#[test]
fn tag_of_a_priority_alone_counts_as_none_but_hides_no_other() {
    let mut rig = Rig::new();
    rig.send(&any(4), ALL, B, 0);
    let denied = (Action::Drop(DropReason::Tagged), false);
    for kind in [0x8100, 0x88a8] {
        // Decided anew, then remembered.
        for _ in 0..2 {
            assert_eq!(
                tagged(&mut rig, 3, B, A, &[(kind, 0xe000)], 64),
                (Action::Unicast(4), true)
            );
            assert_eq!(rig.send(&any(3), B, A, 0), Action::Unicast(4));
            assert_eq!(
                tagged(&mut rig, 3, ALL, A, &[(kind, 0)], 9018),
                (FLOOD_1, true)
            );
            let too_big = Action::Drop(DropReason::TooBig);
            assert_eq!(tagged(&mut rig, 3, ALL, A, &[(kind, 0)], 9019).0, too_big);
            assert_eq!(
                tagged(&mut rig, 3, B, A, &[(kind, 100)], 64),
                denied,
                "a VLAN of its own"
            );
            assert_eq!(
                tagged(&mut rig, 3, B, A, &[(kind, 0), (0x8100, 100)], 64),
                denied,
                "behind a priority"
            );
            assert_eq!(
                tagged(&mut rig, 3, B, A, &[(kind, 0), (0x88a8, 0)], 64),
                denied
            );
            assert_eq!(
                tagged(&mut rig, 3, B, A, &[(kind, 0)], 17),
                denied,
                "there is not even a whole tag"
            );
        }
    }
    assert_eq!(
        tagged(&mut rig, 0, ALL, A, &[(0x8100, 0)], 64),
        (FLOOD_0, false),
        "tags pass here as they are"
    );
}

/// A frame from the wire with these tags.
fn wire(rig: &mut Rig, dst: [u8; 6], src: [u8; 6], tags: &[(u16, u16)], len: u32) -> Action {
    tagged(rig, UPLINK, dst, src, tags, len).0
}

/// What becomes of a frame of this port with these tags, and whether one of them goes.
fn tagged(
    rig: &mut Rig,
    port: PortId,
    dst: [u8; 6],
    src: [u8; 6],
    tags: &[(u16, u16)],
    len: u32,
) -> (Action, bool) {
    let mut header = Header::default();
    header.0[..6].copy_from_slice(&dst);
    header.0[6..12].copy_from_slice(&src);
    let words = tags
        .iter()
        .flat_map(|&(kind, tag)| [kind, tag])
        .chain([0x0800]);
    for (at, word) in (12..).step_by(2).zip(words) {
        header.0[at..at + 2].copy_from_slice(&word.to_be_bytes());
    }
    let mut actions = [Action::Flood(9); 1];
    // The uplink is one that may send from any address.
    let from = if port == UPLINK {
        unbounded(port)
    } else {
        any(port)
    };
    let has_tags = rig.lookup.decide(&from, &[header], &[len], &mut actions, 0);
    (actions[0], has_tags)
}

#[test]
fn frame_of_a_trunk_belongs_to_the_network_of_its_outer_tag() {
    let mut rig = Rig::new();
    rig.send(&any(5), ALL, A, 0);
    rig.send(&any(7), ALL, A, 0);
    for _ in 0..2 {
        assert_eq!(
            wire(&mut rig, A, B, &[(0x8100, 100)], 64),
            Action::Unicast(5)
        );
        assert_eq!(
            wire(&mut rig, A, B, &[(0x88a8, 0x6064)], 64),
            Action::Unicast(5),
            "with a priority"
        );
        assert_eq!(wire(&mut rig, A, B, &[], 64), Action::Unicast(7));
        assert_eq!(
            wire(&mut rig, A, B, &[(0x8100, 0xe000)], 64),
            Action::Unicast(7),
            "a priority alone is no VLAN"
        );
        assert_eq!(wire(&mut rig, C, B, &[(0x8100, 100)], 64), Action::Flood(2));
        assert_eq!(wire(&mut rig, C, B, &[], 64), Action::Flood(3));
        assert_eq!(
            wire(&mut rig, A, B, &[(0x8100, 101)], 64),
            Action::Drop(DropReason::UnknownVlan)
        );
    }
    assert_eq!(
        rig.send(&any(5), B, A, 0),
        Action::Unicast(UPLINK),
        "the same address, once in each network"
    );
    assert_eq!(rig.send(&any(7), B, A, 0), Action::Unicast(UPLINK));
    assert_eq!(
        tagged(&mut rig, 5, B, A, &[(0x8100, 100)], 64).0,
        Action::Drop(DropReason::Tagged)
    );
}

#[test]
fn inner_tags_pass_and_the_outer_one_counts_for_no_length() {
    let mut rig = Rig::new();
    rig.send(&any(5), ALL, A, 0);
    let mut deal = |tags: &[(u16, u16)], len| wire(&mut rig, A, B, tags, len);
    assert_eq!(deal(&[(0x8100, 100)], 1518), Action::Unicast(5));
    assert_eq!(
        deal(&[(0x8100, 100)], 1519),
        Action::Drop(DropReason::TooBig)
    );
    assert_eq!(
        deal(&[(0x88a8, 100), (0x8100, 7)], 1522),
        Action::Unicast(5)
    );
    assert_eq!(
        deal(&[(0x88a8, 100), (0x8100, 7)], 1523),
        Action::Drop(DropReason::TooBig)
    );
    assert_eq!(
        deal(&[(0x8100, 0)], 1005),
        Action::Drop(DropReason::TooBig),
        "the untagged network takes less"
    );
    assert_eq!(
        deal(&[(0x8100, 100)], 17),
        Action::Drop(DropReason::Runt),
        "there is not even a whole tag"
    );
    assert_eq!(deal(&[], 0), Action::Flood(9), "refused before");
}

#[path = "owning_tests/mod.rs"]
mod owning;
