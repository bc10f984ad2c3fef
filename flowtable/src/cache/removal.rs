//! Ports that are gone, whose numbers others get: none of their flows is left, nor counted.

use crate::cache::table::{FlowTable, slot};
use crate::ids::PortId;
use crate::memory::sync::Ordering;

impl FlowTable {
    /// Frees all flows that come in by a port. For control, once no core takes frames of the port
    /// any more. Goes through the entries that were ever used, 64 bytes each, one after another;
    /// through none if the port has none. Returns how many were freed.
    ///
    /// Flows *to* the port rest on its addresses: see [`crate::MacTable::remove_port`].
    pub fn forget_port(&self, port: PortId) -> usize {
        let mut n_freed = 0;
        for entry in 0..self.slab.n_fresh() {
            if self.n_used_by(port) == 0 {
                break;
            }
            if self.slab.port(entry) == port {
                n_freed += usize::from(self.free(entry, port));
            }
        }
        n_freed
    }

    /// Frees the entry if it is one of this port's flows, in a slot that its key leads to.
    fn free(&self, entry: u32, port: PortId) -> bool {
        let Some(key) = self.slab.key(entry).filter(|key| key.port() == port) else {
            return false;
        };
        let hash = self.hash(&key);
        let word = slot(hash, entry);
        let mut slots = self
            .places(hash)
            .into_iter()
            .flat_map(|bucket| self.slots(bucket));
        let Some(found) = slots.find(|slot| slot.load(Ordering::Relaxed) == word) else {
            // It is free already, or was just evicted.
            return false;
        };
        // If it fails, another core has evicted it.
        match self.vacate(found, word) {
            Some(entry) => {
                self.slab.give(entry);
                true
            }
            None => false,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::action::Action;
    use crate::cache::key::Key;
    use crate::cache::table::Decision;
    use crate::mac::entry::EntryRef;
    use crate::mac::table::MacTable;
    use crate::wire::header::Header;
    use crate::wire::tuple::{Kind, Tuple};

    fn key(n: u32, port: PortId) -> Key {
        let mut header = Header::default();
        header.0[..4].copy_from_slice(&n.to_be_bytes());
        let kind = [Kind::V4, Kind::V6][n as usize % 2];
        Key::new(&header, port).with(&Tuple {
            src: [0, u64::from(n)],
            kind,
            ..Tuple::default()
        })
    }

    #[test]
    fn flows_of_a_port_that_is_gone_are_gone_and_all_others_stay() {
        let (table, macs) = (
            FlowTable::new(1 << 10, 8, [7, 11]),
            MacTable::new(64, 8, [1, 2]),
        );
        let decision = Decision {
            action: Action::Unicast(1),
            stamp: 1,
            src: EntryRef::NONE,
            dst: EntryRef::NONE,
        };
        let enter = |n, port| {
            let key = key(n, port);
            table.insert(table.hash(&key), &key, &decision, 1, &macs, 0)
        };
        for n in 0..200 {
            (1..4).for_each(|port| _ = enter(n, port));
        }
        let n_of = |port| table.n_used_by(port) as usize;
        let (before, all) = ([n_of(1), n_of(3)], table.n_used() as usize);
        let n_two = n_of(2);
        assert!(n_two > 190);
        assert_eq!(table.forget_port(2), n_two);
        assert_eq!(([n_of(1), n_of(3)], n_of(2)), (before, 0));
        assert_eq!(table.n_used() as usize, all - n_two);
        let is_there = |n, port| {
            let key = key(n, port);
            table.find(table.hash(&key), &key).is_some()
        };
        assert!((0..200).all(|n| !is_there(n, 2)));
        assert_eq!((0..200).filter(|&n| is_there(n, 1)).count(), before[0]);
        assert_eq!(table.forget_port(2), 0);
        // What was freed is used again.
        (0..200).for_each(|n| _ = enter(n, 5));
        assert!(n_of(5) > 190);
    }
}
