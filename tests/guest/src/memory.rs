//! A guest's memory: regions at guest-physical addresses, on the heap or in a memfd that can be
//! handed over by fd.
//!
//! Everything is addressed by guest-physical address (gpa). The device reads and writes the same
//! bytes at any time, so no reference into the memory is ever made: bytes are copied in and out,
//! indexes are atomics. An access outside the regions is a mistake of this crate's and panics; what
//! a *guest* may write wrongly goes into descriptors, as plain numbers. Memory is freed when the
//! last `Arc<GuestMemory>` goes; a device in the same process must be gone by then.

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::options::Backing;

/// A page, the unit of regions.
pub const PAGE_BYTES: u64 = 4096;
/// A large page.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Where one region lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSpec {
    /// Guest-physical address.
    pub gpa: u64,
    /// User address: how a vhost-user front-end names it in ring addresses.
    pub uva: u64,
    /// Bytes.
    pub len: u64,
    /// Offset in the file.
    pub file_offset: u64,
}

/// A region and its mapping in this process.
#[derive(Debug)]
pub struct Region {
    spec: RegionSpec,
    host: *mut u8,
    /// None: it is on the heap.
    map: Option<MmapRaw>,
}

impl Region {
    /// Where it lies.
    pub fn spec(&self) -> RegionSpec {
        self.spec
    }

    /// First byte in this process: what a device in the same process maps the region to.
    pub fn host(&self) -> *mut u8 {
        self.host
    }
}

/// The regions. Shared by `Arc`; all methods may be called from any thread at any time, as a
/// guest's CPUs do.
#[derive(Debug)]
pub struct GuestMemory {
    regions: Vec<Region>,
    file: Option<File>,
}

