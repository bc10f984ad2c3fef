//! The table of cases.

use super::frames::{self, odd_frames};
use super::{Attack, Desc, Fault, Grade, INDIRECT, NEXT, NO_NOTIFY, TABLES_AT, WRITE, linked};
use crate::NetHeader;
use Grade::{DropChain, Harmless, StopQueue, Works};

/// Where no region is: below and far above all.
const NOWHERE: u64 = 0xffff_0000_0000;

macro_rules! faults {
    ($($row:literal $grade:ident $name:literal => $inject:expr;)*) => {
        &[$(Fault { row: $row, name: $name, grade: $grade, inject: $inject }),*]
    };
}

/// All cases.
pub const FAULTS: &[Fault] = faults! {
    "S1" DropChain "chain loops to itself" => |a| { let at = a.at; a.raw(1, |ids| vec![desc(at, 64, NEXT, ids[0])]) };
    "S1" DropChain "chain loops to its head" => |a| looped(a, 0);
    "S1" DropChain "chain loops over two" => |a| looped(a, 1);
    "S2" DropChain "next is the ring's size" => |a| { let n = a.size(); bad_next(a, n) };
    "S2" DropChain "next is 65535" => |a| bad_next(a, u16::MAX);
    "S2" StopQueue "head is the ring's size" => |a| { let n = a.size(); a.offer_head(n) };
    "S2" StopQueue "head is 65535" => |a| a.offer_head(u16::MAX);
    "S2" StopQueue "all heads are out of range" => |a| (0..a.size()).all(|_| a.offer_head(0xfff0));
    "S3" Works "chain as long as the ring" => |a| { let n = a.size(); long_chain(a, n) };
    "S3" DropChain "table one longer than the ring" => |a| { let n = a.size() + 1; long_table(a, n) };
    "S3" Works "table as long as the ring" => |a| { let n = a.size(); long_table(a, n) };
    "S4" DropChain "address 0" => |a| a.chain(&[(0, 76, 0)]);
    "S4" DropChain "address beyond memory" => |a| a.chain(&[(NOWHERE, 76, 0)]);
    "S4" DropChain "address 2^64 - 1" => |a| a.chain(&[(u64::MAX, 76, 0)]);
    "S4" DropChain "address and length wrap" => |a| a.chain(&[(u64::MAX - 7, 76, 0)]);
    "S4" DropChain "last byte beyond memory" => |a| { let end = memory_end(a); a.chain(&[(end - 75, 76, 0)]) };
    "S4" DropChain "starts before memory" => |a| { let start = memory_start(a); a.chain(&[(start - 1, 76, 0)]) };
    "S4" DropChain "second part beyond memory" => |a| { let at = a.at; a.chain(&[(at, 40, 0), (NOWHERE, 36, 0)]) };
    "S4" DropChain "length 4 GiB - 1" => |a| { let at = a.at; a.chain(&[(at, u32::MAX, 0)]) };
    "S5" DropChain "length 0 alone" => |a| { let at = a.at; a.chain(&[(at, 0, 0)]) };
    "S5" Works "length 0 first" => |a| { let (at, n) = (a.at, a.whole()); a.chain(&[(at, 0, 0), (at, n, 0)]) };
    "S5" Works "length 0 in the middle" => |a| { let (at, n) = (a.at, a.whole()); a.chain(&[(at, 20, 0), (at, 0, 0), (at + 20, n - 20, 0)]) };
    "S5" Works "length 0 last" => |a| { let (at, n) = (a.at, a.whole()); a.chain(&[(at, n, 0), (at, 0, 0)]) };
    "S5" Harmless "length 0 at a bad address" => |a| { let (at, n) = (a.at, a.whole()); a.chain(&[(NOWHERE, 0, 0), (at, n, 0)]) };
    "S6" DropChain "overlapping parts of half a memory" => |a| { let part = huge_part(a); let n = usize::from(a.size()).min(64); a.chain(&vec![part; n]) };
    "S6" DropChain "length over 64 KiB by overlaps" => |a| { let at = a.at; let n = usize::from(a.size()); n >= 8 && a.chain(&vec![(at, 16 << 10, 0); n.min(64)]) };
    "S7" DropChain "table without the feature" => |a| !a.has_tables() && { let t = plain_table(a); a.raw(1, |_| vec![desc(t, 16, INDIRECT, 0)]) };
    "S7" DropChain "table in a table" => |a| { let t = a.at + TABLES_AT; a.table(&[desc(t + 64, 16, INDIRECT, 0)], 16, 0) };
    "S7" DropChain "table that refers to itself" => |a| { let t = a.at + TABLES_AT; a.table(&[desc(t, 16, INDIRECT, 0)], 16, 0) };
    "S7" DropChain "table and next" => |a| a.has_tables() && { let (t, at) = (plain_table(a), a.at); a.raw(2, |ids| vec![desc(t, 16, INDIRECT | NEXT, ids[1]), desc(at, 64, 0, 0)]) };
    "S7" Harmless "table for writing" => |a| { let e = whole_entry(a); a.table(&[e], 16, WRITE) };
    "S7" DropChain "table of length 0" => |a| { let e = whole_entry(a); a.table(&[e], 0, 0) };
    "S7" DropChain "table of 17 bytes" => |a| { let e = whole_entry(a); a.table(&[e], 17, 0) };
    "S7" DropChain "table of 15 bytes" => |a| { let e = whole_entry(a); a.table(&[e], 15, 0) };
    "S7" DropChain "table of 4 GiB" => |a| { let e = whole_entry(a); a.table(&[e], 0xffff_fff0, 0) };
    "S7" DropChain "table beyond memory" => |a| a.has_tables() && a.raw(1, |_| vec![desc(NOWHERE, 16, INDIRECT, 0)]);
    "S7" DropChain "table partly beyond memory" => |a| a.has_tables() && { let end = memory_end(a); a.raw(1, |_| vec![desc(end - 16, 32, INDIRECT, 0)]) };
    "S7" Works "table across a page" => table_across_page;
    "S7" Harmless "table at an odd address" => |a| a.has_tables() && { let t = plain_table(a) + 1; let e = whole_entry(a); a.write_table(t, &[e]); a.raw(1, |_| vec![desc(t, 16, INDIRECT, 0)]) };
    "S7" DropChain "loop in a table" => |a| { let at = a.at; a.table(&[desc(at, 20, NEXT, 1), desc(at, 20, NEXT, 0)], 32, 0) };
    "S7" DropChain "next beyond its table" => |a| { let at = a.at; a.table(&[desc(at, 20, NEXT, 2), desc(at, 20, 0, 0)], 32, 0) };
    "S8" DropChain "part for writing in a transmit chain" => |a| { let (at, n) = (a.at, a.whole()); a.chain(&[(at, n, 0), (at, 64, WRITE)]) };
    "S8" DropChain "transmit chain all for writing" => |a| { let (at, n) = (a.at, a.whole()); a.chain(&[(at, n, WRITE)]) };
    "S8" DropChain "parts for reading and writing in turn" => |a| { let at = a.at; a.chain(&[(at, 20, 0), (at, 20, WRITE), (at, 36, 0)]) };
    "S8" DropChain "receive chain for reading" => |a| { a.on_receive(); let at = a.at; a.chain(&[(at, 2048, 0)]) };
    "S8" DropChain "receive chain for reading, then for writing" => |a| { a.on_receive(); let at = a.at; a.chain(&[(at, 64, 0), (at, 2048, WRITE)]) };
    "S9" Harmless "same head twice in a batch" => same_head_twice;
    "S10" Harmless "length flips between fine and 4 GiB" => |a| flip_desc(a, 11, [0, 0xff]);
    "S10" Harmless "address flips between fine and beyond memory" => |a| flip_desc(a, 7, [0, 0xff]);
    "S10" Harmless "flags flip between none and next" => |a| flip_desc(a, 12, [0, 1]);
    "S10" Harmless "header flips between none and checksum" => |a| { let at = a.at; a.flip(at, [0, 1]); repeat(a) };
    "S10" Harmless "source address flips" => |a| { let at = a.at + a.driver.options().header_bytes() as u64 + 6; a.flip(at, [2, 3]); repeat(a) };
    "S11" Harmless "frame is the descriptor table" => |a| { let at = a.driver.vring_gpa(a.vring).desc; a.chain(&[(at, 76, 0)]) };
    "S11" Harmless "frame is the used ring" => |a| { let at = a.driver.vring_gpa(a.vring).used; a.chain(&[(at, 76, 0)]) };
    "S11" Harmless "receive buffer is the used ring" => |a| receive_into(a, 0);
    "S11" Harmless "receive buffer is the avail ring" => |a| receive_into(a, 1);
    "S11" Harmless "receive buffer is the descriptor table" => |a| receive_into(a, 2);
    "S12" Works "used index written by the guest" => |a| { let at = a.driver.vring_gpa(a.vring).used; good(a) && poke_u16(a, at + 2, 0x1234) };
    "S12" Works "used entries written by the guest" => |a| { let at = a.driver.vring_gpa(a.vring).used; good(a) && (0..a.size()).all(|i| poke_u16(a, at + 4 + 8 * u64::from(i), 0xffff)) };
    "S12" Works "avail_event written by the guest" => |a| { let at = a.driver.vring_gpa(a.vring).used + 4 + 8 * u64::from(a.size()); good(a) && poke_u16(a, at, 0x8000) };
    "S13" Works "used_event is exact" => |a| used_event(a, 0);
    "S13" Works "used_event is one before" => |a| used_event(a, u16::MAX);
    "S13" Works "used_event is one behind" => |a| used_event(a, 1);
    "S13" Works "used_event is half a world away" => |a| used_event(a, 0x8000);
    "S13" Works "no-interrupt flag and reserved flags set" => |a| { let at = a.driver.vring_gpa(a.vring).avail; good(a) && poke_u16(a, at, NO_NOTIFY | 0xfffe) };
    "S14" Harmless "a ring of chains of 256 one-byte descriptors" => one_byte_chains;
    "S15" Harmless "receive buffers of one byte" => |a| tiny_buffers(a, 1);
    "S15" Harmless "receive chains shorter than the header" => |a| tiny_buffers(a, 8);
    "S15" Harmless "one receive buffer, of length 0" => |a| { a.on_receive(); let at = a.at; a.chain(&[(at, 0, WRITE)]) };
    "S15" DropChain "receive buffer beyond memory" => |a| { a.on_receive(); a.chain(&[(NOWHERE, 2048, WRITE)]) };
    "S15" DropChain "receive chain loops" => |a| { a.on_receive(); let at = a.at; a.raw(1, |ids| vec![desc(at, 1, NEXT | WRITE, ids[0])]) };
    "Q4" StopQueue "avail index one more than the ring ahead" => |a| { let n = a.size(); ahead(a, n + 1) };
    "Q4" StopQueue "avail index half a world ahead" => |a| ahead(a, 0x8000 + 1);
    "Q4" StopQueue "avail index backwards" => |a| ahead(a, u16::MAX);
    "N1" DropChain "chain of one byte" => |a| { let at = a.at; a.chain(&[(at, 1, 0)]) };
    "N1" DropChain "chain one shorter than the header" => |a| { let (at, h) = (a.at, header(a)); a.chain(&[(at, h - 1, 0)]) };
    "N1" DropChain "chain of a header alone" => |a| { let (at, h) = (a.at, header(a)); a.chain(&[(at, h, 0)]) };
    "N1" Works "header in its own descriptor" => |a| split_at(a, &[header(a)]);
    "N1" Works "header over two descriptors" => |a| split_at(a, &[4, header(a)]);
    "N1" Works "header and first bytes one by one" => |a| { let cuts: Vec<u32> = (1..=header(a) + 3).collect(); usize::from(a.size()) > cuts.len() && split_at(a, &cuts) };
    "N2" DropChain "checksum starts beyond the frame" => |a| csum(a, 9000, 16);
    "N2" DropChain "checksum starts at the frame's end" => |a| { let n = u16::try_from(a.frame.len()).unwrap_or(0); csum(a, n, 0) };
    "N2" DropChain "checksum field beyond the frame" => |a| csum(a, 34, 9000);
    "N2" DropChain "checksum field at the last byte" => |a| { let n = u16::try_from(a.frame.len()).unwrap_or(0); csum(a, 34, n - 35) };
    "N2" DropChain "checksum start and offset overflow" => |a| csum(a, u16::MAX, u16::MAX);
    "N3" DropChain "unknown segmentation type" => |a| gso(a, 0x7f, 1000, 54);
    "N3" DropChain "segment size 0" => |a| gso(a, 1, 0, 54);
    "N3" DropChain "segment size 1, not negotiated" => |a| gso(a, 1, 1, 54);
    "N3" DropChain "segmentation without a checksum" => |a| a.with_header(NetHeader { gso_type: 1, gso_size: 1000, hdr_len: 54, ..NetHeader::default() });
    "N3" DropChain "UDP segmentation, not negotiated" => |a| gso(a, 3, 1000, 42);
    "N3" DropChain "header length beyond the frame" => |a| gso(a, 1, 1000, u16::MAX);
    "N5" DropChain "frame of one byte" => |a| cut_to(a, 1);
    "N5" DropChain "frame of 13 bytes" => |a| cut_to(a, 13);
    "N5" Harmless "frame of 14 bytes" => |a| cut_to(a, 14);
    "N5" DropChain "frame of 64 KiB + 1" => |a| oversized(a, 65537);
    "N5" DropChain "frame of 1 MiB" => |a| oversized(a, 1 << 20);
    "N6" Harmless "frames that mislead parsers" => |a| odd_frames(&a.frame.clone()).iter().all(|(_, frame)| a.send(frame));
    "N7" DropChain "source is broadcast" => |a| { let frame = frames::from_mac(&a.frame, [0xff; 6]); a.send(&frame) };
    "N7" DropChain "source is multicast" => |a| { let frame = frames::from_mac(&a.frame, [1, 0, 0x5e, 0, 0, 1]); a.send(&frame) };
    "N7" DropChain "source is zero" => |a| { let frame = frames::from_mac(&a.frame, [0; 6]); a.send(&frame) };
};

