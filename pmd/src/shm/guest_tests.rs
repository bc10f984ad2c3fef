//! Regions as front-ends announce them, good and bad.

#![expect(clippy::cast_possible_truncation, reason = "small numbers")]

use std::any::Any;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::sync::atomic::Ordering;

use super::super::own::OwnRegion;
use super::*;

fn memfd(len: u64) -> File {
    // SAFETY: a plain call with a valid name; the new fd is nobody else's.
    let file =
        unsafe { File::from_raw_fd(libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC)) };
    file.set_len(len).unwrap();
    file
}

fn spec(guest_addr: u64, user_addr: u64, len: u64, file_offset: u64, file: &File) -> RegionSpec {
    RegionSpec {
        guest_addr,
        user_addr,
        len,
        file_offset,
        file: file.try_clone().unwrap(),
    }
}

const PAGE: u64 = 4096;

fn bytes(memory: &GuestMemory, addr: u64, len: u32) -> Option<usize> {
    let (mut n, mut window) = (0, Window::EMPTY);
    memory
        .pieces(&mut window, addr, len, |piece| {
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
    assert_eq!(
        bytes(&memory, 0x10_0000 - 50, 100),
        Some(2),
        "adjacent in the guest, not in our process"
    );
    assert_eq!(
        bytes(&memory, 0x10_0000 + 4 * PAGE - 50, 100),
        None,
        "into a hole"
    );
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
    let memory = GuestMemory::new(vec![
        spec(0, 1 << 40, 4 * PAGE, 0, &file),
        spec(1 << 30, 1 << 41, 2 * PAGE, PAGE, &file),
    ])
    .unwrap();
    let whole = memory.window(0).unwrap();
    whole.piece(PAGE + 5, 3).unwrap().write(b"abc");
    let mut to = [0; 3];
    memory
        .window(1 << 30)
        .unwrap()
        .piece((1 << 30) + 5, 3)
        .unwrap()
        .read(&mut to, 3);
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
        (
            spec(1 << 40, 1 << 40, 5 * PAGE, 0, &file),
            "longer than its file",
        ),
        (spec(0, 0, PAGE, 4 * PAGE, &file), "longer than its file"),
        (spec(PAGE + 100, 1 << 40, PAGE, 0, &file), "overlaps"),
        (spec(1 << 40, PAGE + 100, PAGE, 0, &file), "overlaps"),
    ] {
        let text = GuestMemory::new(vec![good(), bad]).unwrap_err().to_string();
        assert!(text.contains(word), "{text}");
    }
    let on_disk = File::open("/proc/self/exe").unwrap();
    assert!(
        GuestMemory::new(vec![spec(0, 0, PAGE, 0, &on_disk)])
            .unwrap_err()
            .to_string()
            .contains("share=on")
    );
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
fn region_is_the_same_if_its_addresses_and_its_part_of_the_file_are() {
    let (file, other) = (memfd(4 * PAGE), memfd(4 * PAGE));
    let one = GuestMemory::new(vec![spec(0, 1 << 40, PAGE, PAGE, &file)]).unwrap();
    assert!(
        one.holds(&spec(0, 1 << 40, PAGE, PAGE, &file)),
        "by another descriptor"
    );
    for not_it in [
        spec(PAGE, 1 << 40, PAGE, PAGE, &file),
        spec(0, 1 << 41, PAGE, PAGE, &file),
        spec(0, 1 << 40, 2 * PAGE, PAGE, &file),
        spec(0, 1 << 40, PAGE, 0, &file),
        spec(0, 1 << 40, PAGE, PAGE, &other),
    ] {
        assert!(!one.holds(&not_it), "{not_it:?}");
    }
    let again = one
        .replaced_by(vec![spec(0, 1 << 40, PAGE, PAGE, &file)])
        .unwrap();
    assert!(again.is_same_as(&one) && one.is_same_as(&again));
    let both = one
        .replaced_by(vec![
            spec(0, 1 << 40, PAGE, PAGE, &file),
            spec(1 << 30, 0, PAGE, 0, &file),
        ])
        .unwrap();
    assert!(!both.is_same_as(&one));
    assert_eq!(
        both.window(0).unwrap().host,
        one.window(0).unwrap().host,
        "the mapping is shared"
    );
    let fresh = one
        .replaced_by(vec![spec(0, 1 << 40, PAGE, PAGE, &other)])
        .unwrap();
    assert!(!fresh.is_same_as(&one));
}

#[test]
fn file_cut_short_under_the_mapping_reads_as_zeros_and_is_noted() {
    let file = memfd(4 * PAGE);
    let memory = GuestMemory::new(vec![spec(0, 1 << 40, 4 * PAGE, 0, &file)]).unwrap();
    memory
        .window(0)
        .unwrap()
        .piece(3 * PAGE, 3)
        .unwrap()
        .write(b"abc");
    assert!(!memory.is_damaged());
    file.set_len(PAGE).unwrap();
    let mut to = [1; 3];
    memory
        .window(0)
        .unwrap()
        .piece(3 * PAGE, 3)
        .unwrap()
        .read(&mut to, 3);
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
    let sealed = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) };
    assert_eq!(sealed, 0);
    let memory = GuestMemory::new(vec![spec(0, 1 << 40, 2 << 20, 0, &file)]).unwrap();
    // Works where a huge page happens to be free; where not, it is no memory of a guest's.
    let ring = memory
        .ring_at(1 << 40, 4096, 16)
        .expect("it lies in a region");
    // SAFETY: two bytes of the mapping.
    unsafe { ring.add(2).write_volatile(7) };
    assert!(memory.may_touch(0, 3) || memory.is_damaged());
}

