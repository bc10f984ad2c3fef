//! Regions as front-ends announce them, good and bad.

#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

use super::*;
use std::os::fd::FromRawFd;

fn memfd(len: u64) -> File {
    // SAFETY: a plain call with a valid name; the new fd is nobody else's.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC)) };
    file.set_len(len).unwrap();
    file
}

fn spec(guest_addr: u64, user_addr: u64, len: u64, file_offset: u64, file: &File) -> RegionSpec {
    RegionSpec { guest_addr, user_addr, len, file_offset, file: file.try_clone().unwrap() }
}

const PAGE: u64 = 4096;

fn bytes(memory: &GuestMemory, addr: u64, len: u32) -> Option<usize> {
    let mut n = 0;
    memory
        .pieces(addr, len, |piece| {
            n += 1;
            let mut to = vec![0; piece.len() as usize];
            piece.read(&mut to, piece.len() as usize);
            true
        })
        .then_some(n)
}

#[test]
fn address_leads_to_its_byte_across_adjacent_regions_and_not_into_holes() {
    let file = memfd(16 * PAGE);
    let memory = GuestMemory::new(vec![
        spec(0x10_0000, 0x70_0000, 4 * PAGE, 8 * PAGE, &file),
        spec(0x10_0000 - 4 * PAGE, 0x50_0000, 4 * PAGE, 0, &file),
        spec(0x20_0000, 0x90_0000, PAGE, 4 * PAGE, &file),
    ])
    .unwrap();
    assert_eq!(bytes(&memory, 0x10_0000, 100), Some(1));
    assert_eq!(bytes(&memory, 0x10_0000 - 50, 100), Some(2), "adjacent in the guest, not in our process");
    assert_eq!(bytes(&memory, 0x10_0000 + 4 * PAGE - 50, 100), None, "into a hole");
    assert_eq!(bytes(&memory, 0, 1), None);
    assert_eq!(bytes(&memory, u64::MAX, 100), None);
    assert_eq!(bytes(&memory, u64::MAX - 99, 100), None);
    assert_eq!(bytes(&memory, 0x20_0000, u32::MAX), None);
    let window = memory.window(0x10_0000).unwrap();
    assert!(window.piece(0x10_0000, 4 * PAGE as u32).is_some());
    assert!(window.piece(0x10_0000, 4 * PAGE as u32 + 1).is_none());
    assert!(window.piece(0x10_0000 - 1, 1).is_none());
}

#[test]
fn what_is_written_at_one_mapping_is_read_at_another_of_the_same_file() {
    let file = memfd(4 * PAGE);
    let memory =
        GuestMemory::new(vec![spec(0, 1 << 40, 4 * PAGE, 0, &file), spec(1 << 30, 1 << 41, 2 * PAGE, PAGE, &file)])
            .unwrap();
    let whole = memory.window(0).unwrap();
    whole.piece(PAGE + 5, 3).unwrap().write(b"abc");
    let mut to = [0; 3];
    memory.window(1 << 30).unwrap().piece((1 << 30) + 5, 3).unwrap().read(&mut to, 3);
    assert_eq!(&to, b"abc");
}