fn desc(addr: u64, len: u32, flags: u16, next: u16) -> Desc {
    Desc {
        addr,
        len,
        flags,
        next,
    }
}

fn header(a: &Attack<'_>) -> u32 {
    u32::try_from(a.driver.options().header_bytes()).expect("10 or 12")
}

fn good(a: &mut Attack<'_>) -> bool {
    let (at, n) = (a.at, a.whole());
    a.chain(&[(at, n, 0)])
}

fn whole_entry(a: &Attack<'_>) -> Desc {
    desc(a.at, a.whole(), 0, 0)
}

/// A good table of one entry; where it is.
fn plain_table(a: &Attack<'_>) -> u64 {
    let table = a.at + TABLES_AT;
    a.write_table(table, &[whole_entry(a)]);
    table
}

fn memory_start(a: &Attack<'_>) -> u64 {
    a.driver.memory().regions()[0].spec().gpa
}

fn memory_end(a: &Attack<'_>) -> u64 {
    let specs = a
        .driver
        .memory()
        .regions()
        .iter()
        .map(|r| r.spec().gpa + r.spec().len);
    specs.max().expect("there are regions")
}

fn looped(a: &mut Attack<'_>, back_to: usize) -> bool {
    let at = a.at;
    a.raw(3, |ids| {
        (0..3)
            .map(|i| desc(at, 20, NEXT, if i == 2 { ids[back_to] } else { ids[i + 1] }))
            .collect()
    })
}

