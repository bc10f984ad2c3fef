//! Mappings, and pages that are made before a core needs them.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// Maps `len` bytes of a file from `offset`, shared and writable. Both in whole pages of the file's
/// own size: of less of a large page the kernel would map all, and refuse to end a part.
pub(crate) fn map_shared(file: &File, offset: u64, len: usize) -> io::Result<MmapRaw> {
    let map = MmapOptions::new()
        .offset(offset)
        .len(len)
        .no_reserve_swap()
        .map_raw(file)?;
    // A guest's memory is worth nothing in our core dump, and is not ours to write down.
    let _ = map.advise(Advice::DontDump);
    Ok(map)
}

/// Bytes that are unmapped at once. The kernel lets nobody change the process's mappings meanwhile,
/// a signal handler on a core neither, and takes 0.2 us for each page that was touched.
const UNMAPPED_AT_ONCE: usize = 4 << 20;
/// Rest after parts that took so long: the kernel's lock goes to whoever comes, and that would be
/// this thread again, for 4 ms, before one that sleeps there has its turn. Parts that nobody
/// touched take a microsecond or two.
const UNMAPPING_RESTS: Duration = Duration::from_micros(50);

/// Ends a mapping of pages of `page` bytes, part by part; dropped, it would end at once.
///
/// # Safety
/// Nobody uses these addresses any more.
pub(crate) unsafe fn unmap(map: MmapRaw, page: usize) {
    let (base, len) = (map.as_mut_ptr(), map.len());
    std::mem::forget(map);
    let step = UNMAPPED_AT_ONCE.max(page);
    let mut begun = Instant::now();
    for at in (0..len).step_by(step) {
        // SAFETY: the caller's promise; what was unmapped before, which may be somebody else's by
        // now, is left out.
        unsafe { libc::munmap(base.wrapping_add(at).cast(), step.min(len - at)) };
        if at + step < len && begun.elapsed() >= UNMAPPING_RESTS {
            std::thread::sleep(UNMAPPING_RESTS);
            begun = Instant::now();
        }
    }
}

/// Makes pages present, off the core, so that the core does not fault on them one by one. False:
/// some of them can't be had, and whoever touches them gets a signal.
///
/// # Safety
/// The range is mapped.
pub(crate) unsafe fn prefault(base: *mut u8, len: usize) -> bool {
    if cfg!(miri) {
        return true; // it has no pages
    }
    let start = base as usize & !4095;
    let end = (base as usize + len).next_multiple_of(4096);
    // SAFETY: whole pages of a mapped range; populating changes no byte. Older kernels refuse,
    // which only costs time later.
    let done = unsafe {
        libc::madvise(
            start as *mut libc::c_void,
            end - start,
            libc::MADV_POPULATE_WRITE,
        )
    };
    done == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT)
}

/// The least of the kernel's large pages.
const LARGE_PAGE: usize = 2 << 20;

/// Makes memory of our own lie in large pages, as far as whole ones fit in, and all of it present,
/// so that no core waits for a page. For memory that nothing was written to yet.
///
/// # Errors
/// When the kernel has no large pages, or not as much memory as this; it is as good as before.
pub fn settle((base, len): (usize, usize)) -> io::Result<()> {
    if cfg!(miri) || len == 0 {
        return Ok(()); // it has no pages
    }
    let (start, end) = (base & !4095, (base + len).next_multiple_of(4096));
    let advise = |advice| {
        // SAFETY: neither advice changes a byte, nor what may be done with a page, whoever's it is.
        match unsafe { libc::madvise(start as *mut libc::c_void, end - start, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let is_large = if len < LARGE_PAGE {
        Ok(())
    } else {
        advise(libc::MADV_HUGEPAGE)
    };
    match advise(libc::MADV_POPULATE_WRITE) {
        // Of kernels that are older: it only costs time later.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => is_large,
        done => done.and(is_large),
    }
}