/// Lines of the process's mappings that are of a file of this name.
fn n_mappings(name: &str) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(name)).count()
}

#[test]
fn memory_that_goes_leaves_no_mapping_behind() {
    // A part of small pages, in several steps; and one that begins and ends in the midst of large
    // ones.
    let cases = [
        (c"goes-small", 0, 9 << 20),
        (
            c"goes-large",
            libc::MFD_HUGETLB | libc::MFD_HUGE_2MB,
            (2 << 20) + PAGE,
        ),
    ];
    for (name, flags, len) in cases {
        // SAFETY: a plain call with a valid name; the new fd is nobody else's, if there is one.
        let file = unsafe { File::from_raw_fd(libc::memfd_create(name.as_ptr(), flags)) };
        file.set_len(16 << 20).unwrap();
        let memory = GuestMemory::new(vec![spec(0, 1 << 40, len, PAGE, &file)]).unwrap();
        let name = name.to_str().unwrap();
        assert_eq!(n_mappings(name), 1, "{name}");
        drop(memory);
        assert_eq!(n_mappings(name), 0, "{name}");
    }
}

/// Until `is_so`: what another thread does is over soon.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed().as_secs() < 60, "never {what}");
        std::thread::yield_now();
    }
}

fn allocated_pages(file: &File) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512 / PAGE
}

fn punch(file: &File, page: u64, n: u64) {
    use std::os::fd::AsRawFd;
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let (at, len) = ((page * PAGE).cast_signed(), (n * PAGE).cast_signed());
    // SAFETY: a plain call on an open file.
    let punched = unsafe { libc::fallocate(file.as_raw_fd(), mode, at, len) };
    assert_eq!(punched, 0);
}

fn write(memory: &GuestMemory, page: u64, bytes: &[u8]) {
    memory
        .window(page * PAGE)
        .unwrap()
        .piece(page * PAGE, 4)
        .unwrap()
        .write(bytes);
}