fn bad_next(a: &mut Attack<'_>, next: u16) -> bool {
    let at = a.at;
    a.raw(1, |_| vec![desc(at, 64, NEXT, next)])
}

/// Cuts header and frame into `n` parts, the last ones empty if there are more parts than bytes.
fn in_parts(a: &Attack<'_>, n: u16) -> Vec<(u64, u32, u16)> {
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

fn long_chain(a: &mut Attack<'_>, n: u16) -> bool {
    let parts = in_parts(a, n);
    a.chain(&parts)
}

fn long_table(a: &mut Attack<'_>, n: u16) -> bool {
    let parts = in_parts(a, n);
    let entries = linked(&parts, |i| u16::try_from(i).expect("n is 16 bits"));
    n <= 4096 && a.table(&entries, 16 * u32::from(n), 0)
}

fn huge_part(a: &Attack<'_>) -> (u64, u32, u16) {
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

fn table_across_page(a: &mut Attack<'_>) -> bool {
    if !a.has_tables() {
        return false;
    }
    let table = (a.at + TABLES_AT).next_multiple_of(4096) + 4096 - 16;
    let (at, n) = (a.at, a.whole());
    a.write_table(table, &[desc(at, 20, NEXT, 1), desc(at + 20, n - 20, 0, 0)]);
    a.raw(1, |_| vec![desc(table, 32, INDIRECT, 0)])
}

fn same_head_twice(a: &mut Attack<'_>) -> bool {
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
fn flip_desc(a: &mut Attack<'_>, byte: u64, values: [u8; 2]) -> bool {
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

fn repeat(a: &mut Attack<'_>) -> bool {
    a.spoilt = true;
    (0..a.size()).all(|_| good(a))
}

fn receive_into(a: &mut Attack<'_>, which: usize) -> bool {
    a.on_receive();
    let at = a.driver.vring_gpa(a.vring);
    let gpa = [at.used, at.avail, at.desc][which];
    a.spoilt = true;
    a.chain(&[(gpa, 2048.min(4 * u32::from(a.size())), WRITE)])
}

fn poke_u16(a: &mut Attack<'_>, gpa: u64, value: u16) -> bool {
    a.driver.memory().store_u16(gpa, value);
    a.spoilt = true;
    true
}

fn used_event(a: &mut Attack<'_>, off: u16) -> bool {
    let base = a.driver.vring_base(a.vring);
    a.driver.options().event_idx && {
        a.driver
            .ring(a.vring)
            .set_used_event(base.wrapping_add(off));
        good(a)
    }
}

fn one_byte_chains(a: &mut Attack<'_>) -> bool {
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

fn tiny_buffers(a: &mut Attack<'_>, len: u32) -> bool {
    a.on_receive();
    let at = a.at;
    (0..a.size()).all(|i| a.chain(&[(at + 64 * u64::from(i % 256), len, WRITE)]))
}

fn ahead(a: &mut Attack<'_>, by: u16) -> bool {
    let at = a.driver.vring_gpa(a.vring).avail;
    let idx = a.driver.memory().load_u16(at + 2);
    a.show_avail(idx.wrapping_add(by))
}

/// Header and frame cut at these offsets, ascending.
fn split_at(a: &mut Attack<'_>, cuts: &[u32]) -> bool {
    let (at, n) = (a.at, a.whole());
    let ends: Vec<u32> = cuts.iter().copied().chain([n]).collect();
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let parts: Vec<_> = starts
        .zip(&ends)
        .map(|(from, to)| (at + u64::from(from), to - from, 0))
        .collect();
    a.chain(&parts)
}

fn csum(a: &mut Attack<'_>, csum_start: u16, csum_offset: u16) -> bool {
    a.with_header(NetHeader {
        flags: crate::header::NEEDS_CSUM,
        csum_start,
        csum_offset,
        ..NetHeader::default()
    })
}

fn gso(a: &mut Attack<'_>, gso_type: u8, gso_size: u16, hdr_len: u16) -> bool {
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

fn cut_to(a: &mut Attack<'_>, n: u32) -> bool {
    let (at, h) = (a.at, header(a));
    a.chain(&[(at, h + n, 0)])
}

/// The frame and then its bytes again and again.
fn oversized(a: &mut Attack<'_>, len: u32) -> bool {
    let (at, most) = (a.at, 24 << 10);
    let mut parts = vec![(at, header(a), 0)];
    let mut left = len;
    while left > 0 {
        parts.push((at, left.min(most), 0));
        left = left.saturating_sub(most);
    }
    parts.len() <= usize::from(a.size()) && a.chain(&parts)
}
