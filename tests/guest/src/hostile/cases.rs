//! The table of cases.

use super::frames::{self, odd_frames};
use super::inject::{
    ahead, bad_next, csum, cut_to, desc, flip_desc, good, gso, header, huge_part, long_chain,
    long_table, looped, memory_end, memory_start, one_byte_chains, oversized, plain_table,
    poke_u16, receive_into, repeat, same_head_twice, split_at, table_across_page, tiny_buffers,
    used_event, whole_entry,
};
use super::{Attack, Fault, Grade, INDIRECT, NEXT, NO_NOTIFY, TABLES_AT, WRITE};
use crate::NetHeader;
use Grade::{DropChain, Harmless, StopQueue, Works};

/// Where no region is: below and far above all.
const NOWHERE: u64 = 0xffff_0000_0000;

const fn fault(
    row: &'static str,
    grade: Grade,
    name: &'static str,
    inject: fn(&mut Attack<'_>) -> bool,
) -> Fault {
    Fault {
        row,
        name,
        grade,
        inject,
    }
}

/// All cases.
pub const FAULTS: &[Fault] = &[
    fault("S1", DropChain, "chain loops to itself", |a| {
        let at = a.at;
        a.raw(1, |ids| vec![desc(at, 64, NEXT, ids[0])])
    }),
    fault("S1", DropChain, "chain loops to its head", |a| looped(a, 0)),
    fault("S1", DropChain, "chain loops over two", |a| looped(a, 1)),
    fault("S2", DropChain, "next is the ring's size", |a| {
        let n = a.size();
        bad_next(a, n)
    }),
    fault("S2", DropChain, "next is 65535", |a| bad_next(a, u16::MAX)),
    fault("S2", StopQueue, "head is the ring's size", |a| {
        let n = a.size();
        a.offer_head(n)
    }),
    fault("S2", StopQueue, "head is 65535", |a| a.offer_head(u16::MAX)),
    fault("S2", StopQueue, "all heads are out of range", |a| {
        (0..a.size()).all(|_| a.offer_head(0xfff0))
    }),
    fault("S3", Works, "chain as long as the ring", |a| {
        let n = a.size();
        long_chain(a, n)
    }),
    fault("S3", DropChain, "table one longer than the ring", |a| {
        let n = a.size() + 1;
        long_table(a, n)
    }),
    fault("S3", Works, "table as long as the ring", |a| {
        let n = a.size();
        long_table(a, n)
    }),
    fault("S4", DropChain, "address 0", |a| a.chain(&[(0, 76, 0)])),
    fault("S4", DropChain, "address beyond memory", |a| {
        a.chain(&[(NOWHERE, 76, 0)])
    }),
    fault("S4", DropChain, "address 2^64 - 1", |a| {
        a.chain(&[(u64::MAX, 76, 0)])
    }),
    fault("S4", DropChain, "address and length wrap", |a| {
        a.chain(&[(u64::MAX - 7, 76, 0)])
    }),
    fault("S4", DropChain, "last byte beyond memory", |a| {
        let end = memory_end(a);
        a.chain(&[(end - 75, 76, 0)])
    }),
    fault("S4", DropChain, "starts before memory", |a| {
        let start = memory_start(a);
        a.chain(&[(start - 1, 76, 0)])
    }),
    fault("S4", DropChain, "second part beyond memory", |a| {
        let at = a.at;
        a.chain(&[(at, 40, 0), (NOWHERE, 36, 0)])
    }),
    fault("S4", DropChain, "length 4 GiB - 1", |a| {
        let at = a.at;
        a.chain(&[(at, u32::MAX, 0)])
    }),
    fault("S5", DropChain, "length 0 alone", |a| {
        let at = a.at;
        a.chain(&[(at, 0, 0)])
    }),
    fault("S5", Works, "length 0 first", |a| {
        let (at, n) = (a.at, a.whole());
        a.chain(&[(at, 0, 0), (at, n, 0)])
    }),
    fault("S5", Works, "length 0 in the middle", |a| {
        let (at, n) = (a.at, a.whole());
        a.chain(&[(at, 20, 0), (at, 0, 0), (at + 20, n - 20, 0)])
    }),
    fault("S5", Works, "length 0 last", |a| {
        let (at, n) = (a.at, a.whole());
        a.chain(&[(at, n, 0), (at, 0, 0)])
    }),
    fault("S5", Harmless, "length 0 at a bad address", |a| {
        let (at, n) = (a.at, a.whole());
        a.chain(&[(NOWHERE, 0, 0), (at, n, 0)])
    }),
    fault("S6", DropChain, "overlapping parts of half a memory", |a| {
        let part = huge_part(a);
        let n = usize::from(a.size()).min(64);
        a.chain(&vec![part; n])
    }),
    fault("S6", DropChain, "length over 64 KiB by overlaps", |a| {
        let at = a.at;
        let n = usize::from(a.size());
        n >= 8 && a.chain(&vec![(at, 16 << 10, 0); n.min(64)])
    }),
    fault("S7", DropChain, "table without the feature", |a| {
        !a.has_tables() && {
            let t = plain_table(a);
            a.raw(1, |_| vec![desc(t, 16, INDIRECT, 0)])
        }
    }),
    fault("S7", DropChain, "table in a table", |a| {
        let t = a.at + TABLES_AT;
        a.table(&[desc(t + 64, 16, INDIRECT, 0)], 16, 0)
    }),
    fault("S7", DropChain, "table that refers to itself", |a| {
        let t = a.at + TABLES_AT;
        a.table(&[desc(t, 16, INDIRECT, 0)], 16, 0)
    }),
    fault("S7", DropChain, "table and next", |a| {
        a.has_tables() && {
            let (t, at) = (plain_table(a), a.at);
            a.raw(2, |ids| {
                vec![desc(t, 16, INDIRECT | NEXT, ids[1]), desc(at, 64, 0, 0)]
            })
        }
    }),
    fault("S7", Harmless, "table for writing", |a| {
        let e = whole_entry(a);
        a.table(&[e], 16, WRITE)
    }),
    fault("S7", DropChain, "table of length 0", |a| {
        let e = whole_entry(a);
        a.table(&[e], 0, 0)
    }),
    fault("S7", DropChain, "table of 17 bytes", |a| {
        let e = whole_entry(a);
        a.table(&[e], 17, 0)
    }),
    fault("S7", DropChain, "table of 15 bytes", |a| {
        let e = whole_entry(a);
        a.table(&[e], 15, 0)
    }),
    fault("S7", DropChain, "table of 4 GiB", |a| {
        let e = whole_entry(a);
        a.table(&[e], 0xffff_fff0, 0)
    }),
    fault("S7", DropChain, "table beyond memory", |a| {
        a.has_tables() && a.raw(1, |_| vec![desc(NOWHERE, 16, INDIRECT, 0)])
    }),
    fault("S7", DropChain, "table partly beyond memory", |a| {
        a.has_tables() && {
            let end = memory_end(a);
            a.raw(1, |_| vec![desc(end - 16, 32, INDIRECT, 0)])
        }
    }),
    fault("S7", Works, "table across a page", table_across_page),
    fault("S7", Harmless, "table at an odd address", |a| {
        a.has_tables() && {
            let t = plain_table(a) + 1;
            let e = whole_entry(a);
            a.write_table(t, &[e]);
            a.raw(1, |_| vec![desc(t, 16, INDIRECT, 0)])
        }
    }),
    fault("S7", DropChain, "loop in a table", |a| {
        let at = a.at;
        a.table(&[desc(at, 20, NEXT, 1), desc(at, 20, NEXT, 0)], 32, 0)
    }),
    fault("S7", DropChain, "next beyond its table", |a| {
        let at = a.at;
        a.table(&[desc(at, 20, NEXT, 2), desc(at, 20, 0, 0)], 32, 0)
    }),
    fault(
        "S8",
        DropChain,
        "part for writing in a transmit chain",
        |a| {
            let (at, n) = (a.at, a.whole());
            a.chain(&[(at, n, 0), (at, 64, WRITE)])
        },
    ),
    fault("S8", DropChain, "transmit chain all for writing", |a| {
        let (at, n) = (a.at, a.whole());
        a.chain(&[(at, n, WRITE)])
    }),
    fault(
        "S8",
        DropChain,
        "parts for reading and writing in turn",
        |a| {
            let at = a.at;
            a.chain(&[(at, 20, 0), (at, 20, WRITE), (at, 36, 0)])
        },
    ),
    fault("S8", DropChain, "receive chain for reading", |a| {
        a.on_receive();
        let at = a.at;
        a.chain(&[(at, 2048, 0)])
    }),
    fault(
        "S8",
        DropChain,
        "receive chain for reading, then for writing",
        |a| {
            a.on_receive();
            let at = a.at;
            a.chain(&[(at, 64, 0), (at, 2048, WRITE)])
        },
    ),
    fault(
        "S9",
        Harmless,
        "same head twice in a batch",
        same_head_twice,
    ),
    fault(
        "S10",
        Harmless,
        "length flips between fine and 4 GiB",
        |a| flip_desc(a, 11, [0, 0xff]),
    ),
    fault(
        "S10",
        Harmless,
        "address flips between fine and beyond memory",
        |a| flip_desc(a, 7, [0, 0xff]),
    ),
    fault("S10", Harmless, "flags flip between none and next", |a| {
        flip_desc(a, 12, [0, 1])
    }),
    fault(
        "S10",
        Harmless,
        "header flips between none and checksum",
        |a| {
            let at = a.at;
            a.flip(at, [0, 1]);
            repeat(a)
        },
    ),
    fault("S10", Harmless, "source address flips", |a| {
        let at = a.at + a.driver.options().header_bytes() as u64 + 6;
        a.flip(at, [2, 3]);
        repeat(a)
    }),
    fault("S11", Harmless, "frame is the descriptor table", |a| {
        let at = a.driver.vring_gpa(a.vring).desc;
        a.chain(&[(at, 76, 0)])
    }),
    fault("S11", Harmless, "frame is the used ring", |a| {
        let at = a.driver.vring_gpa(a.vring).used;
        a.chain(&[(at, 76, 0)])
    }),
    fault("S11", Harmless, "receive buffer is the used ring", |a| {
        receive_into(a, 0)
    }),
    fault("S11", Harmless, "receive buffer is the avail ring", |a| {
        receive_into(a, 1)
    }),
    fault(
        "S11",
        Harmless,
        "receive buffer is the descriptor table",
        |a| receive_into(a, 2),
    ),
    fault("S12", Works, "used index written by the guest", |a| {
        let at = a.driver.vring_gpa(a.vring).used;
        good(a) && poke_u16(a, at + 2, 0x1234)
    }),
    fault("S12", Works, "used entries written by the guest", |a| {
        let at = a.driver.vring_gpa(a.vring).used;
        good(a) && (0..a.size()).all(|i| poke_u16(a, at + 4 + 8 * u64::from(i), 0xffff))
    }),
    fault("S12", Works, "avail_event written by the guest", |a| {
        let at = a.driver.vring_gpa(a.vring).used + 4 + 8 * u64::from(a.size());
        good(a) && poke_u16(a, at, 0x8000)
    }),
    fault("S13", Works, "used_event is exact", |a| used_event(a, 0)),
    fault("S13", Works, "used_event is one before", |a| {
        used_event(a, u16::MAX)
    }),
    fault("S13", Works, "used_event is one behind", |a| {
        used_event(a, 1)
    }),
    fault("S13", Works, "used_event is half a world away", |a| {
        used_event(a, 0x8000)
    }),
    fault(
        "S13",
        Works,
        "no-interrupt flag and reserved flags set",
        |a| {
            let at = a.driver.vring_gpa(a.vring).avail;
            good(a) && poke_u16(a, at, NO_NOTIFY | 0xfffe)
        },
    ),
    fault(
        "S14",
        Harmless,
        "a ring of chains of 256 one-byte descriptors",
        one_byte_chains,
    ),
    fault("S15", Harmless, "receive buffers of one byte", |a| {
        tiny_buffers(a, 1)
    }),
    fault(
        "S15",
        Harmless,
        "receive chains shorter than the header",
        |a| tiny_buffers(a, 8),
    ),
    fault("S15", Harmless, "one receive buffer, of length 0", |a| {
        a.on_receive();
        let at = a.at;
        a.chain(&[(at, 0, WRITE)])
    }),
    fault("S15", DropChain, "receive buffer beyond memory", |a| {
        a.on_receive();
        a.chain(&[(NOWHERE, 2048, WRITE)])
    }),
    fault("S15", DropChain, "receive chain loops", |a| {
        a.on_receive();
        let at = a.at;
        a.raw(1, |ids| vec![desc(at, 1, NEXT | WRITE, ids[0])])
    }),
    fault(
        "Q4",
        StopQueue,
        "avail index one more than the ring ahead",
        |a| {
            let n = a.size();
            ahead(a, n + 1)
        },
    ),
    fault("Q4", StopQueue, "avail index half a world ahead", |a| {
        ahead(a, 0x8000 + 1)
    }),
    fault("Q4", StopQueue, "avail index backwards", |a| {
        ahead(a, u16::MAX)
    }),
    fault("N1", DropChain, "chain of one byte", |a| {
        let at = a.at;
        a.chain(&[(at, 1, 0)])
    }),
    fault("N1", DropChain, "chain one shorter than the header", |a| {
        let (at, h) = (a.at, header(a));
        a.chain(&[(at, h - 1, 0)])
    }),
    fault("N1", DropChain, "chain of a header alone", |a| {
        let (at, h) = (a.at, header(a));
        a.chain(&[(at, h, 0)])
    }),
    fault("N1", Works, "header in its own descriptor", |a| {
        split_at(a, &[header(a)])
    }),
    fault("N1", Works, "header over two descriptors", |a| {
        split_at(a, &[4, header(a)])
    }),
    fault("N1", Works, "header and first bytes one by one", |a| {
        let cuts: Vec<u32> = (1..=header(a) + 3).collect();
        usize::from(a.size()) > cuts.len() && split_at(a, &cuts)
    }),
    fault("N2", DropChain, "checksum starts beyond the frame", |a| {
        csum(a, 9000, 16)
    }),
    fault("N2", DropChain, "checksum starts at the frame's end", |a| {
        let n = u16::try_from(a.frame.len()).unwrap_or(0);
        csum(a, n, 0)
    }),
    fault("N2", DropChain, "checksum field beyond the frame", |a| {
        csum(a, 34, 9000)
    }),
    fault("N2", DropChain, "checksum field at the last byte", |a| {
        let n = u16::try_from(a.frame.len()).unwrap_or(0);
        csum(a, 34, n - 35)
    }),
    fault("N2", DropChain, "checksum start and offset overflow", |a| {
        csum(a, u16::MAX, u16::MAX)
    }),
    fault("N3", DropChain, "unknown segmentation type", |a| {
        gso(a, 0x7f, 1000, 54)
    }),
    fault("N3", DropChain, "segment size 0", |a| gso(a, 1, 0, 54)),
    fault("N3", DropChain, "segment size 1, not negotiated", |a| {
        gso(a, 1, 1, 54)
    }),
    fault("N3", DropChain, "segmentation without a checksum", |a| {
        a.with_header(NetHeader {
            gso_type: 1,
            gso_size: 1000,
            hdr_len: 54,
            ..NetHeader::default()
        })
    }),
    fault("N3", DropChain, "UDP segmentation, not negotiated", |a| {
        gso(a, 3, 1000, 42)
    }),
    fault("N3", DropChain, "header length beyond the frame", |a| {
        gso(a, 1, 1000, u16::MAX)
    }),
    fault("N5", DropChain, "frame of one byte", |a| cut_to(a, 1)),
    fault("N5", DropChain, "frame of 13 bytes", |a| cut_to(a, 13)),
    fault("N5", Harmless, "frame of 14 bytes", |a| cut_to(a, 14)),
    fault("N5", DropChain, "frame of 64 KiB + 1", |a| {
        oversized(a, 65537)
    }),
    fault("N5", DropChain, "frame of 1 MiB", |a| oversized(a, 1 << 20)),
    fault("N6", Harmless, "frames that mislead parsers", |a| {
        odd_frames(&a.frame.clone())
            .iter()
            .all(|(_, frame)| a.send(frame))
    }),
    fault("N7", DropChain, "source is broadcast", |a| {
        let frame = frames::from_mac(&a.frame, [0xff; 6]);
        a.send(&frame)
    }),
    fault("N7", DropChain, "source is multicast", |a| {
        let frame = frames::from_mac(&a.frame, [1, 0, 0x5e, 0, 0, 1]);
        a.send(&frame)
    }),
    fault("N7", DropChain, "source is zero", |a| {
        let frame = frames::from_mac(&a.frame, [0; 6]);
        a.send(&frame)
    }),
];