#[test]
fn page_is_made_off_the_core_when_a_buffer_lies_there_and_no_other_is() {
    let file = memfd(300 * PAGE);
    let memory =
        GuestMemory::of_large_pages(vec![spec(0x1000, 1 << 40, 299 * PAGE, PAGE, &file)]).unwrap();
    assert!(memory.window(0x1000 + 70 * PAGE).is_none() && memory.has(0x1000 + 70 * PAGE));
    assert!(
        !memory.may_touch(0x1000 + 71 * PAGE - 1, 2),
        "it is not there"
    );
    wait_until("made", || memory.may_touch(0x1000 + 71 * PAGE - 1, 2));
    assert_eq!(allocated_pages(&file), 2);
    let window = memory.window(0x1000 + 70 * PAGE).unwrap();
    window
        .piece(0x1000 + 71 * PAGE - 1, 2)
        .unwrap()
        .write(b"ok");
    assert!(
        window.piece(0x1000 + 70 * PAGE - 1, 2).is_none()
            && window.piece(0x1000 + 72 * PAGE - 1, 2).is_none()
    );
    // What the guest has touched meanwhile is granted with its neighbours, which makes no page.
    let guest = GuestMemory::new(vec![spec(0, 1 << 40, 300 * PAGE, 0, &file)]).unwrap();
    (130..140).for_each(|page| write(&guest, page, b"mine"));
    assert!(!memory.may_touch(131 * PAGE, 1));
    wait_until("granted", || memory.may_touch(131 * PAGE, 9 * PAGE as u32));
    assert_eq!(allocated_pages(&file), 12);
    assert!(!memory.is_damaged());
}

#[test]
fn page_that_is_taken_away_reads_as_zeros_and_is_put_back() {
    let file = memfd(64 * PAGE);
    let memory = GuestMemory::of_large_pages(vec![spec(0, 1 << 40, 64 * PAGE, 0, &file)]).unwrap();
    let guest = GuestMemory::new(vec![spec(0, 1 << 40, 64 * PAGE, 0, &file)]).unwrap();
    (0..64).for_each(|page| write(&guest, page, b"mine"));
    memory.may_touch(0, 1);
    wait_until("granted", || memory.may_touch(0, 64 * PAGE as u32));
    for round in 1..=3 {
        let piece = memory.window(0).unwrap().piece(9 * PAGE, 4).unwrap();
        punch(&file, 9, 1);
        let mut to = [1; 4];
        piece.read(&mut to, 4);
        assert_eq!((to, memory.n_lost_pages()), ([0; 4], round));
        wait_until("put back", || memory.may_touch(9 * PAGE, 4));
        // It is the guest's page again, in both directions.
        write(&guest, 9, b"new ");
        memory
            .window(9 * PAGE)
            .unwrap()
            .piece(9 * PAGE, 4)
            .unwrap()
            .read(&mut to, 4);
        assert_eq!(&to, b"new ");
        write(&memory, 9, b"back");
        guest
            .window(9 * PAGE)
            .unwrap()
            .piece(9 * PAGE, 4)
            .unwrap()
            .read(&mut to, 4);
        assert_eq!(&to, b"back");
    }
    assert!(!memory.is_damaged());
}

#[test]
fn pages_that_are_taken_away_by_the_dozen_cost_few_faults_and_the_connection() {
    const N: u64 = 512;
    let file = memfd(N * PAGE);
    let memory = GuestMemory::of_large_pages(vec![spec(0, 1 << 40, N * PAGE, 0, &file)]).unwrap();
    let guest = GuestMemory::new(vec![spec(0, 1 << 40, N * PAGE, 0, &file)]).unwrap();
    (0..N).for_each(|page| write(&guest, page, b"mine"));
    (0..N)
        .step_by(64)
        .for_each(|page| assert!(!memory.may_touch(page * PAGE, 1)));
    wait_until("granted", || memory.may_touch(0, (N * PAGE) as u32));
    let pieces: Vec<_> = (0..N)
        .map(|page| {
            memory
                .window(page * PAGE)
                .unwrap()
                .piece(page * PAGE, 4)
                .unwrap()
        })
        .collect();
    punch(&file, 0, N);
    pieces.iter().for_each(|piece| piece.write(b"core"));
    assert!(
        memory.n_lost_pages() <= 64,
        "{} faults",
        memory.n_lost_pages()
    );
    assert!(memory.is_damaged());
    assert!(
        allocated_pages(&file) <= 64,
        "a core made {} pages",
        allocated_pages(&file)
    );
}