// SAFETY: the pointers stay valid until drop, and all access goes through copies and atomics at raw
// pointers; bytes that race are the guest's own risk, as on real hardware, and no Rust reference to
// them exists.
unsafe impl Send for GuestMemory {}
// SAFETY: as above.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Makes and maps zeroed regions; with [`Backing::Memfd`] all in one file.
    ///
    /// # Errors
    /// What `memfd_create`, `ftruncate` or `mmap` say.
    pub fn new(specs: &[RegionSpec], backing: Backing) -> io::Result<Self> {
        match backing {
            Backing::Heap => {
                let regions = specs
                    .iter()
                    .map(|&spec| Region {
                        spec,
                        host: heap(spec.len),
                        map: None,
                    })
                    .collect();
                Ok(Self {
                    regions,
                    file: None,
                })
            }
            Backing::Memfd | Backing::Huge => {
                let file = memfd(backing)?;
                file.set_len(
                    specs
                        .iter()
                        .map(|s| s.file_offset + s.len)
                        .max()
                        .unwrap_or(0),
                )?;
                let maps = specs
                    .iter()
                    .map(|&spec| map(spec, &file))
                    .collect::<io::Result<_>>()?;
                Ok(Self {
                    regions: maps,
                    file: Some(file),
                })
            }
        }
    }

    /// Maps regions of files that another process handed over: the device's view, for back-ends in
    /// tests.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn from_files(parts: &[(RegionSpec, File)]) -> io::Result<Self> {
        let regions = parts
            .iter()
            .map(|(spec, file)| map(*spec, file))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            regions,
            file: None,
        })
    }

    /// The regions, by ascending guest-physical address as made.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The memfd, if that is what it is made of.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// User address of a guest-physical one. Panics outside the regions.
    pub fn uva(&self, gpa: u64) -> u64 {
        let (region, at) = self.locate(gpa);
        region.spec.uva + at
    }

    /// Guest-physical address of a user one.
    pub fn gpa_of_uva(&self, uva: u64) -> Option<u64> {
        let region = self
            .regions
            .iter()
            .find(|r| uva >= r.spec.uva && uva - r.spec.uva < r.spec.len)?;
        Some(region.spec.gpa + (uva - region.spec.uva))
    }

    /// Whether all of `len` bytes at `gpa` lie in regions, adjacent ones taken together.
    pub fn contains(&self, gpa: u64, len: u64) -> bool {
        let (mut gpa, mut left) = (gpa, len);
        while left > 0 {
            let Some(region) = self.find(gpa) else {
                return false;
            };
            let here = (region.spec.len - (gpa - region.spec.gpa)).min(left);
            left -= here;
            let Some(next) = gpa.checked_add(here) else {
                return left == 0;
            };
            gpa = next;
        }
        true
    }

    /// Pointer to `len` bytes at `gpa`. Panics unless they lie in one region.
    pub fn host(&self, gpa: u64, len: u64) -> *mut u8 {
        let (region, at) = self.locate(gpa);
        assert!(
            len <= region.spec.len - at,
            "{len} bytes at gpa {gpa:#x} leave the region {:x?}",
            region.spec
        );
        // SAFETY: `at + len <= region.len`, and the mapping is that long.
        unsafe { region.host.add(to_usize(at)) }
    }

    /// Copies bytes out, across adjacent regions too.
    pub fn read(&self, gpa: u64, into: &mut [u8]) {
        self.pieces(gpa, into.len(), |host, from, n| {
            // SAFETY: `pieces` gives `n` mapped bytes at `host` and `from + n <= into.len()`;
            // private and shared memory don't overlap.
            unsafe { std::ptr::copy_nonoverlapping(host, into[from..from + n].as_mut_ptr(), n) }
        });
    }

    /// Copies `len` bytes out.
    pub fn read_vec(&self, gpa: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.read(gpa, &mut bytes);
        bytes
    }

    /// Copies bytes in, across adjacent regions too.
    pub fn write(&self, gpa: u64, bytes: &[u8]) {
        self.pieces(gpa, bytes.len(), |host, from, n| {
            // SAFETY: as in `read`.
            unsafe { std::ptr::copy_nonoverlapping(bytes[from..from + n].as_ptr(), host, n) }
        });
    }

    /// One byte, as an atomic: for a thread that changes bytes while the device reads them.
    pub fn poke(&self, gpa: u64, value: u8) {
        // SAFETY: `host` gives one mapped byte; the atomic lives for this statement only.
        unsafe { AtomicU8::from_ptr(self.host(gpa, 1)) }.store(value, Ordering::Relaxed);
    }

    /// A 16-bit word of a ring, such as an index. Acquire: pairs with the device's release store of
    /// the same word.
    pub fn load_u16(&self, gpa: u64) -> u16 {
        u16::from_le(self.atomic_u16(gpa).load(Ordering::Acquire))
    }

    /// Writes a 16-bit word of a ring. Release: pairs with the device's acquire load of the same
    /// word.
    pub fn store_u16(&self, gpa: u64, value: u16) {
        self.atomic_u16(gpa).store(value.to_le(), Ordering::Release);
    }

    /// A 32-bit little-endian word.
    pub fn read_u32(&self, gpa: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(gpa, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn atomic_u16(&self, gpa: u64) -> &AtomicU16 {
        let host = self.host(gpa, 2).cast::<u16>();
        assert!(host.is_aligned(), "16-bit word at odd gpa {gpa:#x}");
        // SAFETY: two mapped bytes, aligned (just checked); mapped as long as `self` lives.
        unsafe { AtomicU16::from_ptr(host) }
    }

    /// Calls `each(host, offset, n)` for the pieces of `len` bytes at `gpa`.
    fn pieces(&self, mut gpa: u64, len: usize, mut each: impl FnMut(*mut u8, usize, usize)) {
        let mut done = 0;
        while done < len {
            let (region, at) = self.locate(gpa);
            let n = to_usize(region.spec.len - at).min(len - done);
            // SAFETY: `at < region.len` and the mapping is that long.
            each(unsafe { region.host.add(to_usize(at)) }, done, n);
            done += n;
            gpa += n as u64;
        }
    }

    fn find(&self, gpa: u64) -> Option<&Region> {
        self.regions
            .iter()
            .find(|r| gpa >= r.spec.gpa && gpa - r.spec.gpa < r.spec.len)
    }

    fn locate(&self, gpa: u64) -> (&Region, u64) {
        let region = self
            .find(gpa)
            .unwrap_or_else(|| panic!("gpa {gpa:#x} is in no region: {:x?}", self.regions));
        (region, gpa - region.spec.gpa)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.map.is_none() {
            // SAFETY: `host` came from `heap(len)` and nobody else frees it.
            unsafe { std::alloc::dealloc(self.host, heap_layout(self.spec.len)) }
        }
    }
}

/// A length or offset in memory as this machine's word.
pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a 64-bit machine")
}

