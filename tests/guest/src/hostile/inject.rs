//! Ways to put broken chains into a ring, for the table of cases.

use super::{Attack, Desc, INDIRECT, NEXT, TABLES_AT, WRITE, linked};
use crate::NetHeader;

pub(super) fn desc(addr: u64, len: u32, flags: u16, next: u16) -> Desc {
    Desc {
        addr,
        len,
        flags,
        next,
    }
}

pub(super) fn header(a: &Attack<'_>) -> u32 {
    u32::try_from(a.driver.options().header_bytes()).expect("10 or 12")
}

pub(super) fn good(a: &mut Attack<'_>) -> bool {
    let (at, n) = (a.at, a.whole());
    a.chain(&[(at, n, 0)])
}

pub(super) fn whole_entry(a: &Attack<'_>) -> Desc {
    desc(a.at, a.whole(), 0, 0)
}

/// A good table of one entry; where it is.
pub(super) fn plain_table(a: &Attack<'_>) -> u64 {
    let table = a.at + TABLES_AT;
    a.write_table(table, &[whole_entry(a)]);
    table
}

pub(super) fn memory_start(a: &Attack<'_>) -> u64 {
    a.driver.memory().regions()[0].spec().gpa
}

pub(super) fn memory_end(a: &Attack<'_>) -> u64 {
    let specs = a
        .driver
        .memory()
        .regions()
        .iter()
        .map(|r| r.spec().gpa + r.spec().len);
    specs.max().expect("there are regions")
}

pub(super) fn looped(a: &mut Attack<'_>, back_to: usize) -> bool {
    let at = a.at;
    a.raw(3, |ids| {
        (0..3)
            .map(|i| desc(at, 20, NEXT, if i == 2 { ids[back_to] } else { ids[i + 1] }))
            .collect()
    })
}

pub(super) fn bad_next(a: &mut Attack<'_>, next: u16) -> bool {
    let at = a.at;
    a.raw(1, |_| vec![desc(at, 64, NEXT, next)])
}

/// Cuts header and frame into `n` parts, the last ones empty if there are more parts than bytes.
pub(super) fn in_parts(a: &Attack<'_>, n: u16) -> Vec<(u64, u32, u16)> {
    let (whole, n) = (a.whole(), u32::from(n));
    let cut = |i: u32| u64::from(whole) * u64::from(i) / u64::from(n);
    let part = |i| {
        (
            a.at + cut(i),
            u32::try_from(cut(i + 1) - cut(i)).expect("below whole"),
            0,
        )
    };
    (0..n).map(part).collect()
}

pub(super) fn long_chain(a: &mut Attack<'_>, n: u16) -> bool {
    let parts = in_parts(a, n);
    a.chain(&parts)
}

pub(super) fn long_table(a: &mut Attack<'_>, n: u16) -> bool {
    let parts = in_parts(a, n);
    let entries = linked(&parts, |i| u16::try_from(i).expect("n is 16 bits"));
    n <= 4096 && a.table(&entries, 16 * u32::from(n), 0)
}

pub(super) fn huge_part(a: &Attack<'_>) -> (u64, u32, u16) {
    let specs = a
        .driver
        .memory()
        .regions()
        .iter()
        .map(|r| (r.spec().gpa, r.spec().len));
    let (gpa, len) = specs
        .max_by_key(|&(_, len)| len)
        .expect("there are regions");
    (gpa, u32::try_from(len / 2).unwrap_or(1 << 30), 0)
}

pub(super) fn table_across_page(a: &mut Attack<'_>) -> bool {
    if !a.has_tables() {
        return false;
    }
    let table = (a.at + TABLES_AT).next_multiple_of(4096) + 4096 - 16;
    let (at, n) = (a.at, a.whole());
    a.write_table(table, &[desc(at, 20, NEXT, 1), desc(at + 20, n - 20, 0, 0)]);
    a.raw(1, |_| vec![desc(table, 32, INDIRECT, 0)])
}

pub(super) fn same_head_twice(a: &mut Attack<'_>) -> bool {
    let (at, n) = (a.at, a.whole());
    let mut head = 0;
    let room = a.size() >= 2;
    let done = room
        && a.raw(1, |ids| {
            head = ids[0];
            vec![desc(at, n, 0, 0)]
        });
    a.n_chains += usize::from(done);
    done && a.offer_head(head)
}

