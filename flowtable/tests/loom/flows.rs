//! The table of flows: who enters, looks, changes and sweeps at the same time.

use flowtable::cache::table::{Decision, Entered, Hit};
use flowtable::mac::entry::{EntryRef, Kind};
use flowtable::mac::table::MacTable;
use flowtable::{Action, FlowTable, Header, Key};
use loom::sync::Arc;
use loom::thread;

use super::{ANY, check, find, learn, mac, table};

/// The smallest table of flows: two entries at most, two buckets of two.
fn flows(capacity: usize) -> Arc<Flows> {
    Arc::new(Flows {
        table: FlowTable::new(capacity, 3, [7, 11]),
        macs: table(),
    })
}

struct Flows {
    table: FlowTable,
    macs: MacTable,
}

impl Flows {
    /// A decision all of which says the same.
    fn decision(n: u16) -> Decision {
        Decision {
            action: Action::Unicast(n),
            stamp: u32::from(n),
            src: EntryRef::NONE,
            dst: EntryRef::NONE,
        }
    }

    fn key(n: u8) -> Key {
        let mut header = Header::default();
        header.0[0] = n;
        Key::new(&header, 1)
    }

    fn insert(&self, flow: u8, decision: u16) -> Entered {
        let key = Self::key(flow);
        self.table.insert(
            self.table.hash(&key),
            &key,
            &Self::decision(decision),
            0,
            &self.macs,
            0,
        )
    }

    /// What is found, after looking whether it says one thing.
    fn find(&self, flow: u8) -> Option<(u32, Hit)> {
        let key = Self::key(flow);
        let hit = self.table.find(self.table.hash(&key), &key)?;
        assert_eq!(
            hit.decision.action,
            Action::Unicast(hit.decision.stamp as u16),
            "torn"
        );
        Some((hit.decision.stamp, hit))
    }

    /// Both buckets.
    fn sweep(&self, now: u32) {
        self.table.sweep(&self.macs, now);
        self.table.sweep(&self.macs, now);
    }

    fn stamp(&self, flow: u8) -> Option<u32> {
        self.find(flow).map(|(stamp, _)| stamp)
    }
}

#[test]
fn flow_is_found_whole_or_not_at_all_while_it_is_entered() {
    check(|| {
        let flows = flows(2);
        let other = {
            let flows = flows.clone();
            thread::spawn(move || assert_eq!(flows.insert(1, 5), Entered::Free))
        };
        assert!(matches!(flows.stamp(1), None | Some(5)));
        other.join().unwrap();
        assert_eq!((flows.stamp(1), flows.table.n_used()), (Some(5), 1));
    });
}

#[test]
fn entry_that_gets_another_flow_is_found_for_none_but_that() {
    check(|| {
        let flows = flows(1);
        assert_eq!(flows.insert(1, 5), Entered::Free);
        let other = {
            let flows = flows.clone();
            // The one entry there is: the first flow's, wherever its slot is, or none.
            thread::spawn(move || flows.insert(2, 6))
        };
        assert!(matches!(flows.stamp(1), None | Some(5)));
        assert!(matches!(flows.stamp(2), None | Some(6)));
        let entered = other.join().unwrap();
        assert_eq!(
            flows.stamp(2).is_some(),
            entered == Entered::OverOwn,
            "{entered:?}"
        );
        assert_eq!(
            (flows.stamp(1).is_none(), flows.table.n_used()),
            (entered == Entered::OverOwn, 1)
        );
    });
}

#[test]
fn flow_that_is_changed_is_the_old_or_the_new_one() {
    check(|| {
        let flows = flows(1);
        flows.insert(1, 5);
        let other = {
            let flows = flows.clone();
            thread::spawn(move || {
                flows
                    .find(1)
                    .is_some_and(|(_, hit)| flows.table.update(&hit, &Flows::decision(6), 1))
            })
        };
        // Both change what they found; whoever comes second finds it changed, and lets it be.
        let mine = flows.find(1).is_some_and(|(stamp, hit)| {
            assert!(matches!(stamp, 5 | 6));
            flows.table.update(&hit, &Flows::decision(7), 1)
        });
        let theirs = other.join().unwrap();
        let stamp = flows.stamp(1).unwrap();
        assert!(mine || theirs);
        assert!(
            stamp == 7 && mine || stamp == 6 && theirs,
            "{stamp} of {mine} and {theirs}"
        );
    });
}