#[test]
fn page_that_is_taken_away_again_and_again_is_put_back_at_a_bounded_rate() {
    let file = memfd(64 * PAGE);
    let memory = GuestMemory::of_large_pages(vec![spec(0, 1 << 40, 64 * PAGE, 0, &file)]).unwrap();
    assert!(!memory.may_touch(0, 1));
    let begin = std::time::Instant::now();
    let mut n = 0;
    while begin.elapsed().as_millis() < 300 {
        if memory.may_touch(0, 1) {
            let piece = memory.window(0).unwrap().piece(0, 1).unwrap();
            punch(&file, 0, 1);
            piece.write(b"x");
            n += 1;
        } else {
            std::thread::yield_now();
        }
    }
    // Sixteen at once, then one in fifty milliseconds.
    assert!(
        memory.n_lost_pages() <= 17 + begin.elapsed().as_millis() as u64 / 50,
        "{n} tries: {}",
        memory.n_lost_pages()
    );
    assert!(memory.n_lost_pages() >= 16, "it came back only {n} times");
}

/// Each change of a queue has its rings looked at, and their pages put back.
#[test]
fn pages_of_rings_that_are_taken_away_at_each_change_are_put_back_at_the_same_rate() {
    let file = memfd(64 * PAGE);
    let memory = GuestMemory::of_large_pages(vec![spec(0, 1 << 40, 64 * PAGE, 0, &file)]).unwrap();
    let begin = std::time::Instant::now();
    for _ in 0..20 {
        for page in 0..2 {
            let ring = memory.ring_at((1 << 40) + page * PAGE, 64, 16).unwrap();
            punch(&file, page, 1);
            // SAFETY: two bytes of the mapping.
            unsafe { ring.add(2).write_volatile(7) };
        }
    }
    let most = 17 + begin.elapsed().as_millis() as u64 / 50;
    assert!(memory.n_lost_pages() >= 16, "{}", memory.n_lost_pages());
    assert!(
        memory.n_lost_pages() <= most,
        "{} of {most}",
        memory.n_lost_pages()
    );
    assert!(!memory.is_damaged());
}

#[test]
fn file_cut_short_behind_large_pages_is_noted_and_does_not_grow_back() {
    let file = memfd(8 * PAGE);
    let memory = GuestMemory::of_large_pages(vec![spec(0, 1 << 40, 8 * PAGE, 0, &file)]).unwrap();
    assert!(!memory.may_touch(7 * PAGE, 1));
    wait_until("made", || memory.may_touch(7 * PAGE, 1));
    file.set_len(PAGE).unwrap();
    write(&memory, 7, b"core");
    wait_until("noted", || memory.is_damaged());
    assert_eq!(
        (file.metadata().unwrap().len(), allocated_pages(&file)),
        (PAGE, 0)
    );
}

#[test]
fn mapping_that_ends_while_its_pages_are_wanted_is_left_alone() {
    for _ in 0..200 {
        let file = memfd(64 * PAGE);
        let memory =
            GuestMemory::of_large_pages(vec![spec(0, 1 << 40, 64 * PAGE, 0, &file)]).unwrap();
        (0..64).for_each(|page| assert!(!memory.may_touch(page * PAGE, 1) || page > 0));
        drop(memory);
        // Somebody else's, where it may have been.
        let others = memfd(64 * PAGE);
        let other = GuestMemory::new(vec![spec(0, 1 << 40, 64 * PAGE, 0, &others)]).unwrap();
        (0..64).for_each(|page| write(&other, page, b"mine"));
        std::thread::yield_now();
        let mut to = [0; 4];
        for page in 0..64 {
            other
                .window(0)
                .unwrap()
                .piece(page * PAGE, 4)
                .unwrap()
                .read(&mut to, 4);
            assert_eq!(&to, b"mine");
        }
    }
}

