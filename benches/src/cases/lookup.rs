//! `lookup/*`: whole bursts through a core's `decide`. The flows differ in what rules ask for, or
//! in their source MAC.

use std::sync::Arc;

use flowtable::mac::entry::{Kind, Learned};
use flowtable::{Action, Header, Ingress, Lookup, MacTable, Networks, SourcePolicy};
use pmd::sys::settle;
use rig::{mac, networks};

use super::flowtable::{COUNTS, flows, header, policy, table};
use super::{Case, Run};
use crate::{BURST, Spent, timed};

const N: usize = BURST as usize;
/// Addresses that a port may bring in a second.
const MACS_PER_SEC: usize = 100_000;

pub(super) fn cases() -> Vec<Case> {
    let case = |(text, n)| {
        let rules = Case::new(format!("lookup/burst-{text}"), move || lookup(n, true));
        [
            rules,
            Case::new(format!("lookup/macs-{text}"), move || lookup(n, false)),
        ]
    };
    COUNTS.into_iter().flat_map(case).collect()
}

/// One from the station with this number.
fn from_mac(n: usize) -> Header {
    let mut header = header(0);
    header.0[8..12].copy_from_slice(&(n as u32).to_le_bytes());
    header
}

fn lookup(n_flows: usize, has_rules: bool) -> Run {
    let policy = has_rules.then(|| Arc::new(policy()));
    let rules = Networks::clone(&networks(&[&[0, 1]])).with_policies(vec![policy; 2], 1);
    let macs = Arc::new(MacTable::new(n_flows + 64, 2, [3, 4]));
    for span in macs.spans() {
        let _ = settle(span);
    }
    let mut lookup = Lookup::new(Arc::new(table(n_flows)), macs.clone(), Arc::new(rules));
    lookup.make_room();
    assert!(matches!(
        macs.learn(0, mac(1), 1, Kind::Learned, 9, 0),
        Learned::Yes(_)
    ));
    let source = SourcePolicy::Learn(u32::MAX);
    let from = Ingress {
        port: 0,
        network: 0,
        trunk: None,
        source,
        generation: 1,
    };
    let mut decide = move |flows: &[usize; N], now: u32| {
        let headers = flows.map(|n| if has_rules { header(n) } else { from_mac(n) });
        let mut actions = [Action::Flood(9); N];
        let spent = timed(N as u64, || {
            _ = lookup.decide(&from, &headers, &[60; N], &mut actions, now)
        });
        assert_eq!(actions, [Action::Unicast(1); N]);
        spent
    };
    for n in 0..n_flows {
        decide(&[n; N], (n / MACS_PER_SEC) as u32);
    }
    let now = (n_flows / MACS_PER_SEC) as u32;
    // So that nothing is noted for the first time in this second.
    for n in 0..n_flows {
        decide(&[n; N], now);
    }
    let mut at = 0;
    Box::new(move |n_frames| {
        let mut spent = Spent::default();
        for _ in 0..n_frames.div_ceil(N as u64) {
            spent += decide(&flows(&mut at, n_flows), now);
        }
        spent
    })
}
