//! Where rings and buffers lie in a guest's memory, and in how many parts.

use super::*;

pub(super) fn ring_size(options: &Options, vring: usize) -> u16 {
    if vring.is_multiple_of(2) {
        options.rx_ring
    } else {
        options.tx_ring
    }
}

pub(super) fn place_ring(arena: &mut Arena<'_>, options: &Options, vring: usize) -> RingConfig {
    let size = ring_size(options, vring);
    let [desc, avail, used] = DriverRing::part_bytes(size).map(|bytes| arena.ring(bytes));
    let entries = TABLE_ENTRIES
        .max(options.rx_shape.len())
        .max(options.tx_parts + 1);
    let indirect_entries = u16::try_from(entries).expect("chains of less than 65536 parts");
    let table_bytes = 16 * u64::from(indirect_entries) * u64::from(size);
    let tables = if options.indirect == Indirect::Off {
        desc
    } else {
        arena.ring(table_bytes)
    };
    RingConfig {
        size,
        at: RingAddresses { desc, avail, used },
        event_idx: options.event_idx,
        indirect: options.indirect,
        tables,
        indirect_entries,
        in_order: options.in_order,
        require_order: options.require_order || options.in_order,
        fifo: options.is_fifo(),
    }
}

/// Guards are there to be checked: without checks buffers lie closer.
pub(super) fn guard_bytes(options: &Options) -> u64 {
    if options.checked { GUARD_BYTES } else { 0 }
}

/// Guard, line offset, then the shape with a guard behind each part; whole cache lines.
pub(super) fn rx_stride(options: &Options) -> u64 {
    let guard = guard_bytes(options);
    let parts: u64 = options
        .rx_shape
        .iter()
        .map(|&len| u64::from(len) + guard)
        .sum();
    (guard + u64::from(options.line_offset) + parts).next_multiple_of(64)
}

pub(super) fn tx_stride(options: &Options) -> u64 {
    let bytes = (options.header_bytes() + options.tx_frame_bytes) as u64;
    let guards = guard_bytes(options) * (options.tx_parts as u64 + 3);
    (u64::from(options.line_offset) + bytes + guards).next_multiple_of(64)
}

pub(super) fn rx_parts(options: &Options, buffer: u64) -> Vec<Part> {
    let guard = guard_bytes(options);
    let mut gpa = buffer + guard + u64::from(options.line_offset);
    let part = |&len: &u32| {
        let part = Part {
            gpa,
            len,
            writable: true,
        };
        gpa += u64::from(len) + guard;
        part
    };
    options.rx_shape.iter().map(part).collect()
}

/// Where `parts` go in a transmit buffer: the first one last, and guards between them, so that a
/// device that reads on where it should follow the chain sees other bytes. None if they don't fit.
pub(super) fn place_parts(
    options: &Options,
    buffer: u64,
    stride: u64,
    parts: &[&[u8]],
) -> Option<Vec<Part>> {
    let total: u64 = parts.iter().map(|p| p.len() as u64).sum();
    let fixed = guard_bytes(options) + u64::from(options.line_offset);
    let spare = stride.checked_sub(fixed + total)?;
    let gap = (spare / parts.len() as u64).min(GUARD_BYTES);
    let mut gpa = buffer + fixed;
    let mut placed: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts.iter().rev() {
        let len = u32::try_from(part.len()).ok()?;
        placed.push(Part {
            gpa,
            len,
            writable: false,
        });
        gpa += u64::from(len) + gap;
    }
    placed.reverse();
    Some(placed)
}

/// The first `len` bytes of a chain as stretches of memory.
pub(super) fn written_parts(parts: &[Part], mut len: u64) -> Vec<(u64, u64)> {
    let mut written = Vec::with_capacity(parts.len());
    for part in parts {
        let n = len.min(u64::from(part.len));
        written.push((part.gpa, n));
        len -= n;
    }
    written
}
