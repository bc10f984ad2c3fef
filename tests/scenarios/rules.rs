//! Rules of NICs in whole switches: by direction, on floods, on stations that move, changed in
//! traffic.

mod packets;
mod random;
mod tags;

use std::sync::Arc;

use flowtable::rules::policy::Policy;
use flowtable::rules::rule::{Direction, Proto, Rule, Verdict};
use flowtable::{DropReason, Networks};
use rig::{ALL, ANY, Rig, mac, networks, options};

use Direction::{FromVm, ToVm};
use Verdict::{Allow, Deny};
use packets::{Kind, Number, Packet, TCP, UDP, tcp};

const NOBODY: [usize; 0] = [];

fn rule(direction: Direction, verdict: Verdict) -> Rule {
    Rule {
        direction,
        verdict,
        proto: Proto::Ip,
        cidr: None,
        numbers: Vec::new(),
    }
}

fn deny_port(direction: Direction, port: u16) -> Vec<Rule> {
    vec![Rule {
        proto: Proto::Number(TCP),
        numbers: vec![(port, port)],
        ..rule(direction, Deny)
    }]
}

/// A switch whose ports have rules.
struct Ruled {
    rig: Rig,
    networks: Networks,
    /// Ports come up with the first.
    n_changes: u32,
}

impl Ruled {
    /// One core, one network of `n` guests, each known to all.
    fn new(n: usize) -> Self {
        Self::with_cores(1, n)
    }

    /// The same on several cores.
    fn with_cores(n_cores: usize, n: usize) -> Self {
        let members: Vec<u16> = (0..n as u16).collect();
        let networks = networks(&[&members]);
        let mut rig = Rig::new(n_cores, n, networks.clone());
        rig.plug_all(n, &options());
        let mut ruled = Self {
            rig,
            networks: (*networks).clone(),
            n_changes: 1,
        };
        for port in 0..n {
            ruled.send(port, &tcp(80).frame(ALL, mac(port as u16), false, 0));
        }
        ruled
    }

    /// These rules by port, from now on; those beyond have none.
    fn set(&mut self, rules: &[Vec<Rule>]) {
        self.n_changes += 1;
        let policies = rules
            .iter()
            .map(|rules| Some(Arc::new(Policy::new(rules))))
            .collect();
        self.networks = self
            .networks
            .clone()
            .with_policies(policies, self.n_changes);
        self.rig
            .cores
            .set_networks(&Arc::new(self.networks.clone()));
        self.rig.step();
    }

    /// Sends one frame; gives who received it.
    fn send(&mut self, from: usize, frame: &[u8]) -> Vec<usize> {
        assert!(self.rig.guests[from].send(0, frame));
        self.rig.settle();
        let mut got = Vec::new();
        for port in 0..self.rig.guests.len() {
            let frames = self.rig.receive_all(port as u16);
            assert!(
                frames.iter().all(|other| other == frame),
                "port {port} got something else"
            );
            got.extend(frames.iter().map(|_| port));
        }
        self.rig.assert_balanced();
        got
    }

    fn unicast(&mut self, from: usize, to: usize, packet: Packet) -> Vec<usize> {
        self.send(
            from,
            &packet.frame(mac(to as u16), mac(from as u16), false, 1),
        )
    }

    /// Frames of the port that were denied, and frames that it denied.
    fn denied(&self, port: u16) -> (u64, u64) {
        let counters = self.rig.counters(port);
        (counters.drops[DropReason::Denied.index()], counters.refused)
    }
}

#[test]
fn rule_meets_frames_of_its_direction_alone() {
    let mut ruled = Ruled::new(3);
    ruled.set(&[deny_port(FromVm, 25), deny_port(ToVm, 25)]);
    for _ in 0..3 {
        assert_eq!(ruled.unicast(0, 2, tcp(25)), NOBODY);
        assert_eq!(ruled.unicast(2, 0, tcp(25)), [0]);
        assert_eq!(ruled.unicast(2, 1, tcp(25)), NOBODY);
        assert_eq!(ruled.unicast(1, 2, tcp(25)), [2]);
        assert_eq!(ruled.unicast(0, 2, tcp(80)), [2]);
        assert_eq!(
            ruled.unicast(
                2,
                1,
                Packet {
                    proto: UDP,
                    ..tcp(25)
                }
            ),
            [1]
        );
    }
    assert_eq!(
        [0, 1, 2].map(|port| ruled.denied(port)),
        [(3, 0), (0, 3), (3, 0)]
    );
    assert_eq!(
        ruled.rig.counters(1).missed,
        3,
        "what its rules keep away is missed by the port"
    );
}

#[test]
fn change_of_rules_is_in_force_with_the_next_frame_of_a_remembered_flow() {
    let mut ruled = Ruled::new(2);
    for _ in 0..5 {
        ruled.set(&[]);
        assert_eq!(
            [ruled.unicast(0, 1, tcp(25)), ruled.unicast(0, 1, tcp(25))],
            [[1], [1]]
        );
        ruled.set(&[deny_port(FromVm, 25)]);
        assert_eq!(ruled.unicast(0, 1, tcp(25)), NOBODY);
        ruled.set(&[deny_port(FromVm, 26)]);
        assert_eq!(ruled.unicast(0, 1, tcp(25)), [1]);
        ruled.set(&[vec![], deny_port(ToVm, 25)]);
        assert_eq!(
            ruled.unicast(0, 1, tcp(25)),
            NOBODY,
            "those of the other end as well"
        );
        ruled.set(&[
            vec![],
            [vec![rule(ToVm, Allow)], deny_port(ToVm, 25)].concat(),
        ]);
        assert_eq!(ruled.unicast(0, 1, tcp(25)), [1], "the first one fits");
    }
}

