//! What is watched of an offender's memory: what it has offered, and the bytes themselves.

use std::collections::BTreeSet;

use guest::GuestDriver;
use guest::ring::{Desc, INDIRECT, WRITE};

use super::LINE;

/// What a guest has offered for writing since its port came up. More than it has: every writable
/// descriptor counts, in whatever chain it is.
#[derive(Debug)]
pub(super) struct Offered {
    /// First byte and the one behind the last.
    ranges: BTreeSet<(u64, u64)>,
    /// Where its descriptors are.
    tables: BTreeSet<(u64, u64)>,
    used: Vec<(u64, u64)>,
    /// Each receive ring's descriptors as last seen, if none of them leads to a table.
    seen: Vec<Vec<u8>>,
}

impl Offered {
    pub(super) fn new(guest: &GuestDriver) -> Self {
        let used_of = |vring| {
            let at = guest.vring_gpa(vring).used;
            (at, at + 6 + 8 * u64::from(guest.vring_size(vring)))
        };
        let used = (0..guest.n_vrings()).map(used_of).collect();
        let seen = vec![Vec::new(); guest.n_vrings()];
        Self {
            ranges: BTreeSet::new(),
            tables: BTreeSet::new(),
            used,
            seen,
        }
    }

    /// Looks at the descriptors as they are now.
    pub(super) fn note(&mut self, guest: &GuestDriver) {
        for vring in (0..guest.n_vrings()).step_by(2) {
            let (at, size) = (
                guest.vring_gpa(vring).desc,
                u64::from(guest.vring_size(vring)),
            );
            let bytes = guest
                .memory()
                .read_vec(at, usize::try_from(16 * size).expect("small"));
            if self.seen[vring] == bytes {
                continue;
            }
            self.tables.insert((at, at + 16 * size));
            let descs_here = descs(&bytes);
            let has_tables = descs_here.iter().any(|desc| desc.flags & INDIRECT != 0);
            self.seen[vring] = if has_tables { Vec::new() } else { bytes };
            for desc in descs_here {
                if desc.flags & INDIRECT == 0 {
                    self.note_one(desc);
                    continue;
                }
                let n = u64::from(desc.len / 16).min(size);
                if n > 0 && guest.memory().contains(desc.addr, 16 * n) {
                    self.tables.insert((desc.addr, desc.addr + 16 * n));
                    let bytes = guest
                        .memory()
                        .read_vec(desc.addr, usize::try_from(16 * n).expect("small"));
                    descs(&bytes)
                        .into_iter()
                        .for_each(|desc| self.note_one(desc));
                }
            }
        }
    }

    pub(super) fn note_one(&mut self, desc: Desc) {
        if desc.flags & WRITE != 0 && desc.len > 0 {
            self.ranges
                .insert((desc.addr, desc.addr.saturating_add(u64::from(desc.len))));
        }
    }

    /// Panics if a byte changed that it had not offered. A guest that offers its own descriptors
    /// gets other ones in the middle of a turn, by its own fault: nothing is known about its memory
    /// then.
    pub(super) fn check(&self, guest: &GuestDriver, before: &Image) {
        let written: Vec<(u64, u64)> = self.ranges.iter().chain(&self.used).copied().collect();
        let meets = |&(a, b): &(u64, u64)| written.iter().any(|&(c, d)| a < d && c < b);
        if self.tables.iter().any(meets) {
            return;
        }
        before.for_each_change(guest, |gpa| {
            let is_offered = written
                .iter()
                .any(|&(from, end)| (from..end).contains(&gpa));
            assert!(
                is_offered,
                "byte {gpa:#x} was written to, which nobody offered: {self:x?}"
            );
        });
    }
}

fn descs(bytes: &[u8]) -> Vec<Desc> {
    let desc = |bytes: &[u8]| {
        let word = u128::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        let part =
            |shift: u32| u64::try_from(word >> shift & u128::from(u64::MAX)).expect("masked");
        let short = |shift: u32| u16::try_from(part(shift) & 0xffff).expect("masked");
        let len = u32::try_from(part(64) & 0xffff_ffff).expect("masked");
        Desc {
            addr: part(0),
            len,
            flags: short(96),
            next: short(112),
        }
    };
    bytes.chunks_exact(16).map(desc).collect()
}

/// All bytes of a guest's memory, by region.
pub(super) struct Image(Vec<(u64, Vec<u8>)>);

impl Image {
    pub(super) fn of(guest: &GuestDriver) -> Self {
        let of = |region: &guest::memory::Region| {
            let spec = region.spec();
            (
                spec.gpa,
                vec![0; usize::try_from(spec.len).expect("a region")],
            )
        };
        Self(guest.memory().regions().iter().map(of).collect())
    }

    pub(super) fn take(&mut self, guest: &GuestDriver) {
        self.0
            .iter_mut()
            .for_each(|(gpa, bytes)| guest.memory().read(*gpa, bytes));
    }

    /// Calls `changed` for the address of each byte that is not as it was.
    pub(super) fn for_each_change(&self, guest: &GuestDriver, mut changed: impl FnMut(u64)) {
        let mut now = [0; LINE];
        for (gpa, bytes) in &self.0 {
            for (first, was) in (*gpa..).step_by(LINE).zip(bytes.chunks(LINE)) {
                let now = &mut now[..was.len()];
                guest.memory().read(first, now);
                if now != was {
                    (first..)
                        .zip(was.iter().zip(&*now))
                        .filter(|(_, (was, now))| was != now)
                        .for_each(|(gpa, _)| changed(gpa));
                }
            }
        }
    }
}
