//! Lays a guest's memory out: rings first, then buffers, in one region or many.

use crate::memory::{HUGE_PAGE_BYTES, PAGE_BYTES, RegionSpec};
use crate::options::{Backing, Layout};

/// Rings start at multiples of this.
const RING_ALIGN: u64 = 128;

/// Hands out guest-physical addresses; at the end says which regions they need.
#[derive(Debug)]
pub(crate) struct Arena<'a> {
    layout: &'a Layout,
    next: u64,
    first_buffer: Option<u64>,
}

impl<'a> Arena<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Self {
        Self {
            layout,
            next: layout.gpa,
            first_buffer: None,
        }
    }

    /// Room for a ring, in the region of rings.
    pub(crate) fn ring(&mut self, bytes: u64) -> u64 {
        assert!(self.first_buffer.is_none(), "rings come first");
        let gpa = self.next.next_multiple_of(RING_ALIGN);
        self.next = gpa + bytes;
        gpa
    }

    /// Room for a buffer. With holes between regions it lies in one region, else wherever it falls.
    pub(crate) fn buffer(&mut self, bytes: u64) -> u64 {
        let Layout {
            region_bytes,
            hole_bytes,
            ..
        } = *self.layout;
        let first = *self.first_buffer.get_or_insert_with(|| {
            self.next = self.next.next_multiple_of(PAGE_BYTES)
                + if region_bytes.is_some() {
                    hole_bytes
                } else {
                    0
                };
            self.next
        });
        if let (Some(region), true) = (region_bytes, hole_bytes > 0) {
            assert!(
                bytes <= region,
                "a buffer of {bytes} bytes in regions of {region}"
            );
            let pitch = region + hole_bytes;
            if (self.next - first) % pitch + bytes > region {
                self.next = first + (self.next - first).next_multiple_of(pitch);
            }
        }
        let gpa = self.next;
        self.next += bytes;
        gpa
    }

    /// The regions, ascending. User addresses descend, and the file begins with an unused page, so
    /// that no two kinds of address have a constant difference.
    pub(crate) fn regions(&self) -> Vec<RegionSpec> {
        let start = self.layout.gpa;
        let page = if self.layout.backing == Backing::Huge {
            HUGE_PAGE_BYTES
        } else {
            PAGE_BYTES
        };
        let end = start + (self.next - start).next_multiple_of(page).max(page);
        let mut spans = Vec::new();
        match (self.layout.region_bytes, self.first_buffer) {
            (Some(bytes), Some(first)) => {
                spans.push((start, first - self.layout.hole_bytes - start));
                let pitch = bytes + self.layout.hole_bytes;
                spans
                    .extend((0..(end - first).div_ceil(pitch)).map(|i| (first + i * pitch, bytes)));
            }
            _ => spans.push((start, end - start)),
        }
        let pitch = spans.iter().map(|&(_, len)| len).max().unwrap_or(0) + (1 << 20);
        let n = spans.len() as u64;
        let mut file_offset = page;
        (0..)
            .zip(spans)
            .map(|(i, (gpa, len))| {
                let spec = RegionSpec {
                    gpa,
                    uva: self.layout.uva + (n - 1 - i) * pitch,
                    len,
                    file_offset,
                };
                file_offset += len;
                spec
            })
            .collect()
    }
}