#[test]
fn flood_reaches_those_whose_rules_let_it() {
    let mut ruled = Ruled::new(4);
    ruled.set(&[vec![], vec![], deny_port(ToVm, 25)]);
    let flood = |packet: Packet| packet.frame(ALL, mac(0), false, 1);
    assert_eq!(ruled.send(0, &flood(tcp(25))), [1, 3]);
    assert_eq!(ruled.send(0, &flood(tcp(26))), [1, 2, 3]);
    let unknown = tcp(25).frame(mac(99), mac(0), false, 1);
    assert_eq!(
        ruled.send(0, &unknown),
        [1, 3],
        "nor does it come by a flood to nobody known"
    );
    assert_eq!((ruled.denied(0), ruled.denied(2)), ((2, 0), (0, 2)));
    ruled.set(&[
        vec![],
        deny_port(ToVm, 25),
        deny_port(ToVm, 25),
        deny_port(ToVm, 25),
    ]);
    assert_eq!(ruled.send(0, &flood(tcp(25))), NOBODY);
    assert_eq!(ruled.denied(0), (5, 0), "one for each copy");
    ruled.set(&[deny_port(FromVm, 25)]);
    assert_eq!(ruled.send(0, &flood(tcp(25))), NOBODY);
    assert_eq!(ruled.denied(0), (6, 0), "one for the frame");
}

#[test]
fn port_that_is_not_there_denies_nothing() {
    let mut ruled = Ruled::new(3);
    ruled.set(&[vec![], vec![], deny_port(ToVm, 25)]);
    ruled.rig.down(2);
    // A port that has just gone down counts as one that is being changed for a while.
    ruled.rig.now += 20_000_000;
    assert_eq!(ruled.send(0, &tcp(25).frame(ALL, mac(0), false, 1)), [1]);
    assert_eq!((ruled.denied(0), ruled.denied(2)), ((0, 0), (0, 0)));
}

#[test]
fn station_that_moves_meets_the_rules_of_where_it_is() {
    let mut ruled = Ruled::new(3);
    ruled.set(&[vec![], deny_port(ToVm, 25), deny_port(FromVm, 25)]);
    for turn in 0..6 {
        let at = 1 + turn % 2;
        ruled.send(at, &tcp(80).frame(mac(0), mac(7), false, 1));
        let to_it = ruled.send(0, &tcp(25).frame(mac(7), mac(0), false, 1));
        assert_eq!(to_it, if at == 1 { vec![] } else { vec![2] });
        let from_it = ruled.send(at, &tcp(25).frame(mac(0), mac(7), false, 1));
        assert_eq!(from_it, if at == 1 { vec![0] } else { vec![] });
    }
}

#[test]
fn later_fragments_pass_where_the_first_is_denied_by_its_port() {
    let mut ruled = Ruled::new(2);
    ruled.set(&[vec![], deny_port(ToVm, 25)]);
    for kind in [Kind::V4, Kind::V6, Kind::V6Extended] {
        let packet = |number| Packet {
            kind,
            number,
            ..tcp(0)
        };
        assert_eq!(ruled.unicast(0, 1, packet(Number::Is(25))), NOBODY);
        assert_eq!(
            ruled.unicast(0, 1, packet(Number::Cut)),
            NOBODY,
            "{kind:?}: it may be anything"
        );
        let later = ruled.unicast(0, 1, packet(Number::LaterFragment));
        // Behind the fragment header comes another extension: what protocol it is, the first
        // fragment says.
        assert_eq!(
            later,
            if kind == Kind::V6Extended {
                vec![]
            } else {
                vec![1]
            }
        );
    }
}

#[test]
fn tags_hide_nothing() {
    let mut ruled = Ruled::new(2);
    ruled.set(&[vec![], deny_port(ToVm, 25)]);
    for (port, got) in [(25, vec![]), (26, vec![1])] {
        assert_eq!(
            ruled.send(0, &tcp(port).frame(mac(1), mac(0), true, 1)),
            got
        );
    }
}

#[test]
fn denied_frames_hold_nobody_up() {
    let mut ruled = Ruled::new(3);
    ruled.set(&[deny_port(FromVm, 25), deny_port(ToVm, 26)]);
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    for id in 0..2000u32 {
        let (port, to) = [(25, 1), (80, 1), (26, 1), (26, 2), (25, 2)][id as usize % 5];
        let frame = tcp(port).frame(mac(to), mac(0), false, id);
        while !ruled.rig.guests[0].send(0, &frame) {
            ruled.rig.step();
            got.extend([1, 2].map(|to| (to, ruled.rig.receive_all(to))));
            ruled.rig.guests[0].reclaim_tx(0);
        }
        if (port, to) == (80, 1) || (port, to) == (26, 2) {
            expected.push((to, frame));
        }
    }
    ruled.rig.settle();
    got.extend([1, 2].map(|to| (to, ruled.rig.receive_all(to))));
    for to in [1, 2] {
        let due: Vec<_> = expected
            .iter()
            .filter(|(port, _)| *port == to)
            .map(|(_, frame)| frame.clone())
            .collect();
        let got: Vec<_> = got
            .iter()
            .filter(|(port, _)| *port == to)
            .flat_map(|(_, frames)| frames.clone())
            .collect();
        assert!(got == due, "port {to} got {} of {}", got.len(), due.len());
    }
    assert_eq!((ruled.denied(0), ruled.denied(1)), ((1200, 0), (0, 400)));
    ruled.rig.assert_balanced();
}
