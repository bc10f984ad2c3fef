//! What an offender does. Addresses are made so that they often lead somewhere.

use guest::GuestDriver;
use guest::ring::{Desc, INDIRECT, NEXT, WRITE};
use rig::{ALL, frame, mac};

use super::SCRATCH_BYTES;
use crate::input::Input;

/// A frame that can be checked, or one too short for that.
pub(super) fn short_or_whole(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut bytes = frame(to, from, 9, len.max(22));
    bytes.truncate(len);
    bytes
}

fn address(guest: &GuestDriver, input: &mut Input<'_>) -> u64 {
    let kind = input.byte();
    let at = u64::from(input.u16());
    let regions = guest.memory().regions();
    let region = regions[usize::from(kind >> 4) % regions.len()].spec();
    match kind & 15 {
        0..=5 => guest.scratch() + at % SCRATCH_BYTES,
        6..=7 => region.gpa + at % region.len,
        8 => (region.gpa + region.len).wrapping_sub(at % 64),
        9 => region.gpa.wrapping_sub(at % 64),
        10..=12 => {
            let ring = guest.vring_gpa(usize::from(kind >> 4) % guest.n_vrings());
            let part = [ring.desc, ring.avail, ring.used][usize::from(kind & 15) - 10];
            part + at % 256
        }
        13 => u64::MAX - at,
        14 => at,
        _ => input.u64(),
    }
}

fn length(input: &mut Input<'_>) -> u32 {
    match input.byte() {
        n @ 0..=127 => u32::from(n),
        n @ 128..=191 => u32::from(n) * 16 - 2000,
        n @ 192..=223 => u32::from(n - 192) * 16,
        224..=239 => u32::from(input.u16()),
        240 => 65_536 + 12,
        241 => 9018 + 12,
        242 => 1 << 20,
        243 => u32::MAX,
        _ => input.u32(),
    }
}

fn descriptor(guest: &GuestDriver, input: &mut Input<'_>) -> Desc {
    let flags = input.one_of(&[
        0,
        WRITE,
        NEXT,
        NEXT | WRITE,
        INDIRECT,
        INDIRECT | WRITE,
        INDIRECT | NEXT,
        0xffff,
        8,
    ]);
    let (addr, len, next) = (
        address(guest, input),
        length(input),
        u16::from(input.byte()),
    );
    Desc {
        addr,
        len,
        flags,
        next: if next > 0xf0 { next << 8 } else { next },
    }
}

pub(super) fn write_descriptor(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let id = u64::from(u16::from(input.byte()) % guest.vring_size(vring));
    let bytes = descriptor(guest, input).to_bytes();
    guest
        .memory()
        .write(guest.vring_gpa(vring).desc + 16 * id, &bytes);
}

/// Up to eight entries somewhere in the scratch memory.
pub(super) fn write_table(guest: &GuestDriver, input: &mut Input<'_>) {
    let at = u64::from(input.byte()) * 16;
    for entry in 0..1 + u64::from(input.byte()) % 8 {
        let bytes = descriptor(guest, input).to_bytes();
        guest.memory().write(
            guest.scratch() + (at + 16 * entry) % (SCRATCH_BYTES - 16),
            &bytes,
        );
    }
}

/// Up to eight heads, right or wrong, and the index behind them.
pub(super) fn offer_heads(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    for _ in 0..1 + input.byte() % 8 {
        let head = input.byte();
        offer(
            guest,
            vring,
            if head == 0xff {
                input.u16()
            } else {
                u16::from(head) % guest.vring_size(vring)
            },
        );
    }
}

fn offer(guest: &GuestDriver, vring: usize, head: u16) {
    let (avail, size) = (guest.vring_gpa(vring).avail, guest.vring_size(vring));
    let idx = guest.memory().load_u16(avail + 2);
    guest
        .memory()
        .store_u16(avail + 4 + 2 * u64::from(idx % size), head);
    guest.memory().store_u16(avail + 2, idx.wrapping_add(1));
}

pub(super) fn store_index(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let ring = guest.vring_gpa(vring);
    let at = if input.flag() { ring.avail } else { ring.used };
    guest.memory().store_u16(at + 2, input.u16());
}

pub(super) fn store_event(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let (ring, size) = (guest.vring_gpa(vring), u64::from(guest.vring_size(vring)));
    let at = [
        ring.avail,
        ring.avail + 4 + 2 * size,
        ring.used,
        ring.used + 4 + 8 * size,
    ];
    guest.memory().store_u16(input.one_of(&at), input.u16());
}

/// Any bytes anywhere.
pub(super) fn poke(guest: &GuestDriver, input: &mut Input<'_>) {
    let regions = guest.memory().regions();
    let region = regions[usize::from(input.byte()) % regions.len()].spec();
    let at = u64::from(input.u16()) % region.len;
    let n = (1 + u64::from(input.byte()) % 16).min(region.len - at);
    guest.memory().write(
        region.gpa + at,
        input.take(usize::try_from(n).expect("small")),
    );
}

/// A frame that is switched, in one or two descriptors.
pub(super) fn offer_frame(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let station = |n: u8| {
        if n & 0x80 != 0 {
            ALL
        } else {
            mac(u16::from(n & 15))
        }
    };
    let (dst, src, len) = (
        station(input.byte()),
        station(input.byte() & 0x7f),
        14 + u64::from(input.u16()) % 1400,
    );
    let at = guest.scratch() + u64::from(input.byte()) * 16;
    let header = vec![0; guest.options().header_bytes()];
    let bytes = [
        header,
        short_or_whole(dst, src, usize::try_from(len).expect("small")),
    ]
    .concat();
    guest.memory().write(at, &bytes);
    let size = guest.vring_size(vring);
    let (head, cut) = (u16::from(input.byte()) % size, u64::from(input.byte()));
    let desc = |id: u16, entry: Desc| {
        guest.memory().write(
            guest.vring_gpa(vring).desc + 16 * u64::from(id),
            &entry.to_bytes(),
        );
    };
    let whole = u32::try_from(bytes.len()).expect("small");
    if cut & 1 == 0 || size == 1 {
        desc(
            head,
            Desc {
                addr: at,
                len: whole,
                flags: 0,
                next: 0,
            },
        );
    } else {
        let next = (head + 1) % size;
        let first = u32::try_from(cut).expect("a byte").min(whole);
        desc(
            head,
            Desc {
                addr: at,
                len: first,
                flags: NEXT,
                next,
            },
        );
        desc(
            next,
            Desc {
                addr: at + u64::from(first),
                len: whole - first,
                flags: 0,
                next: 0,
            },
        );
    }
    offer(guest, vring, head);
}

/// Up to eight receive buffers of one descriptor, one behind another.
pub(super) fn offer_buffers(guest: &GuestDriver, vring: usize, input: &mut Input<'_>) {
    let (mut at, len) = (address(guest, input), length(input));
    let first = u16::from(input.byte());
    for i in 0..1 + u16::from(input.byte()) % 8 {
        let id = first.wrapping_add(i) % guest.vring_size(vring);
        let entry = Desc {
            addr: at,
            len,
            flags: WRITE,
            next: 0,
        };
        guest.memory().write(
            guest.vring_gpa(vring).desc + 16 * u64::from(id),
            &entry.to_bytes(),
        );
        offer(guest, vring, id);
        at = at.wrapping_add(u64::from(len));
    }
}