#[test]
fn flow_that_is_changed_while_its_entry_goes_to_another_changes_nothing_of_that() {
    check(|| {
        let flows = flows(1);
        flows.insert(1, 5);
        let (_, hit) = flows.find(1).unwrap();
        let other = {
            let flows = flows.clone();
            thread::spawn(move || {
                flows.sweep(100);
                flows.insert(2, 6)
            })
        };
        flows.table.update(&hit, &Flows::decision(7), 0);
        flows.table.touch(&hit, 3);
        let entered = other.join().unwrap();
        // While it is being changed it is neither swept nor given away.
        let (first, second) = (flows.stamp(1), flows.stamp(2));
        assert!(
            matches!(
                (first, second),
                (None, Some(6)) | (Some(7), None) | (None, None)
            ),
            "{first:?} {second:?}"
        );
        assert_eq!(second.is_some(), is_in(entered), "{entered:?}");
        assert_eq!(
            flows.table.n_used(),
            u32::from(first.is_some()) + u32::from(second.is_some())
        );
    });
}

#[test]
fn of_two_cores_that_enter_flows_at_once_none_loses_an_entry() {
    check(|| {
        let flows = flows(2);
        let other = {
            let flows = flows.clone();
            thread::spawn(move || flows.insert(1, 5))
        };
        let mine = flows.insert(2, 6);
        let theirs = other.join().unwrap();
        assert_eq!(
            (flows.stamp(1), flows.stamp(2)),
            (is_in(theirs).then_some(5), is_in(mine).then_some(6))
        );
        assert_eq!(
            flows.table.n_used(),
            u32::from(is_in(mine)) + u32::from(is_in(theirs))
        );
        // All that there is can be had again.
        flows.sweep(100);
        assert_eq!(flows.table.n_used(), 0);
        assert_eq!(
            (3..6)
                .filter(|&n| flows.insert(n, 1) == Entered::Free)
                .count(),
            2
        );
    });
}

#[test]
fn one_flow_entered_by_two_cores_is_right_whoever_is_found() {
    check(|| {
        let flows = flows(2);
        let other = {
            let flows = flows.clone();
            thread::spawn(move || flows.insert(1, 5))
        };
        let mine = flows.insert(1, 6);
        let theirs = other.join().unwrap();
        let found = flows.stamp(1);
        assert!(
            found == Some(5) && is_in(theirs) || found == Some(6) && is_in(mine),
            "{found:?}"
        );
    });
}

#[test]
fn swept_entry_is_free_once() {
    check(|| {
        let flows = flows(1);
        flows.insert(1, 5);
        let other = {
            let flows = flows.clone();
            thread::spawn(move || flows.table.sweep(&flows.macs, 100))
        };
        flows.insert(2, 6);
        other.join().unwrap();
        let n_there = u32::from(flows.stamp(1).is_some()) + u32::from(flows.stamp(2).is_some());
        assert!(flows.table.n_used() == n_there && n_there <= 1, "{n_there}");
        flows.sweep(100);
        assert_eq!(
            (3..6)
                .filter(|&n| flows.insert(n, 1) == Entered::Free)
                .count(),
            1
        );
    });
}

fn is_in(entered: Entered) -> bool {
    entered != Entered::No
}

/// Law: a flow that rests on an address is fresh only while the address is where it was, wherever
/// it has been in between.
#[test]
fn flow_is_stale_though_its_address_has_come_back() {
    check(|| {
        let flows = flows(1);
        learn(&flows.macs, mac(1), 1);
        let a = find(&flows.macs, mac(1)).unwrap();
        let resting = Decision {
            dst: a.entry,
            ..Flows::decision(5)
        };
        let key = Flows::key(1);
        let hash = flows.table.hash(&key);
        flows.table.insert(hash, &key, &resting, 0, &flows.macs, 0);
        let mover = {
            let flows = flows.clone();
            thread::spawn(move || {
                assert!(flows.macs.move_to(a, 2, Kind::Learned, ANY, 0));
                let b = find(&flows.macs, mac(1)).unwrap();
                assert!(flows.macs.move_to(b, 1, Kind::Learned, ANY, 0));
            })
        };
        let hit = flows.table.find(hash, &key).unwrap();
        let (holds, port) = (
            flows.macs.holds(hit.decision.dst),
            find(&flows.macs, mac(1)).unwrap().port,
        );
        assert!(matches!(port, 1 | 2));
        // Where the second look saw the move, the first one comes before it; never the other way
        // round.
        let holds_now = flows.macs.holds(hit.decision.dst);
        assert!(holds || !holds_now, "what was stale is fresh again");
        mover.join().unwrap();
        assert!(
            !flows.macs.holds(hit.decision.dst),
            "A to B to A, and nobody noticed"
        );
    });
}
