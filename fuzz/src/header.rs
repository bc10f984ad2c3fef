//! Headers and decisions. Bytes behind a frame's end are left over from earlier frames: they must
//! never count. And what was remembered must never be answered otherwise than the whole question
//! would be.

use std::sync::Arc;

use flowtable::lookup::decide::BURST_MAX;
use flowtable::wire::header::symmetric_hash;
use flowtable::{
    Action, DropReason, FlowTable, HEADER_MAX, Header, Ingress, Lookup, MacTable, Network,
    Networks, Policy, SourcePolicy, Trunk,
};

use crate::input::Input;
use crate::rules;

const N_PORTS: u16 = 7;
/// The port that carries both networks, the one in VLAN 1, the other without a tag.
const UPLINK: u16 = 6;
/// Bursts of one input.
const BURSTS_MAX: usize = 64;
const ETHERNET_LEN: usize = 14;

/// The same switch three times: one sees zeros behind each frame, one something else, one remembers
/// next to nothing.
struct Switch {
    lookup: Lookup,
    macs: Arc<MacTable>,
}

/// Every port's rules, and the number of their last change; ports have the first.
struct Rules {
    policies: Vec<Option<Arc<Policy>>>,
    n_changes: u32,
}

impl Rules {
    /// Other rules for all ports, in force with the next burst.
    fn change(&mut self, input: &mut Input<'_>, switches: &mut [Switch; 3]) {
        self.policies = (0..N_PORTS)
            .map(|_| input.flag().then(|| Arc::new(rules::policy(input))))
            .collect();
        self.n_changes += 1;
        for switch in switches {
            let networks = switch
                .lookup
                .networks()
                .clone()
                .with_policies(self.policies.clone(), self.n_changes);
            switch.lookup.set_networks(Arc::new(networks));
        }
    }
}

impl Switch {
    fn new(n_flows: usize) -> Self {
        let network = |members: &[u16], frame_max, passes_tags| Network {
            members: members.into(),
            frame_max,
            passes_tags,
            ..Network::default()
        };
        let networks = vec![
            network(&[0, 1, 2, 3, UPLINK], 1514, false),
            network(&[4, 5, UPLINK], 9014, true),
        ];
        let trunks = vec![Trunk::new([(Some(1), 0), (None, 1)])];
        let macs = Arc::new(MacTable::new(64, usize::from(N_PORTS), [3, 5]));
        let flows = Arc::new(FlowTable::new(n_flows, usize::from(N_PORTS), [7, 11]));
        let lookup = Lookup::new(
            flows,
            macs.clone(),
            Arc::new(Networks {
                networks,
                trunks,
                ..Networks::default()
            }),
        );
        Self { lookup, macs }
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let mut switches = [Switch::new(1 << 8), Switch::new(1 << 8), Switch::new(1)];
    let (mut now, mut rules) = (
        0,
        Rules {
            policies: Vec::new(),
            n_changes: 1,
        },
    );
    for _ in 0..BURSTS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 16 {
            0 => now += u32::from(input.byte()),
            1 => {
                let age_max = u32::from(input.byte());
                let n_gone = switches
                    .each_ref()
                    .map(|switch| switch.macs.age(now, age_max));
                assert!(n_gone.iter().all(|&n| n == n_gone[0]), "{n_gone:?}");
            }
            2 => {
                let port = u16::from(input.byte()) % N_PORTS;
                let n_gone = switches
                    .each_ref()
                    .map(|switch| switch.macs.forget_port(port));
                assert!(n_gone.iter().all(|&n| n == n_gone[0]), "{n_gone:?}");
            }
            3 => rules.change(&mut input, &mut switches),
            _ => decide(&mut input, &mut switches, &rules, now),
        }
    }
    let rows = switches[0].macs.rows();
    for other in &switches[1..] {
        assert_eq!(other.macs.rows(), rows, "the tables of addresses differ");
    }
}