#[test]
fn region_that_cannot_be_is_refused() {
    let file = memfd(4 * PAGE);
    let good = || spec(PAGE, PAGE, PAGE, 0, &file);
    for (bad, word) in [
        (spec(0, 0, 0, 0, &file), "length"),
        (spec(u64::MAX - 5, 0, PAGE, 0, &file), "length"),
        (spec(0, u64::MAX - 5, PAGE, 0, &file), "length"),
        (spec(0, 0, PAGE, u64::MAX - 5, &file), "wraps"),
        (spec(1 << 40, 1 << 40, 5 * PAGE, 0, &file), "longer than its file"),
        (spec(0, 0, PAGE, 4 * PAGE, &file), "longer than its file"),
        (spec(PAGE + 100, 1 << 40, PAGE, 0, &file), "overlaps"),
        (spec(1 << 40, PAGE + 100, PAGE, 0, &file), "overlaps"),
    ] {
        let text = GuestMemory::new(vec![good(), bad]).unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
    let on_disk = File::open("/proc/self/exe").unwrap();
    assert!(GuestMemory::new(vec![spec(0, 0, PAGE, 0, &on_disk)]).unwrap_err().to_string().contains("share=on"));
}

#[test]
fn region_comes_and_goes_while_the_others_stay_where_they_are() {
    let file = memfd(4 * PAGE);
    let one = GuestMemory::new(vec![spec(0, 1 << 40, PAGE, 0, &file)]).unwrap();
    let two = one.with(spec(1 << 30, 1 << 41, PAGE, PAGE, &file)).unwrap();
    assert_eq!((one.n_regions(), two.n_regions()), (1, 2));
    assert_eq!(one.window(0).unwrap().host, two.window(0).unwrap().host);
    assert!(two.without(0, 0, PAGE).is_err());
    let back = two.without(0, 1 << 40, PAGE).unwrap();
    assert!(back.window(0).is_none() && back.window(1 << 30).is_some());
}

#[test]
fn file_cut_short_under_the_mapping_reads_as_zeros_and_is_noted() {
    let file = memfd(4 * PAGE);
    let memory = GuestMemory::new(vec![spec(0, 1 << 40, 4 * PAGE, 0, &file)]).unwrap();
    memory.window(0).unwrap().piece(3 * PAGE, 3).unwrap().write(b"abc");
    assert!(!memory.is_damaged());
    file.set_len(PAGE).unwrap();
    let mut to = [1; 3];
    memory.window(0).unwrap().piece(3 * PAGE, 3).unwrap().read(&mut to, 3);
    assert_eq!(to, [0; 3]);
    assert!(memory.is_damaged());
}

#[test]
fn huge_pages_that_nobody_reserved_kill_nobody() {
    let flags = libc::MFD_HUGETLB | libc::MFD_ALLOW_SEALING;
    // SAFETY: a plain call with a valid name; the new fd is nobody else's, if there is one.
    let fd = unsafe { libc::memfd_create(c"huge".as_ptr(), flags) };
    assert!(fd >= 0, "this kernel has no huge pages");
    // SAFETY: as above.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(2 << 20).unwrap();
    // SAFETY: the fd is open.
    assert_eq!(unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) }, 0);
    let memory = GuestMemory::new(vec![spec(0, 1 << 40, 2 << 20, 0, &file)]).unwrap();
    // Works where a huge page happens to be free, and reads as zeros where not.
    memory.window(0).unwrap().piece(0, 3).unwrap().write(b"abc");
    assert!(memory.ring(1 << 40, 4096, 16).is_some());
}

#[test]
fn ring_must_lie_in_one_region_and_be_aligned() {
    let file = memfd(8 * PAGE);
    let memory = GuestMemory::new(vec![
        spec(0, 1 << 40, 2 * PAGE, 0, &file),
        spec(1 << 30, (1 << 40) + 2 * PAGE, 2 * PAGE, 4 * PAGE, &file),
    ])
    .unwrap();
    assert!(memory.ring(1 << 40, 2 * PAGE, 16).is_some());
    assert!(memory.ring(1 << 40, 2 * PAGE + 1, 16).is_none(), "the last byte is in the next region");
    assert!(memory.ring((1 << 40) + 8, 64, 16).is_none(), "not aligned");
    assert!(memory.ring((1 << 40) - 8, 64, 1).is_none());
}

#[test]
fn memory_of_this_process_is_reached_where_it_is_and_kept_as_long_as_its_owner() {
    let owner: Arc<dyn Any + Send + Sync> = Arc::new(());
    let mut bytes_there = [7u8; 64];
    let host = bytes_there.as_mut_ptr();
    let own = |guest_addr, user_addr| OwnRegion { guest_addr, user_addr, len: 32, host };
    let (first, second) = (own(0x1000, 0x9000), own(0x1020, 0x8000));
    // SAFETY: the array outlives the memory, and nothing else looks at it meanwhile.
    let memory = unsafe { GuestMemory::of_this_process(&[first, second], &owner) }.unwrap();
    assert_eq!(bytes(&memory, 0x1000, 64), Some(2));
    assert_eq!(bytes(&memory, 0x1000, 65), None);
    assert_eq!(Arc::strong_count(&owner), 3);
    drop(memory);
    assert_eq!(Arc::strong_count(&owner), 1);
    // SAFETY: as above.
    let overlapping = unsafe { GuestMemory::of_this_process(&[first, own(0x101f, 0x8000)], &owner) };
    assert!(overlapping.is_err());
}