fn heap_layout(len: u64) -> std::alloc::Layout {
    let page = to_usize(PAGE_BYTES);
    std::alloc::Layout::from_size_align(to_usize(len), page)
        .expect("a region fits the address space")
}

fn heap(len: u64) -> *mut u8 {
    assert!(len > 0, "region of no bytes");
    // SAFETY: the layout isn't of size zero (just checked).
    let host = unsafe { std::alloc::alloc_zeroed(heap_layout(len)) };
    assert!(!host.is_null(), "no memory for a region of {len} bytes");
    host
}

fn memfd(backing: Backing) -> io::Result<File> {
    let huge = if backing == Backing::Huge {
        libc::MFD_HUGETLB | libc::MFD_HUGE_2MB
    } else {
        0
    };
    // SAFETY: the name is a C string; no other memory is touched.
    let fd = unsafe {
        libc::memfd_create(
            c"guest".as_ptr(),
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh fd that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn map(spec: RegionSpec, file: &File) -> io::Result<Region> {
    // Of a part of a large page the kernel maps all, and unmaps nothing if it is told of less.
    let page = file.metadata()?.blksize().max(PAGE_BYTES);
    let len = to_usize(spec.len.next_multiple_of(page));
    let map = MmapOptions::new()
        .offset(spec.file_offset)
        .len(len)
        .no_reserve_swap()
        .map_raw(file)?;
    Ok(Region {
        spec,
        host: map.as_mut_ptr(),
        map: Some(map),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_regions(backing: Backing) -> GuestMemory {
        let spec = |i: u64| RegionSpec {
            gpa: 0x10000 + i * 4096,
            uva: 0x9000_0000 - i * 65536,
            len: 4096,
            file_offset: 4096 * (1 + i),
        };
        GuestMemory::new(&[spec(0), spec(1)], backing).unwrap()
    }

    #[test]
    fn bytes_cross_adjacent_regions() {
        for backing in [Backing::Heap, Backing::Memfd] {
            if cfg!(miri) && backing == Backing::Memfd {
                continue;
            }
            let memory = two_regions(backing);
            let bytes: Vec<u8> = (0..200).collect();
            memory.write(0x10000 + 4000, &bytes);
            assert_eq!(memory.read_vec(0x10000 + 4000, 200), bytes);
            assert_eq!(memory.read_vec(0x10000 + 4096, 3), [96, 97, 98]);
            assert!(
                memory.contains(0x10000, 8192)
                    && !memory.contains(0x10000, 8193)
                    && !memory.contains(0xffff, 2)
            );
        }
    }

    #[test]
    #[cfg_attr(miri, ignore)]
    fn part_of_a_large_page_is_unmapped_again() {
        let flags = libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
        // SAFETY: the name is a C string; the new fd is nobody else's.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(c"goes-part".as_ptr(), flags)) };
        file.set_len(2 * HUGE_PAGE_BYTES).unwrap();
        let spec = RegionSpec {
            gpa: 0,
            uva: 0,
            len: HUGE_PAGE_BYTES + PAGE_BYTES,
            file_offset: 0,
        };
        let n_mappings = || {
            std::fs::read_to_string("/proc/self/maps")
                .unwrap()
                .matches("goes-part")
                .count()
        };
        let memory = GuestMemory::from_files(&[(spec, file)]).unwrap();
        assert_eq!(n_mappings(), 1);
        drop(memory);
        assert_eq!(n_mappings(), 0);
    }

    #[test]
    fn user_addresses_go_there_and_back() {
        let memory = two_regions(Backing::Heap);
        assert_eq!(memory.uva(0x11004), 0x9000_0000 - 65536 + 4);
        assert_eq!(memory.gpa_of_uva(0x9000_0000 - 65536 + 4), Some(0x11004));
        assert_eq!(memory.gpa_of_uva(0x9000_0000 + 4096), None);
    }

    #[test]
    #[should_panic(expected = "is in no region")]
    fn access_outside_panics() {
        two_regions(Backing::Heap).write(0x11fff, &[1, 2]);
    }
}