/// One burst of one port, by all three.
fn decide(input: &mut Input<'_>, switches: &mut [Switch; 3], rules: &Rules, now: u32) {
    let from = ingress(input);
    let n = 1 + usize::from(input.byte()) % BURST_MAX;
    let (mut lens, mut clean, mut dirty) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n {
        let (header, len, behind) = frame(input);
        check_hash(&header, len, behind);
        clean.push(filled_behind(&header, len, 0));
        dirty.push(filled_behind(&header, len, behind));
        for policy in rules.policies.iter().flatten() {
            rules::check(
                policy,
                &clean[clean.len() - 1],
                &dirty[dirty.len() - 1],
                len,
            );
        }
        lens.push(u32::try_from(len).expect("a frame's length"));
    }
    let mut answers = Vec::new();
    let epochs = |switch: &Switch| [0, 1].map(|network| switch.macs.epoch(network));
    let before = epochs(&switches[0]);
    for (switch, headers) in switches.iter_mut().zip([&clean, &dirty, &clean]) {
        let mut actions = vec![Action::Drop(DropReason::Runt); n];
        switch
            .lookup
            .decide(&from, headers, &lens, &mut actions, now);
        answers.push(actions);
    }
    assert_eq!(
        answers[0], answers[1],
        "what lay behind the frames counted: {from:?} {lens:?} {clean:02x?}"
    );
    // A burst that changes the table of addresses may decide by what was true before it; all others
    // may not.
    let is_settled = n == 1 || epochs(&switches[0]) == before;
    assert!(
        !is_settled || answers[0] == answers[2],
        "what was remembered was wrong: {answers:?} {from:?} {lens:?} {clean:02x?}"
    );
    for (&action, &len) in answers[0].iter().zip(&lens) {
        assert!(
            len > 0 || action == Action::Drop(DropReason::Runt),
            "a refused frame was decided"
        );
        if let Action::Unicast(to) | Action::Refused(to) = action {
            let is_other = to != from.port && to < N_PORTS;
            assert!(is_other, "{action:?} of {from:?}");
        }
    }
}

fn ingress(input: &mut Input<'_>) -> Ingress {
    let port = match input.byte() {
        252.. => UPLINK,
        byte => u16::from(byte) % UPLINK,
    };
    let source = match port {
        0 => SourcePolicy::Fixed(address(0)),
        1 => SourcePolicy::Sticky,
        2 => SourcePolicy::Learn(3),
        _ => SourcePolicy::Any(u32::MAX),
    };
    Ingress {
        port,
        network: port / 4,
        trunk: (port == UPLINK).then_some(0),
        source,
        generation: 1,
    }
}

/// Header, length (0: refused before; never between that and an Ethernet header's), and what else
/// may lie behind it.
fn frame(input: &mut Input<'_>) -> (Header, usize, u8) {
    let mut header = Header::default();
    let shape = input.byte();
    if shape & 0x80 == 0 {
        // Addresses of a few, so that they meet.
        let (dst, src) = (input.byte(), input.byte());
        header.0[..6].copy_from_slice(&address(dst));
        header.0[6..12].copy_from_slice(&address(src));
        let kind = input.one_of(&[0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x88b5]);
        header.0[12..14].copy_from_slice(&kind.to_be_bytes());
        if shape & 0x40 != 0 {
            let payload = input.take(usize::from(shape & 0x3f));
            header.0[14..14 + payload.len()].copy_from_slice(payload);
        }
    } else {
        let bytes = input.take(usize::from(shape & 0x7f) + 1);
        header.0[..bytes.len()].copy_from_slice(bytes);
    }
    let len = match input.u16() {
        0 => 0,
        n @ 1..=0x7fff => ETHERNET_LEN + usize::from(n) % 64,
        n => ETHERNET_LEN + usize::from(n) % 9100,
    };
    (header, len, input.byte())
}

fn address(n: u8) -> [u8; 6] {
    match n {
        0xff => [0xff; 6],
        0xfe => [0x01, 0x80, 0xc2, 0, 0, 0],
        0xfd => [0; 6],
        n => [2, 0, 0, 0, 0, n % 16],
    }
}

fn filled_behind(header: &Header, len: usize, with: u8) -> Header {
    let mut filled = *header;
    filled.0[len.min(HEADER_MAX)..].fill(with);
    filled
}

/// The hash looks at the frame alone, and at both directions alike.
fn check_hash(header: &Header, len: usize, behind: u8) {
    if len < ETHERNET_LEN {
        return;
    }
    let hash = symmetric_hash(&filled_behind(header, len, 0), len);
    assert_eq!(
        hash,
        symmetric_hash(&filled_behind(header, len, behind), len),
        "{len} of {header:02x?}"
    );
    let mut back = filled_behind(header, len, behind);
    back.0[..12].rotate_left(6);
    assert_eq!(
        hash,
        symmetric_hash(&back, len),
        "the other direction: {len} of {header:02x?}"
    );
}