/// A ring full of good chains, and a thread that changes `byte` of the first one's descriptor.
pub(super) fn flip_desc(a: &mut Attack<'_>, byte: u64, values: [u8; 2]) -> bool {
    let (at, n, table) = (a.at, a.whole(), a.driver.vring_gpa(a.vring).desc);
    let mut id = 0;
    let done = a.raw(1, |ids| {
        id = ids[0];
        vec![desc(at, n, 0, ids[0])]
    });
    a.flip(table + 16 * u64::from(id) + byte, values);
    a.spoilt = true;
    done
}

pub(super) fn repeat(a: &mut Attack<'_>) -> bool {
    a.spoilt = true;
    (0..a.size()).all(|_| good(a))
}

pub(super) fn receive_into(a: &mut Attack<'_>, which: usize) -> bool {
    a.on_receive();
    let at = a.driver.vring_gpa(a.vring);
    let gpa = [at.used, at.avail, at.desc][which];
    a.spoilt = true;
    a.chain(&[(gpa, 2048.min(4 * u32::from(a.size())), WRITE)])
}

pub(super) fn poke_u16(a: &mut Attack<'_>, gpa: u64, value: u16) -> bool {
    a.driver.memory().store_u16(gpa, value);
    a.spoilt = true;
    true
}

pub(super) fn used_event(a: &mut Attack<'_>, off: u16) -> bool {
    let base = a.driver.vring_base(a.vring);
    a.driver.options().event_idx && {
        a.driver
            .ring(a.vring)
            .set_used_event(base.wrapping_add(off));
        good(a)
    }
}

pub(super) fn one_byte_chains(a: &mut Attack<'_>) -> bool {
    if !a.has_tables() {
        return false;
    }
    let at = a.at;
    let entries: Vec<Desc> = (0..256u16)
        .map(|i| {
            desc(
                at + u64::from(i % 64),
                1,
                if i < 255 { NEXT } else { 0 },
                i + 1,
            )
        })
        .collect();
    let n = a.size();
    n >= 256 && (0..n).all(|_| a.table(&entries, 16 * 256, 0))
}

pub(super) fn tiny_buffers(a: &mut Attack<'_>, len: u32) -> bool {
    a.on_receive();
    let at = a.at;
    (0..a.size()).all(|i| a.chain(&[(at + 64 * u64::from(i % 256), len, WRITE)]))
}

pub(super) fn ahead(a: &mut Attack<'_>, by: u16) -> bool {
    let at = a.driver.vring_gpa(a.vring).avail;
    let idx = a.driver.memory().load_u16(at + 2);
    a.show_avail(idx.wrapping_add(by))
}

/// Header and frame cut at these offsets, ascending.
pub(super) fn split_at(a: &mut Attack<'_>, cuts: &[u32]) -> bool {
    let (at, n) = (a.at, a.whole());
    let ends: Vec<u32> = cuts.iter().copied().chain([n]).collect();
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let parts: Vec<_> = starts
        .zip(&ends)
        .map(|(from, to)| (at + u64::from(from), to - from, 0))
        .collect();
    a.chain(&parts)
}

pub(super) fn csum(a: &mut Attack<'_>, csum_start: u16, csum_offset: u16) -> bool {
    a.with_header(NetHeader {
        flags: crate::header::NEEDS_CSUM,
        csum_start,
        csum_offset,
        ..NetHeader::default()
    })
}

pub(super) fn gso(a: &mut Attack<'_>, gso_type: u8, gso_size: u16, hdr_len: u16) -> bool {
    let flags = crate::header::NEEDS_CSUM;
    a.with_header(NetHeader {
        flags,
        gso_type,
        gso_size,
        hdr_len,
        csum_start: 34,
        csum_offset: 16,
        ..NetHeader::default()
    })
}

pub(super) fn cut_to(a: &mut Attack<'_>, n: u32) -> bool {
    let (at, h) = (a.at, header(a));
    a.chain(&[(at, h + n, 0)])
}

/// The frame and then its bytes again and again.
pub(super) fn oversized(a: &mut Attack<'_>, len: u32) -> bool {
    let (at, most) = (a.at, 24 << 10);
    let mut parts = vec![(at, header(a), 0)];
    let mut left = len;
    while left > 0 {
        parts.push((at, left.min(most), 0));
        left = left.saturating_sub(most);
    }
    parts.len() <= usize::from(a.size()) && a.chain(&parts)
}