#[test]
fn ring_must_lie_in_one_region_and_be_aligned() {
    let file = memfd(8 * PAGE);
    let memory = GuestMemory::new(vec![
        spec(0, 1 << 40, 2 * PAGE, 0, &file),
        spec(1 << 30, (1 << 40) + 2 * PAGE, 2 * PAGE, 4 * PAGE, &file),
    ])
    .unwrap();
    assert!(memory.ring_at(1 << 40, 2 * PAGE, 16).is_some());
    assert!(
        memory.ring_at(1 << 40, 2 * PAGE + 1, 16).is_none(),
        "the last byte is in the next region"
    );
    assert!(
        memory.ring_at((1 << 40) + 8, 64, 16).is_none(),
        "not aligned"
    );
    assert!(memory.ring_at((1 << 40) - 8, 64, 1).is_none());
}

#[test]
fn memory_of_this_process_is_reached_where_it_is_and_kept_as_long_as_its_owner() {
    let owner: Arc<dyn Any + Send + Sync> = Arc::new(());
    let mut bytes_there = [7u8; 64];
    let host = bytes_there.as_mut_ptr();
    let own = |guest_addr, user_addr| OwnRegion {
        guest_addr,
        user_addr,
        len: 32,
        host,
    };
    let (first, second) = (own(0x1000, 0x9000), own(0x1020, 0x8000));
    // SAFETY: the array outlives the memory, and nothing else looks at it meanwhile.
    let memory = unsafe { GuestMemory::of_this_process(&[first, second], &owner) }.unwrap();
    assert_eq!(bytes(&memory, 0x1000, 64), Some(2));
    assert_eq!(bytes(&memory, 0x1000, 65), None);
    assert_eq!(Arc::strong_count(&owner), 3);
    drop(memory);
    assert_eq!(Arc::strong_count(&owner), 1);
    // SAFETY: as above.
    let overlapping =
        unsafe { GuestMemory::of_this_process(&[first, own(0x101f, 0x8000)], &owner) };
    assert!(overlapping.is_err());
}

/// A's front-end has the kernel busy with its file again and again, for tens of milliseconds each
/// time; B wants pages meanwhile.
#[test]
fn guest_whose_file_is_busy_keeps_no_other_from_its_pages() {
    const BUSY: u64 = 1 << 16;
    let (busy, file) = (memfd((64 + BUSY) * PAGE), memfd(64 * PAGE));
    let of = |file: &File| {
        GuestMemory::of_large_pages(vec![spec(0, 1 << 40, 64 * PAGE, 0, file)]).unwrap()
    };
    let (a, b) = (of(&busy), of(&file));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                crate::sys::userfault::allocate(&busy, 0, (64 + BUSY) * PAGE).unwrap();
                punch(&busy, 0, 64 + BUSY);
            }
        });
        let mut longest = std::time::Duration::ZERO;
        for page in 0..64 {
            a.may_touch(page * PAGE, 1);
            let begin = std::time::Instant::now();
            b.may_touch(page * PAGE, 1);
            wait_until("granted", || b.may_touch(page * PAGE, 1));
            longest = longest.max(begin.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(longest.as_millis() < 25, "{longest:?}");
    });
}

#[test]
fn large_pages_that_nobody_can_make_are_refused() {
    let file = memfd(4 * PAGE);
    let of = |account| {
        map(
            &spec(0, 1 << 40, 4 * PAGE, 0, &file),
            &Arc::new(account),
            true,
        )
    };
    assert!(of(Account::default()).is_ok());
    let error = of(Account::without_pager()).expect_err("cores would have to make them");
    assert!(error.to_string().contains("open files"), "{error}");
}
